"""The projects of the first builds: sets of different shapes, with pages of PyPI's sizes.

A set is what one user installs: some projects that are asked for, and all that these need. Its newest releases are
there, older ones and those of other systems are only listed. All follows from fixed seeds.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from typing import Final

from tests.support.packages import Dist, wheel

from .pages import FIRST, KB, LAST, MB, ORIGIN, Listed, absent, html_list, html_page, json_list, json_page, present

_TOP: Final = 10
"""How many of a tree's projects a user asks for."""
_SYSTEMS: Final = ("win32", "win_amd64", "win_arm64", "macosx_10_9_x86_64", "macosx_11_0_arm64")
_PYTHONS: Final = ("cp310", "cp311", "cp312", "cp313")


@dataclass(frozen=True)
class Project:
    """A project: `dists` are its newest releases, oldest first; before them `older` are listed that are not there."""

    name: str
    older: int
    dists: Sequence[Dist]


@dataclass(frozen=True)
class Set:
    """A set of projects and how they look; pairs are the least and the most, files are numbers on a page."""

    name: str
    title: str
    shape: Callable[[Set], Iterator[Project]]
    projects: int
    files: tuple[int, int] = (120, 120)
    files_a_release: int = 3
    releases: int = 6
    """The newest ones, which are there."""
    wheel: tuple[int, int] = (5 * KB, 100 * KB)
    members: int = 0
    metadata_first: bool = False
    announced: bool = False
    """Whether the pages announce metadata files (PEP 714), as PyPI's do for most wheels."""

    def wheel_of(self, name: str, version: int, requires: list[str], padding: int) -> Dist:
        """Return the wheel of a release."""
        return wheel(
            name,
            f"1.{version}",
            requires,
            requires_python=">=3.8",
            padding=padding,
            members=self.members,
            metadata_first=self.metadata_first,
        )


