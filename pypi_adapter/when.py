"""The first segment of a dated or live address: a date, an instant, `live`, or `live-<N>d`."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from httpcache.errors import BadAddress

_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}")
_INSTANT = re.compile(r"\d{4}-\d{1,2}-\d{1,2}[Tt ].*")
_LIVE = re.compile(r"live(?:-(\d{1,4})d)?")
_NEARLY_DATE = re.compile(r"(\d{4})[-_./]?(\d{1,2})?(?:[-_./]?(\d{1,2}))?[-_./A-Za-z\d:]{0,20}", re.ASCII)
_OTHER_ORDER = re.compile(r"\d{1,2}[-_.]\d{1,2}[-_.]\d{4}", re.ASCII)
_NEARLY_LIVE = re.compile(r"live[-_]?\d{0,4}[-_]?[a-z]{0,5}", re.IGNORECASE | re.ASCII)
_OTHER_WORDS = re.compile(r"latest|newest|current|now|today|yesterday|simple|pypi|index|legacy", re.IGNORECASE)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class AsOf:
    """The index as it stood at an instant, in microseconds since the epoch."""

    instant: int


@dataclass(frozen=True)
class Now:
    """The index now, less what is younger than `days` (the cooldown)."""

    days: int = 0


When = AsOf | Now


def now() -> int:
    """Return the present instant in microseconds since the epoch."""
    return time.time_ns() // 1000


def parse_when(segment: str, now: int) -> When | None:
    """Read the first segment of an address, percent-decoded; None where it is none of these.

    A date is 00:00:00 UTC of that day: up to and including today it is then a finished instant. An instant is written
    in ISO 8601 with a `Z`. `now` is in microseconds since the epoch. Raises BadAddress for what is shaped like a date
    and is none, and for the future.
    """
    live = _LIVE.fullmatch(segment)
    if live:
        return Now(int(live[1] or 0))
    if _DATE.fullmatch(segment):
        return _past(_day(segment), segment, now)
    if _INSTANT.fullmatch(segment):
        return _past(_instant(segment), segment, now)
    return None


def is_when(segment: str) -> bool:
    """Whether a segment is shaped like the first of a dated or live address, though it may be no date."""
    return any(shape.fullmatch(segment) for shape in (_LIVE, _DATE, _INSTANT))


def meant(segment: str, now: int, base: str = "") -> str | None:
    """Say how a date is written to who meant one by the first segment of an address; None where nothing looks like it.

    `now` is in microseconds since the epoch; `base` is what the addresses of the index begin with.
    """
    if not any(shape.fullmatch(segment) for shape in (_NEARLY_DATE, _OTHER_ORDER, _NEARLY_LIVE, _OTHER_WORDS)):
        return None
    example = _nearest(segment) or (_EPOCH + timedelta(microseconds=now)).date().isoformat()
    return (
        f"{segment!r} is no date: write YYYY-MM-DD, for example {base}/{example}/<project>/ for the index as it stood "
        f"then at 00:00 UTC, or {base}/live/<project>/ as it is now, or {base}/live-7d/<project>/ for that less the "
        "last seven days"
    )


def _nearest(text: str) -> str | None:
    """The date that digits in the order of year, month and day mean, None where they mean none."""
    found = _NEARLY_DATE.fullmatch(text)
    if not found:
        return None
    year, month, day = (int(part or 1) for part in found.groups())
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None


def to_instant(moment: datetime) -> int:
    """Return a moment in microseconds since the epoch."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def to_segment(instant: int) -> str:
    """Return an instant (microseconds since the epoch) as it stands in an address."""
    return (_EPOCH + timedelta(microseconds=instant)).replace(tzinfo=None).isoformat() + "Z"


def date_from(instant: int) -> str:
    """Return the first date that begins at an instant (microseconds since the epoch) or later."""
    return (_EPOCH + timedelta(microseconds=instant) + timedelta(days=1, microseconds=-1)).date().isoformat()


def _past(moment: datetime, text: str, now: int) -> AsOf:
    instant = to_instant(moment)
    if instant > now:
        today = (_EPOCH + timedelta(microseconds=now)).date().isoformat()
        raise BadAddress(
            f"{text} is in the future, where everything can still change: the newest date is {today} "
            "(00:00 UTC), the newest instant is now, and live in its place is the index as it is"
        )
    return AsOf(instant)


def _day(text: str) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        example = _nearest(text) or "2024-01-02"
        raise BadAddress(f"{text!r} is no date: write YYYY-MM-DD, for example {example}") from None
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or not text.endswith("Z") or "T" not in text:
        raise BadAddress(f"{text!r} is no instant: write it in UTC, for example 2024-01-02T15:30:00Z")
    return moment
