"""Chooses files as installers do: the newest usable versions of a project, and of each its most compatible wheel. Pure.

The rules are those of pip and uv: yanked files (PEP 592) and files for other Pythons (`Requires-Python`) do not count,
and pre-releases count only if the specifiers name one or nothing else is there (PEP 440).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice, product

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from pypi_adapter.simple.model import File, Page
from pypi_adapter.simple.versions import by_version, parse_version

from .environment import Environment

EXAMINED = 200  # versions of a project, the newest ones
MAX_TAGS = 200  # compressed tags of one wheel that are read (PEP 425)

_BUILD = re.compile(r"(\d{1,9})(.*)", re.ASCII)


def releases(page: Page) -> Iterator[tuple[str, Sequence[File]]]:
    """Yield the versions of a page with their wheels, the newest first."""
    wheels: dict[str, list[File]] = {}
    for file in page.files:
        if file.filename.endswith(".whl"):
            wheels.setdefault(wheel_version(file.filename), []).append(file)
    for version in sorted(wheels, key=by_version, reverse=True):
        yield version, wheels[version]


def wheel_version(filename: str) -> str:
    """Return the version in the name of a wheel (PEP 427), "" if it has none."""
    _, *parts = filename.split("-")
    return parts[0] if parts else ""


def newest(
    found: Iterable[tuple[str, Sequence[File]]],
    environment: Environment,
    specifiers: Collection[SpecifierSet],
    usable: Callable[[File], bool] = lambda _: True,
) -> Iterator[tuple[Version, File]]:
    """Yield the versions within all of `specifiers`, the newest first, each with its best wheel.

    `found` has the versions of a project with their files, the newest first. `usable` can exclude files.
    """
    held: list[tuple[Version, File]] = []
    any_final, pre_releases = False, any(each.prereleases for each in specifiers)
    for text, files in islice(found, EXAMINED):
        version = parse_version(text)
        if version is None or not all(each.contains(version, prereleases=True) for each in specifiers):
            continue
        if version.is_prerelease and not pre_releases and any_final:
            continue
        wheel = best_wheel(filter(usable, files), environment)
        if wheel is None:
            continue
        if version.is_prerelease and not pre_releases:
            held.append((version, wheel))
        else:
            any_final = True
            yield version, wheel
    if not any_final:
        yield from held


def best_wheel(files: Iterable[File], environment: Environment) -> File | None:
    """Return the wheel that an installer prefers, None if it can use none of the files."""
    best: tuple[int, tuple[int, str]] | None = None
    chosen = None
    for file in files:
        place = _place(file, environment)
        if place is not None and (best is None or _is_better(place, best)):
            best, chosen = place, file
    return chosen


def _is_better(one: tuple[int, tuple[int, str]], other: tuple[int, tuple[int, str]]) -> bool:
    """Whether the tags of a wheel are better, or the same with a higher build number (PEP 427)."""
    return one[0] < other[0] or (one[0] == other[0] and one[1] > other[1])


def _place(file: File, environment: Environment) -> tuple[int, tuple[int, str]] | None:
    """Return the rank of a wheel's best tag, and its build number; None if it cannot be used."""
    if file.yanked is not False or not fits_python(file, environment):
        return None
    return _tag_place(file.filename, environment)


def fits_python(file: File, environment: Environment) -> bool:
    """Whether the Python of an environment is within the file's `Requires-Python`."""
    return not file.requires_python or _fits(file.requires_python, environment.python)


def fits_tags(filename: str, environment: Environment) -> bool:
    """Whether a wheel can be installed in an environment by its tags (PEP 425)."""
    return _tag_place(filename, environment) is not None


def _tag_place(filename: str, environment: Environment) -> tuple[int, tuple[int, str]] | None:
    parts = filename.removesuffix(".whl").split("-")
    if not filename.endswith(".whl") or len(parts) not in (5, 6):
        return None
    tags = product(*(part.lower().split(".") for part in parts[-3:]))
    ranks = [rank for tag in islice(tags, MAX_TAGS) if (rank := environment.ranks.get("-".join(tag))) is not None]
    if not ranks:
        return None
    build = _BUILD.fullmatch(parts[2]) if len(parts) == 6 else None
    return min(ranks), (int(build[1]), build[2]) if build else (-1, "")


@lru_cache(maxsize=1024)
def _fits(requires_python: str, python: str) -> bool:
    """Whether a Python is within `Requires-Python`. As in pip, one that is not valid excludes none."""
    try:
        return SpecifierSet(requires_python).contains(python, prereleases=True)
    except InvalidSpecifier:
        return True