def tree(some: Set) -> Iterator[Project]:
    """Yield projects that need one another.

    Project n needs 3n+1 to 3n+3, so the first few need all, and up to two others behind it. Every seventh may not be in
    its newest version, so a resolver that has looked at that one has to look further.
    """
    names = [f"{some.name}-{number:03}" for number in range(some.projects)]
    draws = [random.Random(name) for name in names]
    counts = [max(_between(draw, some.files) // some.files_a_release, some.releases) for draw in draws]
    for number, (name, draw, count) in enumerate(zip(names, draws, counts, strict=True)):
        behind = range(number + 1, some.projects)
        needs = set(range(3 * number + 1, min(3 * number + 4, some.projects)))
        needs.update(draw.sample(behind, min(2, len(behind))))
        requires = [
            f"{names[other]}>=1.{counts[other] // 2}" + (f",<1.{counts[other] - 1}" if other % 7 == 6 else ",<2")
            for other in sorted(needs)
        ]
        padding = _between(draw, some.wheel)
        older = count - some.releases
        yield Project(name, older, [some.wheel_of(name, older + n, requires, padding) for n in range(some.releases)])


def ladder(some: Set) -> Iterator[Project]:
    """Yield groups of three, where a resolver tries a project's versions one after the other.

    Each release of a *client* needs the *core* of its own number, and a *holder* allows no core of the newest third of
    the releases that are there. So a resolver that begins with the newest client comes down to the newest that can be
    had, as with boto3 and botocore.
    """
    for group in range(some.projects // 3):
        client, core, holder = (f"{some.name}-{what}-{group:02}" for what in ("client", "core", "holder"))
        padding = _between(random.Random(client), some.wheel)
        older = max(some.files[0] // some.files_a_release - some.releases, 0)
        numbers = range(older, older + some.releases)
        yield Project(client, older, [some.wheel_of(client, n, [f"{core}==1.{n}"], padding) for n in numbers])
        yield Project(core, older, [some.wheel_of(core, n, [], padding) for n in numbers])
        highest = older + some.releases * 2 // 3
        yield Project(holder, 0, [some.wheel_of(holder, 0, [f"{core}<1.{highest}"], padding)])


SETS: Final = (
    Set("wide", "80 projects of 120 files", tree, 80),
    Set(
        "deep",
        "9 projects, 30 versions of three of them tried",
        ladder,
        9,
        files=(400, 400),
        files_a_release=2,
        releases=90,
    ),
    Set("members", "8 projects with 4,000 files in each wheel", tree, 8, releases=2, members=4_000),
    Set("front", "24 projects with METADATA at the front", tree, 24, wheel=(200 * KB, 2 * MB), metadata_first=True),
    Set("pages", "24 projects with pages of 20 KB to 1 MB", tree, 24, files=(40, 2_300), files_a_release=9, releases=2),
    Set("files", "12 projects with wheels of 1 to 20 MB", tree, 12, releases=2, wheel=(MB, 20 * MB)),
    Set("announced", "60 projects with their metadata announced", tree, 60, announced=True),
)
SMALL: Final = (
    Set("wide", "8 projects of 30 files", tree, 8, files=(30, 30), releases=2),
    Set(
        "deep", "3 projects, 6 versions of one of them tried", ladder, 3, files=(60, 60), files_a_release=2, releases=18
    ),
)


def write(sets: Sequence[Set], folder: Path, site: str, origin: str) -> dict[str, list[str]]:
    """Write the files of a registry whose links lead to `origin`; return what a user asks for, by set.

    It has the folders of a replica with one site. The pages are there in gzip, too.
    """
    top: dict[str, list[str]] = {}
    names: list[str] = []

    def page(name: str, json: bytes, html: bytes) -> None:
        place = folder / "pages" / site / "simple" / name
        place.mkdir(parents=True, exist_ok=True)
        for form, body in (("json", json), ("html", html)):
            linked = body.replace(ORIGIN, origin.encode())
            (place / f"index.{form}").write_bytes(linked)
            (place / f"index.{form}.gz").write_bytes(gzip.compress(linked, 6, mtime=0))

    for some in sets:
        projects = list(some.shape(some))
        top[some.name] = _top(some, [project.name for project in projects])
        for project in projects:
            files = list(_listed(some, project, folder))
            page(project.name, json_page(project.name, files), html_page(project.name, files))
            names.append(project.name)
    page(".", json_list(names), html_list(names))
    return top


def _top(some: Set, names: list[str]) -> list[str]:
    if some.shape is ladder:
        return [name for name in names if "-core-" not in name]
    return names[:_TOP]


def _listed(some: Set, project: Project, folder: Path) -> Iterator[Listed]:
    """Yield the files of a project's page, oldest first: each release has a wheel, others for no Linux, and an sdist.

    Every fifth release has no wheel that a Linux machine would choose, as long as it is not there.
    """
    draw = random.Random(project.name)
    count = project.older + len(project.dists)
    span = (LAST - FIRST) / count
    tags = [f"{python}-{python}-{system}" for python in _PYTHONS for system in _SYSTEMS][: some.files_a_release - 2]
    for number in range(count):
        uploaded = FIRST + span * number
        stem = f"{project.name.replace('-', '_')}-1.{number}"
        if number >= project.older:
            dist = project.dists[number - project.older]
            yield present(folder, dist, uploaded, announced=some.announced)
        elif number % 5:
            yield absent(f"{stem}-py3-none-any.whl", draw, uploaded, announced=some.announced)
        for name in (*(f"{stem}-{tag}.whl" for tag in tags), f"{stem}.tar.gz"):
            yield absent(name, draw, uploaded, announced=some.announced)


def _between(draw: random.Random, bounds: tuple[int, int]) -> int:
    """Draw a number, so that there are as many of each order of magnitude."""
    least, most = bounds
    return round(exp(draw.uniform(log(least), log(most))))
