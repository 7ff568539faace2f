"""Determines the instant that an answer shows from this machine's clock and the registry's, which must agree. Pure.

A history is only as good as the clock that dates it. An observation made while the clock was ahead would claim that
nothing had changed at instants in the future.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from httpcache.errors import BadUpstream
from pypi_adapter.instants import to_segment

SECOND = 1_000_000  # microseconds
TOLERANCE = 60 * SECOND
"""Microseconds by which the two clocks may differ."""


class WrongClock(BadUpstream):
    """The clocks of this machine and of the registry differ too much to date an observation (503)."""

    status = 503


def shown_at(headers: Mapping[str, str], requested: int, received: int) -> int:
    """Return the instant (microseconds) that an answer shows, given when it was requested and received.

    That is when it was requested, but not later than the registry's `Date` (RFC 9110 section 6.6.1, in seconds), minus
    its `Age`, because a cache on the way can have held it that long (RFC 9111 section 5.1). If the registry sends no
    `Date`, this machine's clock alone counts. Raises WrongClock if the two differ by more than TOLERANCE.
    """
    age, date = _age(headers) * SECOND, _date(headers)
    if date is None:
        return requested - age
    if date - TOLERANCE > received or date + age + SECOND + TOLERANCE < requested:
        raise WrongClock(
            f"the clock of this machine says {to_segment(received)}, and the registry's Date says {to_segment(date)}: "
            "set the one that is wrong. Nothing is recorded until they agree"
        )
    return min(requested, date + SECOND - 1) - age


def is_ahead(instant: int, now: int) -> bool:
    """Whether something was recorded at an instant in the future, because the clock was wrong then or is now."""
    return instant > now + TOLERANCE


def ahead(subject: str, instant: int, registry: str) -> str:
    """Return the message for something that was recorded in the future, which does not count."""
    return (
        f"{subject} was recorded at {to_segment(instant)}, which is in the future: this machine's clock is wrong now, "
        f"or was then. If it is right now, stop the mirror and run: httpcache undo-future --registry {registry}"
    )


def _age(headers: Mapping[str, str]) -> int:
    """Return the age in seconds of an answer from a cache, 0 if it has none."""
    text = headers.get("age", "")
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _date(headers: Mapping[str, str]) -> int | None:
    """Return the `Date` of an answer in microseconds, None if it has none that can be read."""
    try:
        date = parsedate_to_datetime(headers.get("date", ""))
        return round(date.replace(tzinfo=date.tzinfo or UTC).timestamp()) * SECOND
    except (ValueError, OverflowError):
        return None
