"""Decides how to answer a GET for known bytes: in full, in part, not modified, or with a failed precondition.

Pure: RFC 9110 sections 13 (conditional requests) and 14 (ranges) as functions of the request's headers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_RANGES = 16
_RANGE = re.compile(r"\s*(\d{0,18})\s*-\s*(\d{0,18})\s*")


@dataclass(frozen=True)
class Plan:
    """The response to send: its status and, for a 206, the ranges as (start, stop) in bytes, `stop` exclusive."""

    status: int
    ranges: tuple[tuple[int, int], ...] = ()


def plan(
    method: str,
    headers: Mapping[str, str],
    *,
    etag: str | None,
    modified: str | None,
    size: int | None,
    since: str | None = None,
) -> Plan:
    """Return how to answer a GET or HEAD (`method`) with these request headers (lower-case names).

    `etag`: the strong entity tag, or None if not known yet; `modified`: the value of `Last-Modified`; `size`: the full
    size in bytes, or None if not known yet (ranges are then ignored, as RFC 9110 section 14.2 allows); `since`: a date
    since which nothing has changed, used if there is no `modified`.
    """
    status = _precondition(headers, etag, modified, since)
    if status:
        return Plan(status)
    wanted = headers.get("range") if method == "GET" else None  # section 14.2: only for GET
    if wanted is None or size is None or not _if_range(headers.get("if-range"), etag, modified):
        return Plan(200)
    ranges = parse_range(wanted, size)
    if ranges is None:
        return Plan(200)
    return Plan(206, ranges) if ranges else Plan(416)


def parse_range(text: str, size: int) -> tuple[tuple[int, int], ...] | None:
    """Parse a `Range` header for a body of `size` bytes.

    Returns the satisfiable ranges in the order requested, an empty tuple if none is satisfiable, or None if the header
    must be ignored: another unit, bad syntax, or too many or heavily overlapping ranges, which suggest an attack
    (section 14.2).
    """
    unit, equals, specs = text.partition("=")
    if unit.strip().lower() != "bytes" or not equals:
        return None
    found = []
    parts = [part for part in specs.split(",") if part.strip()]
    if not parts or len(parts) > MAX_RANGES:
        return None
    for part in parts:
        match = _RANGE.fullmatch(part)
        if not match or match[0].strip() == "-":
            return None
        if match[1] and match[2] and int(match[2]) < int(match[1]):
            return None
        start = int(match[1]) if match[1] else max(0, size - int(match[2]))
        stop = min(size, int(match[2]) + 1) if match[1] and match[2] else size
        if start < stop:
            found.append((start, stop))
    if sum(stop - start for start, stop in found) > size and len(found) > 1:
        return None
    return tuple(found)


def _precondition(headers: Mapping[str, str], etag: str | None, modified: str | None, since: str | None) -> int | None:
    """Return 412 or 304, or None to proceed; evaluated in the order of RFC 9110 section 13.2.2."""
    if "if-match" in headers:
        if not _lists(headers["if-match"], etag, weak=False):
            return 412
    elif "if-unmodified-since" in headers and _newer(modified, headers["if-unmodified-since"]) is True:
        return 412
    if "if-none-match" in headers:
        if _lists(headers["if-none-match"], etag, weak=True):
            return 304
    elif "if-modified-since" in headers and _newer(modified or since, headers["if-modified-since"]) is False:
        return 304
    return None


def _lists(header: str, etag: str | None, *, weak: bool) -> bool:
    tags = [tag.strip() for tag in header.split(",")]
    if weak:
        tags = [tag.removeprefix("W/") for tag in tags]
    return "*" in tags or etag in tags


def _if_range(header: str | None, etag: str | None, modified: str | None) -> bool:
    """Whether a range may be sent: the strong tag matches, or the date equals `Last-Modified` (section 13.1.5)."""
    return header is None or header.strip() in (etag, modified)


def _newer(modified: str | None, than: str) -> bool | None:
    """Whether `modified` is later than the other date; None if either is not a valid date."""
    ours, theirs = _date(modified), _date(than)
    return None if ours is None or theirs is None else ours > theirs


def _date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
