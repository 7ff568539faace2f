"""Addresses of indexes and files: the first segment (date, instant, `live`, `live-<N>d`) and the token of a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from urllib.parse import quote

import msgspec

from httpcache.errors import BadAddress
from httpcache.target import Target
from pypi_adapter.simple.model import SHA256, File, identity

from .instants import to_date, to_instant, to_segment

PYPI = "pypi"
"""The name of the built-in registry, whose addresses begin with no name."""
TOKEN = re.compile(rf"(?:id-)?{SHA256.pattern}")
"""The shape of a `token`."""
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*")  # characters that need no quoting (RFC 3986 section 2.3)
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}")
_INSTANT = re.compile(r"\d{4}-\d{1,2}-\d{1,2}[Tt ].*")
_LIVE = re.compile(r"live(?:-(\d{1,4})d)?")
_NEARLY_DATE = re.compile(r"(\d{4})[-_./]?(\d{1,2})?(?:[-_./]?(\d{1,2}))?[-_./A-Za-z\d:]{0,20}", re.ASCII)
_OTHER_ORDER = re.compile(r"\d{1,2}[-_.]\d{1,2}[-_.]\d{4}", re.ASCII)
_NEARLY_LIVE = re.compile(r"live[-_]?\d{0,4}[-_]?[a-z]{0,5}", re.IGNORECASE | re.ASCII)
_OTHER_WORDS = re.compile(r"latest|newest|current|now|today|yesterday|simple|pypi|index|legacy", re.IGNORECASE)


@dataclass(frozen=True)
class AsOf:
    """The index as it stood at an instant, in microseconds since the epoch."""

    instant: int


@dataclass(frozen=True)
class Now:
    """The index now, without what is younger than `days` (the cooldown)."""

    days: int = 0


When = AsOf | Now


def parse_when(segment: str, now: int) -> When | None:
    """Parse the first segment of an address, percent-decoded; None if it is neither a date, an instant nor `live`.

    A date means 00:00:00 UTC of that day, so every date up to and including today is already in the past. An instant
    is written in ISO 8601 with a `Z`. `now` is in microseconds since the epoch. Raises BadAddress if the segment looks
    like a date but is not a valid one, or is in the future.
    """
    live = _LIVE.fullmatch(segment)
    if live:
        return Now(int(live[1] or 0))
    if _DATE.fullmatch(segment):
        return _past(_day(segment), segment, now)
    if _INSTANT.fullmatch(segment):
        return _past(_instant(segment), segment, now)
    return None


def segment(when: When) -> str:
    """Return the shortest first segment that is parsed as `when`."""
    if isinstance(when, Now):
        return f"live-{when.days}d" if when.days else "live"
    return to_segment(when.instant).removesuffix("T00:00:00Z")


def is_when(segment: str) -> bool:
    """Whether a segment looks like the first one of a dated or live address, even if the date is not valid."""
    return any(shape.fullmatch(segment) for shape in (_LIVE, _DATE, _INSTANT))


def index_url(mirror: str, name: str) -> str:
    """Return the URL of an index of a mirror, to which a date is added: that of a registry or group, by its name."""
    return mirror if name == PYPI else f"{mirror}/{name}"


def meant(segment: str, now: int, base: str = "") -> str | None:
    """Return a hint for a first segment that was probably meant as a date or as `live`; None for all others.

    `now` is in microseconds since the epoch; `base` is the prefix of the addresses of the index.
    """
    if not any(shape.fullmatch(segment) for shape in (_NEARLY_DATE, _OTHER_ORDER, _NEARLY_LIVE, _OTHER_WORDS)):
        return None
    example = _nearest(segment) or to_date(now)
    return (
        f"{segment!r} is not a date: write YYYY-MM-DD, for example {base}/{example}/<project>/ for the index as it "
        f"was at 00:00 UTC that day, {base}/live/<project>/ for the index as it is now, or {base}/live-7d/<project>/ "
        "for the index now without files from the last seven days"
    )


def _nearest(text: str) -> str | None:
    """Return the date that digits in the order year, month, day stand for, None if there is no such date."""
    found = _NEARLY_DATE.fullmatch(text)
    if not found:
        return None
    year, month, day = (int(part or 1) for part in found.groups())
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None


def _past(moment: datetime, text: str, now: int) -> AsOf:
    instant = to_instant(moment)
    if instant > now:
        today = to_date(now)
        raise BadAddress(
            f"{text} is in the future, where everything can still change: use {today} (00:00 UTC) or earlier, "
            "an instant up to now, or live for the index as it is now"
        )
    return AsOf(instant)


def _day(text: str) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        example = _nearest(text) or "2024-01-02"
        raise BadAddress(f"{text!r} is not a date: write YYYY-MM-DD, for example {example}") from None
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or not text.endswith("Z") or "T" not in text:
        raise BadAddress(f"{text!r} is not an instant: write it in UTC, for example 2024-01-02T15:30:00Z")
    return moment


def token(file: File) -> str:
    """Return the token that identifies a file's content in its address.

    It is the file's sha256 if the index announced one, otherwise `id-` and a sha256 of its `identity` (the other
    announced hashes, or what replaces them).
    """
    _, content = identity(file)
    return content if SHA256.fullmatch(content) else f"id-{sha256(content.encode()).hexdigest()}"


def _quoted(filename: str) -> str:
    return filename if _UNRESERVED.fullmatch(filename) else quote(filename, safe="")


def linked(file: File, base: str, project: str) -> File:
    """Return a file with its address on the mirror, under `base`; every wheel has a metadata file there (PEP 658)."""
    return msgspec.structs.replace(
        file,
        url=f"{base}/files/{project}/{token(file)}/{_quoted(file.filename)}",
        core_metadata=advertised(file),
        gpg_sig=None if file.gpg_sig else file.gpg_sig,  # the mirror serves no .asc files
    )


def token_in(address: str) -> str:
    """Return the token in the address of a file on the mirror."""
    return address.rsplit("/", 2)[1]


def file_target(path: str, project: str, content: str, filename: str) -> Target:
    """Return the target that a file is frozen under; the arguments are the parts of its address (see `token`)."""
    address = f"{path}/files/{project}/{content}/{filename}"
    return Target(*address.removeprefix("/").split("/", 1))


def advertised(file: File) -> bool | dict[str, str] | None:
    """Return `core-metadata` as the mirror's pages give it: set for every wheel, and for nothing else."""
    if not file.filename.endswith(".whl"):
        return None
    return file.core_metadata if isinstance(file.core_metadata, dict) else True
