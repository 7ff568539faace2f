"""How many examples hypothesis tries: a test says how many it wants, the profile of the run says what share of them."""

from __future__ import annotations

from typing import Final

from hypothesis import settings

FULL: Final = 100
"""`max_examples` of a profile that tries all that were asked for."""


def register() -> None:
    """Define the profiles `ci`, the one that is used if no other is named, `quick` and `explore`.

    `ci` and `quick` try the same examples in each run, so that a failure is the doing of the change that is tested.
    `explore` looks for new ones. No example has a deadline: other tests run beside it, and a slow machine is no fault
    of the code.
    """
    settings.register_profile("ci", max_examples=FULL, deadline=None, print_blob=True, derandomize=True)
    settings.register_profile("quick", parent=settings.get_profile("ci"), max_examples=FULL // 20)
    settings.register_profile("explore", parent=settings.get_profile("ci"), max_examples=5 * FULL, derandomize=False)
    settings.load_profile("ci")


def examples(wanted: int) -> int:
    """Return how many of the wanted examples this run tries."""
    return max(1, wanted * settings().max_examples // FULL)
