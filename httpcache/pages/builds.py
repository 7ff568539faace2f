"""The pages of labelled builds: which there are, and what one took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from httpcache.errors import NotFound
from httpcache.freezing.mirror import Mirror
from httpcache.page import Page, Part, Shown, Visit
from httpcache.settings import Settings
from httpcache.store.builds import Build, Taken
from httpcache.target import pin_prefix

ROWS = 200  # on a page


@dataclass(frozen=True)
class Builds:
    """The builds, the one that was used last first, how many there are, and what their labels contain."""

    part: Part[Build]
    found: int
    text: str


@dataclass(frozen=True)
class One:
    """A build, and its files. `hidden`: private ones that this visitor is not told of."""

    build: Build
    part: Part[Taken]
    hidden: int


def pages(mirror: Mirror) -> Sequence[Page]:
    """Return the pages of the builds."""
    return [
        Page("/-/builds/", partial(_builds, mirror), "Builds"),
        Page("/-/builds/{label}/", partial(_build, mirror)),
    ]


async def _builds(mirror: Mirror, visit: Visit) -> Shown:
    text = visit.query.get("q", "").strip()
    found = [build for build in await mirror.store.builds.all() if text in build.label]
    return Shown("builds.html", Builds(visit.part(found, ROWS), len(found), text))


async def _build(mirror: Mirror, visit: Visit) -> Shown:
    build = await mirror.store.builds.get(visit.parts["label"])
    if build is None:
        raise NotFound("no build has this label")
    taken = await mirror.store.builds.files(build.label)
    named = [each for each in taken if _is_named(each, mirror.settings, sees_all=visit.sees_all)]
    return Shown("build.html", One(build, visit.part(named, ROWS), len(taken) - len(named)))


def _is_named(taken: Taken, settings: Settings, *, sees_all: bool) -> bool:
    """Whether a file may be named to a visitor: like an entry, see `gate.is_listed`."""
    return sees_all or not taken.file.is_private or pin_prefix(taken.file.pin) in settings.shared
