"""A resurrection: what a checkout asks for resolves to at a date, for each version of Python that can be tried."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

from httpcache.errors import MirrorError
from pypi_adapter.bisecting.builds import Resolution
from pypi_adapter.warming.locks import Locked
from pypi_adapter.warming.resolving import compiled

from .asked import Asked, Unread, Wanted
from .having import TOOL, Index, Lack, concerns, has_file, lack
from .pythons import newest_patch

BUILT = (
    " (uv builds with another Python if it finds no {0}: have it on the PATH, or let `uv python install {0}` fetch it)"
)


class Taken(NamedTuple):
    """A release of a resolution, and when the last of its files was uploaded."""

    project: str
    version: str
    uploaded: str | None


@dataclass(frozen=True)
class Tried:
    """A version of Python, and what was asked for resolves to; or the problem with it.

    `options` are those that uv needs to build what has no wheels.
    """

    python: str
    problem: str = ""
    resolution: Resolution = field(default_factory=lambda: Resolution(""))
    options: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """What was found: what cannot be had, what is left out besides, and each version of Python that was tried."""

    asked: Sequence[Asked]
    lacking: Sequence[Lack]
    unread: Sequence[Unread]
    tried: Sequence[Tried]

    @property
    def best(self) -> Tried | None:
        """The newest version of Python for which all is there."""
        return next((each for each in self.tried if not each.problem), None)


def resurrected(index: Index, wanted: Wanted, pythons: Sequence[str], say: Callable[[str], None]) -> Outcome:
    """Resolve what is asked for, without what no version of Python can have. Raises MirrorError."""
    index.read(each.project for each in wanted.asked)
    found: list[Asked] = []
    named = {each.project for each in wanted.asked if not each.guessed}
    lacking: list[Lack] = []
    unread = list(wanted.unread)
    for asked in wanted.asked:
        missing = lack(index, asked, pythons)
        if missing is None:
            found.append(asked)
        elif asked.guessed and (asked.project in named or index.releases(asked.project) is None):
            unread.append(Unread(str(asked.requirement), asked.where, missing.why))
        else:
            lacking.append(missing)
    tried = [_tried(index, found, wanted.constraints, python, say) for python in pythons] if found else []
    return Outcome(found, lacking, unread, tried)


def _tried(
    index: Index, asked: Sequence[Asked], constraints: Sequence[Asked], python: str, say: Callable[[str], None]
) -> Tried:
    without = [each for each in asked if concerns(each, python) and not has_file(index, each, python)]
    if without:
        return Tried(
            python, f"no wheel and no source distribution of {', '.join(str(each.requirement) for each in without)}"
        )
    say(f"resolving for Python {python}")
    try:
        return Tried(python, resolution=_resolved(index, asked, constraints, python))
    except MirrorError as error:
        problem = error.text
    newest = next(iter(index.releases(TOOL) or ()), None)
    held = [Asked(Requirement(f"{TOOL}<={newest.version}"), index.url)] if newest else []
    for date, options in index.tools() if held and "build" in problem else ():
        say(f"its {TOOL} cannot build what has no wheel: trying that of {date}")
        try:
            found = _resolved(index, asked, [*constraints, *held], python, *options)
        except MirrorError as error:
            problem = error.text
        else:
            return Tried(python, resolution=found, options=options)
    return Tried(python, problem + BUILT.format(python) if "build" in problem else problem)


def _resolved(
    index: Index, asked: Sequence[Asked], constraints: Sequence[Asked], python: str, *options: str
) -> Resolution:
    with tempfile.TemporaryDirectory() as folder:
        names = ("requirements.txt", "constraints.txt")
        for name, several in zip(names, (asked, constraints), strict=True):
            Path(folder, name).write_text("".join(f"{each.requirement}\n" for each in several))
        options += ("--python-version", newest_patch(python), "--constraints", str(Path(folder, names[1])))
        options += ("--cache-dir", str(index.cache))
        found = Resolution(compiled(Path(folder, names[0]), index.url, *options))
    return found.with_pins(dict(_checked(found.pins, [*asked, *constraints])))


def _checked(pins: Mapping[str, Locked], asked: Sequence[Asked]) -> Iterator[tuple[str, Locked]]:
    """Yield pins with the hashes that the requirements allow. Raises MirrorError if an index has other files."""
    for each in asked:
        pin, allowed = pins.get(each.project), {hash_ for hash_ in each.hashes if hash_.startswith("sha256:")}
        if pin is not None and allowed:
            if not pin.hashes & allowed:
                raise MirrorError(f"{each.project} {pin.version} has no file with a hash that {each.where} allows")
            yield each.project, replace(pin, hashes=pin.hashes & allowed)


def taken(index: Index, resolution: Resolution) -> list[Taken]:
    """Return the releases of a resolution, by name. Raises MirrorError."""
    index.read(resolution.pins)
    return [Taken(name, pin.version, _uploaded(index, name, pin)) for name, pin in sorted(resolution.pins.items())]


def _uploaded(index: Index, project: str, pin: Locked) -> str | None:
    files = (file for release in index.releases(project) or () for file in release.files)
    times = [file.upload_time for file in files if pin.hashes & {f"sha256:{file.hashes.get('sha256')}"}]
    return max((time for time in times if time), default=None)
