"""`httpcache resurrect`."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from httpcache.adapter import Client
from httpcache.errors import MirrorError
from pypi_adapter.addresses import PYPI, AsOf, index_url, parse_when, segment
from pypi_adapter.bisecting.builds import install, make_environment
from pypi_adapter.instants import now, to_datetime
from pypi_adapter.warming.resolving import find_uv

from . import FOLDER
from .asked import Wanted
from .checkout import Commit, last_commit, read_checkout, read_file
from .having import Index, Lack, Nearest
from .pythons import RELEASED, candidates
from .resurrection import Outcome, Taken, Tried, resurrected, taken

_PYTHON = re.compile(r"3\.\d{1,2}", re.ASCII)


class Subject(NamedTuple):
    """What is resurrected: its files are below `base`, and its date is that of a commit unless it was given."""

    base: Path
    wanted: Wanted
    when: AsOf
    commit: Commit | None

    @property
    def date(self) -> str:
        """The date or instant as an address writes it."""
        return segment(self.when)


def resurrect(mirror: Client, given: Mapping[str, Any]) -> int:
    """Print what an old checkout asks for and what of it can be had; return 1 if not all can. Raises MirrorError."""
    find_uv()
    subject = _subject(mirror, given)
    wanted = subject.wanted
    if not wanted.asked:
        raise MirrorError(f"{subject.base} asks for nothing that an index may have{_instead(wanted)}")
    pythons = _pythons(subject, given["python"])
    with tempfile.TemporaryDirectory() as cache:
        index = Index(mirror, index_url(mirror.url, (given["index"] or PYPI).strip("/")), subject.date, Path(cache))
        outcome = resurrected(index, wanted, pythons, _say)
        best = outcome.best
        releases = taken(index, best.resolution) if best else []
        if given["run"] and best:
            _install(Path(given["folder"] or FOLDER), best, index)
        elif given["run"]:
            _say("nothing is installed: no version of Python has all of it")
    line = _install_line(subject, outcome, index, best) if best else None
    if given["json"]:
        print(json.dumps(_document(subject, outcome, releases, line)))
    else:
        print("\n".join(_lines(subject, outcome, releases, line)))
    return 0 if best and not outcome.lacking else 1


def _say(line: str) -> None:
    print(f"httpcache: {line}", file=sys.stderr)


def _subject(mirror: Client, given: Mapping[str, Any]) -> Subject:
    """Read what is asked for, and find its date. Raises MirrorError."""
    if len(given["path"]) > 1 or (given["path"] and given["requirements"]):
        raise MirrorError("name one folder, or a requirements file with -r")
    place = Path(given["requirements"] or next(iter(given["path"]), "."))
    if given["requirements"]:
        wanted = Wanted()
        read_file(place, place.parent, wanted)
    elif place.is_dir():
        wanted = read_checkout(place)
    else:
        raise MirrorError(f"{place} is not a folder: name a requirements file with -r")
    commit = None if given["as_of"] else last_commit(place, mirror.environment)
    date = commit.instant if commit else given["as_of"]
    when = parse_when(date, now())
    if not isinstance(when, AsOf):
        raise MirrorError(f"--as-of {date}: write a date, YYYY-MM-DD, or an instant, YYYY-MM-DDThh:mm:ssZ")
    return Subject(place if place.is_dir() else place.parent, wanted, when, commit)


def _instead(wanted: Wanted) -> str:
    if wanted.others:
        return f": name one of {', '.join(wanted.others)} with -r"
    return f": {wanted.unread[0].where}: {wanted.unread[0].why}" if wanted.unread else ""


def _pythons(subject: Subject, asked: str | None) -> list[str]:
    """Return the versions of Python to try. Raises MirrorError."""
    if asked is not None:
        if not _PYTHON.fullmatch(asked):
            raise MirrorError(f"--python {asked}: use a version such as 3.8")
        return [asked]
    found = candidates(to_datetime(subject.when.instant), subject.wanted.pythons)
    if not found:
        allowed = " and ".join(" or ".join(map(str, each)) for each in subject.wanted.pythons)
        raise MirrorError(
            f"no Python of then from {list(RELEASED)[-1]} on, which uv needs, is in {allowed}: try --python"
        )
    return found


def _install_line(subject: Subject, outcome: Outcome, index: Index, best: Tried) -> str:
    """Return the line that installs what can be had."""
    wanted = subject.wanted
    is_whole = not wanted.unread and len(outcome.asked) == len(wanted.asked)
    if is_whole and len(wanted.files) == 1 and all(":" in each.where for each in wanted.asked):
        asked = ["-r", str(subject.base / wanted.files[0])]  # it is a requirements file: they have lines
    else:
        limits = sorted({each.where.rpartition(":")[0] for each in wanted.constraints})
        asked = list(dict.fromkeys(str(each.requirement) for each in outcome.asked))
        asked += [part for name in limits for part in ("-c", str(subject.base / name))]
    line = ["uv", "pip", "install", "--default-index", index.url, *best.options, *asked]
    return f"uv venv --python {best.python} && {shlex.join(line)}"


def _install(folder: Path, found: Tried, index: Index) -> None:
    """Make an environment and install a resolution in it. Raises MirrorError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "log"
    with path.open("w") as log:
        if make_environment(folder / "venv", found.python, log.fileno()) != 0:
            raise MirrorError(f"Python {found.python} is not here, and uv cannot install it: {_last(path)}")
        cache = ("--cache-dir", str(index.cache))
        ways = [found.options, *(options for _, options in index.tools() if options != found.options)]
        if all(install(folder, found.resolution, index.url, log.fileno(), *cache, *options) != 0 for options in ways):
            raise MirrorError(f"it cannot be installed with Python {found.python}: {_last(path)}; all is in {path}")
    _say(f"installed in {folder / 'venv'}")


