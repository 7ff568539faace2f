"""Converts instants (microseconds since 1970-01-01T00:00:00Z) to and from dates and ISO 8601."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def now() -> int:
    """Return the current time in microseconds since the epoch."""
    return time.time_ns() // 1000


def to_instant(moment: datetime) -> int:
    """Convert an aware datetime to microseconds since the epoch."""
    return (moment - EPOCH) // _MICROSECOND


def to_segment(instant: int) -> str:
    """Format an instant (microseconds since the epoch) as it is written in an address."""
    return to_datetime(instant).replace(tzinfo=None).isoformat() + "Z"


def to_datetime(instant: int) -> datetime:
    """Return an instant as a datetime in UTC. Raises OverflowError outside the years 1 to 9999."""
    return EPOCH + timedelta(microseconds=instant)


def to_date(instant: int) -> str:
    """Return the UTC date of an instant, as YYYY-MM-DD."""
    return to_datetime(instant).date().isoformat()


def date_from(instant: int) -> str:
    """Return the first date whose 00:00 UTC is at or after an instant (microseconds since the epoch)."""
    return (to_datetime(instant) + timedelta(days=1, microseconds=-1)).date().isoformat()


def read_instant(text: str | None) -> int | None:
    """Parse an ISO 8601 time, as UTC if it has no zone; None if it cannot be parsed."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return to_instant(moment)
