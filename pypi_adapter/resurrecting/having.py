"""Whether an index has what is asked for at an instant, and if not, what comes nearest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.version import Version

from httpcache.adapter import Client
from httpcache.errors import NotFound
from pypi_adapter.installers.environment import Environment
from pypi_adapter.simple.model import File, Page
from pypi_adapter.simple.versions import parse_version, versions_of
from pypi_adapter.warming.planning import read_page, this_platform, usable
from pypi_adapter.warming.platforms import environment

from .asked import Asked

PAGES_AT_ONCE = 8
TOOL = "setuptools"
"""What builds most source distributions. uv asks for 40.8.0 at least, of February 2019."""
TOOL_DATES = ("2020-02-01", "2024-07-01")
"""Dates whose release of it builds old source distributions where that of their own date does not.

The first one still has what old ones use, and runs up to Python 3.11; the second one up to 3.13.
"""


class Nearest(NamedTuple):
    """A release that can be had instead: when its first file was uploaded, and the Python that it is for.

    `later`: it is what was asked for, but was not there yet.
    """

    version: str
    uploaded: str | None
    python: str
    later: bool


class Lack(NamedTuple):
    """A requirement that cannot be had, where it stands, why, and what comes nearest."""

    requirement: str
    where: str
    why: str
    nearest: Sequence[Nearest]


class Release(NamedTuple):
    """A version and its files."""

    version: Version
    files: Sequence[File]

    @property
    def uploaded(self) -> str | None:
        """When its first file was uploaded."""
        return min((file.upload_time for file in self.files if file.upload_time), default=None)


class Index:
    """An index at a date, through a mirror; pages are read once.

    `url` is that of the index without a date, `cache` a folder for uv: what was built before says nothing of a date.
    """

    def __init__(self, mirror: Client, url: str, date: str, cache: Path) -> None:
        self.url = f"{url}/{date}/"
        self.cache = cache
        self._date, self._base = date, url
        self._live = f"{url}/live/"
        self._mirror = mirror
        self._releases: dict[tuple[str, str], list[Release] | None] = {}

    def read(self, projects: Iterable[str]) -> None:
        """Read the pages of projects, several at once. Raises MirrorError."""
        with ThreadPoolExecutor(PAGES_AT_ONCE) as pool:
            for _ in pool.map(self.releases, set(projects)):
                pass

    def releases(self, project: str) -> list[Release] | None:
        """Return the releases of a project at the date, the newest first; None if there is no such project."""
        return self._at(self.url, project)

    def later(self, project: str) -> list[Release]:
        """Return the releases of a project now."""
        return self._at(self._live, project) or []

    def tools(self) -> list[tuple[str, Sequence[str]]]:
        """Return later dates, and options that offer uv what builds source distributions as of them."""
        later = [date for date in TOOL_DATES if date > self._date]
        return [(date, ("--find-links", f"{self._base}/{date}/{TOOL}/")) for date in later]

    def _at(self, url: str, project: str) -> list[Release] | None:
        key = url, project
        if key not in self._releases:
            try:
                self._releases[key] = _releases(read_page(self._mirror.read, f"{url}{project}/"))
            except NotFound:
                self._releases[key] = None
        return self._releases[key]


def _releases(page: Page) -> list[Release]:
    found: dict[Version, list[File]] = {}
    for file, text in zip(
        page.files, versions_of([file.filename for file in page.files], page.versions or ()), strict=True
    ):
        version = parse_version(text or "")
        if version is not None:
            found.setdefault(version, []).append(file)
    return [Release(version, found[version]) for version in sorted(found, reverse=True)]


@cache
def _environment(python: str) -> Environment:
    return environment(python, this_platform())


def concerns(asked: Asked, python: str) -> bool:
    """Whether a requirement counts for a version of Python here: its marker may say that it does not."""
    marker = asked.requirement.marker
    return marker is None or marker.evaluate({**_environment(python).markers, "extra": ""})


def has_file(index: Index, asked: Asked, python: str) -> bool:
    """Whether a version that is asked for has a file for a version of Python here. Raises MirrorError."""
    found = _fitting(asked.requirement, index.releases(asked.project) or ())
    return any(_usable(release, python, is_pinned=_is_pinned(asked.requirement)) for release in found)


def lack(index: Index, asked: Asked, pythons: Sequence[str]) -> Lack | None:
    """Return why no version of Python can have a requirement, None if one can. Raises MirrorError."""
    concerned = [python for python in pythons if concerns(asked, python)]
    if not concerned or any(has_file(index, asked, python) for python in concerned):
        return None
    there = index.releases(asked.project)
    if there is None:
        why = "the index had no such project"
    elif not _fitting(asked.requirement, there):
        why = "no such version was there"
    else:
        why = f"no wheel and no source distribution for Python {' or '.join(concerned)}"
    first = sorted(_fitting(asked.requirement, index.later(asked.project)), key=lambda each: each.uploaded or "")
    ways = ((_by_nearness(asked.requirement, there or ()), False), (first, True))
    found = [each for releases, later in ways for each in islice(_had(releases, concerned, later=later), 1)]
    return Lack(str(asked.requirement), asked.where, why, found)


def _fitting(requirement: Requirement, releases: Sequence[Release]) -> list[Release]:
    """Return the releases that a requirement allows; pre-releases if it names one or there is nothing else."""
    found = [each for each in releases if requirement.specifier.contains(each.version, prereleases=True)]
    return found if requirement.specifier.prereleases else _finals(found)


def _finals(releases: Sequence[Release]) -> list[Release]:
    return [each for each in releases if not each.version.is_prerelease] or list(releases)


def _by_nearness(requirement: Requirement, releases: Sequence[Release]) -> list[Release]:
    """Return releases, those nearest to what is asked for first: the last ones before it, then those after it."""
    named = [version for each in requirement.specifier if (version := parse_version(each.version)) is not None]
    lowest = min(named, default=None)
    after = [each for each in _finals(releases) if lowest is not None and each.version > lowest]
    return [*(each for each in _finals(releases) if each not in after), *reversed(after)]


def _had(releases: Iterable[Release], pythons: Sequence[str], *, later: bool) -> Iterator[Nearest]:
    for release in releases:
        for python in pythons:
            if _usable(release, python):
                yield Nearest(str(release.version), release.uploaded, python, later)


def _usable(release: Release, python: str, *, is_pinned: bool = False) -> bool:
    """Whether a release has a file for a version of Python here; yanked ones count for a pin only (PEP 592)."""
    return bool(usable([file for file in release.files if is_pinned or not file.yanked], _environment(python)))


def _is_pinned(requirement: Requirement) -> bool:
    return any(each.operator in ("==", "===") and not each.version.endswith("*") for each in requirement.specifier)
