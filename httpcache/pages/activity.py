"""The page of what goes on: downloads under way, a capture under way, upstreams, and the last errors."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import anyio.to_thread

from httpcache.credentials import PUBLIC
from httpcache.freezing.mirror import Mirror
from httpcache.freezing.spool import Seen, Spool
from httpcache.logs import KEPT, Line
from httpcache.metrics import Snapshot
from httpcache.page import Page, Shown, Visit
from httpcache.under_way import Work, works

from .upstreams import Answered, by_origin

PRIVATE = "a private copy"


@dataclass(frozen=True)
class Download:
    """A download: of what, how many bytes of how many have come, its rate in bytes a second, and the seconds left."""

    name: str
    size: int
    total: int | None
    rate: float
    left: float | None

    @property
    def percent(self) -> int | None:
        """How much of it has come."""
        return min(100, 100 * self.size // self.total) if self.total else None


@dataclass(frozen=True)
class Activity:
    """`upstreams` and `errors` are None for who has not logged in: they can name what is private."""

    downloads: Sequence[Download]
    captures: Sequence[tuple[Work, float | None]] | None
    upstreams: Mapping[str, Answered] | None
    errors: Sequence[Line] | None


def pages(mirror: Mirror) -> Sequence[Page]:
    """Return the page."""
    return [Page("/-/activity/", partial(_activity, mirror), "Activity")]


async def _activity(mirror: Mirror, visit: Visit) -> Shown:
    now = time.time()
    seen = await anyio.to_thread.run_sync(Spool(mirror.store.spool).under_way)
    running = await anyio.to_thread.run_sync(works, mirror.settings.data)
    page = Activity(
        downloads=[_download(each, now, sees_all=visit.sees_all) for each in seen],
        captures=None if running is None else [(work, work.left(now)) for work in running],
        upstreams=by_origin(visit.numbers()) if visit.sees_all else None,
        errors=_errors(visit.numbers()) if visit.sees_all else None,
    )
    return Shown("activity.html", page)


def _errors(snapshots: Iterable[Snapshot]) -> list[Line]:
    """Return the last lines of all processes, the newest first."""
    return sorted((line for each in snapshots for line in each.lines), reverse=True)[:KEPT]


def _download(seen: Seen, now: float, *, sees_all: bool) -> Download:
    is_shown = sees_all or seen.head.scope == PUBLIC
    rate = seen.size / max(now - seen.began, 0.1)
    total = seen.head.length
    left = (total - seen.size) / rate if total is not None and rate else None
    return Download(seen.head.target if is_shown else PRIVATE, seen.size, total, rate, left)
