"""Which instant an answer of a registry shows, by this machine's clock and the registry's, which have to agree. Pure.

A history is only as good as the clock that dates it: an observation made while the clock was ahead would say that
nothing had changed at instants that are still to come.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from httpcache.errors import BadUpstream
from pypi_adapter.instants import to_segment

SECOND = 1_000_000  # microseconds
TOLERANCE = 60 * SECOND
"""Microseconds that two clocks may be apart."""


class WrongClock(BadUpstream):
    """The clock of this machine and that of the registry are too far apart for anything to be dated (503)."""

    status = 503


def shown_at(headers: Mapping[str, str], asked: int, answered: int) -> int:
    """Return the instant (microseconds) that an answer shows; it was asked for and answered at these instants.

    That is when it was asked for, but not later than the registry's `Date` (RFC 9110 section 6.6.1, which has seconds),
    less its `Age`: what a cache on the way gives is as old as that (RFC 9111 section 5.1). Of a registry that sends no
    `Date` this machine's clock is believed. Raises WrongClock where the two are more than TOLERANCE apart.
    """
    age, date = _age(headers) * SECOND, _date(headers)
    if date is None:
        return asked - age
    if date - TOLERANCE > answered or date + age + SECOND + TOLERANCE < asked:
        raise WrongClock(
            f"the clock of this machine says {to_segment(answered)}, and the registry's Date {to_segment(date)}: "
            "set the one that is wrong. Nothing is observed until they agree, for it could not be dated"
        )
    return min(asked, date + SECOND - 1) - age


def is_ahead(instant: int, now: int) -> bool:
    """Whether something was noted at an instant that is still to come: by a clock that was wrong, then or now."""
    return instant > now + TOLERANCE


def ahead(what: str, instant: int, registry: str) -> str:
    """Return the text for what was noted ahead of now, and so says nothing."""
    return (
        f"{what} was noted at {to_segment(instant)}, which is still to come: the clock of this machine is wrong now, "
        f"or was then. If it is right now, stop the mirror and run: httpcache undo-future --registry {registry} --yes"
    )


def _age(headers: Mapping[str, str]) -> int:
    """Return how old the answer of a cache on the way is, in seconds."""
    text = headers.get("age", "")
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _date(headers: Mapping[str, str]) -> int | None:
    """Return the `Date` of an answer in microseconds, None where it has none that can be read."""
    try:
        date = parsedate_to_datetime(headers.get("date", ""))
        return round(date.replace(tzinfo=date.tzinfo or UTC).timestamp()) * SECOND
    except (ValueError, OverflowError):
        return None
