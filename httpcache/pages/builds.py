"""The pages of labelled builds: which there are, and what one took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from httpcache.errors import NotFound
from httpcache.freezing.mirror import Mirror
from httpcache.page import Page, Shown, Visit
from httpcache.settings import Settings
from httpcache.store.builds import Build, Taken
from httpcache.target import pin_prefix

T = TypeVar("T")

ROWS = 200  # on a page


@dataclass(frozen=True)
class Builds:
    """The builds on this page of `pages`, the one that was used last first. `part`: what their labels contain."""

    rows: Sequence[Build]
    found: int
    part: str
    page: int
    pages: int


@dataclass(frozen=True)
class One:
    """A build, and the files on this page of `pages`. `hidden`: private files that this visitor is not told of."""

    build: Build
    rows: Sequence[Taken]
    hidden: int
    page: int
    pages: int


def pages(mirror: Mirror) -> Sequence[Page]:
    """Return the pages of the builds."""
    return [
        Page("/-/builds/", partial(_builds, mirror), "Builds"),
        Page("/-/builds/{label}/", partial(_build, mirror)),
    ]


async def _builds(mirror: Mirror, visit: Visit) -> Shown:
    part = visit.query.get("q", "").strip()
    found = [build for build in await mirror.store.builds.all() if part in build.label]
    rows, page, count = _cut(found, visit)
    return Shown("builds.html", Builds(rows, len(found), part, page, count))


async def _build(mirror: Mirror, visit: Visit) -> Shown:
    build = await mirror.store.builds.get(visit.parts["label"])
    if build is None:
        raise NotFound("no build has this label")
    taken = await mirror.store.builds.files(build.label)
    named = [each for each in taken if _is_named(each, mirror.settings, sees_all=visit.sees_all)]
    rows, page, count = _cut(named, visit)
    return Shown("build.html", One(build, rows, len(taken) - len(named), page, count))


def _is_named(taken: Taken, settings: Settings, *, sees_all: bool) -> bool:
    """Whether a file may be named to a visitor: like an entry, see `gate.is_listed`."""
    return sees_all or not taken.file.is_private or pin_prefix(taken.file.pin) in settings.shared


def _cut(found: Sequence[T], visit: Visit) -> tuple[Sequence[T], int, int]:
    """Return the rows of the page that is asked for, its number, and how many there are."""
    count = max(1, -(-len(found) // ROWS))
    page = visit.page(count)
    return found[(page - 1) * ROWS : page * ROWS], page, count