def _last(path: Path) -> str:
    """Return the last words of a log."""
    return " ".join(path.read_text(errors="replace").split())[-500:]


def _lines(subject: Subject, outcome: Outcome, releases: list[Taken], line: str | None) -> Iterator[str]:
    wanted = subject.wanted
    of = f", the date of commit {subject.commit.name[:12]}" if subject.commit else ""
    yield f"{', '.join(wanted.files)} as of {subject.date}{of}"
    for name in wanted.others:
        yield f"not read: {name} (name it with -r)"
    for unread in outcome.unread:
        yield f"left out: {unread.text} ({unread.where}): {unread.why}"
    for lack in outcome.lacking:
        yield f"cannot be had: {lack.requirement} ({lack.where}): {lack.why}; {_nearest(lack)}"
    for tried in outcome.tried:
        found = tried.problem or f"{len(tried.resolution.pins)} releases"
        yield f"Python {tried.python}{_unborn(subject, tried)}: {found}"
    for each in releases:
        yield f"  {each.project}=={each.version}, uploaded {each.uploaded or 'at an unknown time'}"
    if line:
        yield "install it:"
        yield f"  {line}"


def _unborn(subject: Subject, tried: Tried) -> str:
    released = RELEASED.get(tried.python, "")
    return f" (released on {released} only)" if released > subject.date else ""


def _nearest(lack: Lack) -> str:
    return "; ".join(map(_way, lack.nearest)) or "nothing like it is known"


def _way(near: Nearest) -> str:
    when = f" of {near.uploaded[:10]}" if near.uploaded else ""
    came = "first possible with" if near.later else "nearest is"
    return f"{came} {near.version}{when} (Python {near.python})"


def _document(subject: Subject, outcome: Outcome, releases: list[Taken], line: str | None) -> dict[str, Any]:
    wanted, best = subject.wanted, outcome.best
    return {
        "date": subject.date,
        "commit": subject.commit.name if subject.commit else None,
        "files": wanted.files,
        "not_read": wanted.others,
        "asked": [{"requirement": str(each.requirement), "where": each.where} for each in wanted.asked],
        "left_out": [each._asdict() for each in outcome.unread],
        "cannot_be_had": [
            {**each._asdict(), "nearest": [near._asdict() for near in each.nearest]} for each in outcome.lacking
        ],
        "pythons": [{"python": each.python, "problem": each.problem or None} for each in outcome.tried],
        "python": best.python if best else None,
        "releases": [each._asdict() for each in releases],
        "install": line,
    }
