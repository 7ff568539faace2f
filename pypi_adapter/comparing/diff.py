"""`httpcache diff`: what has changed between two dates, for projects or for what requirements resolve to."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from httpcache.adapter import Client
from httpcache.errors import MirrorError, NotFound
from pypi_adapter.addresses import PYPI, index_url
from pypi_adapter.bisecting.bisection import Change, changed
from pypi_adapter.bisecting.builds import Resolution
from pypi_adapter.simple.difference import Difference, difference
from pypi_adapter.simple.model import Page
from pypi_adapter.simple.telling import as_json, cell, markdown, summary
from pypi_adapter.simple.versions import file_version
from pypi_adapter.warming.locks import read_lock
from pypi_adapter.warming.planning import read_page
from pypi_adapter.warming.resolving import compiled

FORMATS = ("table", "json", "markdown")
PAGES_AT_ONCE = 8


@dataclass(frozen=True)
class Resolved:
    """A change of what requirements resolve to, and when the first file of the new version was uploaded.

    That is None if it was uploaded before the first date: then another version was yanked or removed.
    """

    change: Change
    uploaded: str | None


class Dates:
    """An index at two dates, through a mirror."""

    def __init__(self, mirror: Client, index: str, before: str, after: str) -> None:
        base = index_url(mirror.url, index)
        self.before, self.after = before, after
        self.urls = f"{base}/{before}/", f"{base}/{after}/"
        self._mirror = mirror

    def pages(self, project: str) -> tuple[Page | None, Page | None]:
        """Return a project's page at both dates, None where it does not exist. Raises MirrorError."""
        before, after = (self._page(f"{url}{project}/") for url in self.urls)
        return before, after

    def _page(self, url: str) -> Page | None:
        try:
            return read_page(self._mirror.read, url)
        except NotFound:
            return None


def diff(mirror: Client, given: Mapping[str, Any]) -> int:
    """Print what differs; return 0 also if nothing does. Raises MirrorError."""
    style = given["format"] or FORMATS[0]
    if style not in FORMATS:
        raise MirrorError(f"--format {style}: use one of {', '.join(FORMATS)}")
    dates = Dates(mirror, (given["index"] or PYPI).strip("/"), given["before"], given["after"])
    file = Path(given["requirements"]) if given["requirements"] else None
    names: list[str] = list(dict.fromkeys(canonicalize_name(name) for name in given["projects"]))
    if not names and file is None:
        raise MirrorError("name projects, or requirements or a lock file with -r")
    resolved: list[Resolved] | None = None
    if file is not None:
        locked = read_lock(file.name, _text(file))
        if locked is None:
            resolved = _resolved(dates, file, given["python"] or sys.executable)
        else:
            names += [each.name for each in locked if each.name not in names and not each.elsewhere]
    found = _differences(dates, names)
    for line in _RENDERERS[style](dates, resolved, found):
        print(line)
    return 0


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise MirrorError(f"{file} cannot be read: {error}") from error


def _differences(dates: Dates, names: Sequence[str]) -> dict[str, Difference]:
    """Return what differs of each project, without those of which nothing does. Raises NotFound, MirrorError."""
    with ThreadPoolExecutor(PAGES_AT_ONCE) as pool:
        pages = dict(zip(names, pool.map(dates.pages, names), strict=True))
    for name, pair in pages.items():
        if pair == (None, None):
            raise NotFound(f"{name} does not exist at either date")
    found = {name: difference(*pair) for name, pair in pages.items()}
    return {name: each for name, each in found.items() if each.changes}


def _resolved(dates: Dates, file: Path, python: str) -> list[Resolved]:
    """Return how what a requirements file resolves to differs. Raises MirrorError if it does not resolve at a date."""
    resolutions = []
    for date, url in zip((dates.before, dates.after), dates.urls, strict=True):
        try:
            resolutions.append(Resolution(compiled(file, url, "--python", python)))
        except MirrorError as error:
            raise MirrorError(f"at {date}, {error.text}") from error
    changes = [each for each in changed(*resolutions) if each.before != each.after]
    return [Resolved(each, _uploaded(dates, each)) for each in changes]


def _uploaded(dates: Dates, change: Change) -> str | None:
    """Return when the first file of the new version came, if that was between the dates."""
    before, after = dates.pages(change.project)
    old = {file.filename for file in before.files} if before else set()
    times = [
        file.upload_time
        for file in (after.files if after else ())
        if file.upload_time
        and file.filename not in old
        and file_version(file.filename, (after.versions if after else None) or ()) == change.after
    ]
    return min(times, default=None)


def _table(dates: Dates, resolved: Sequence[Resolved] | None, found: Mapping[str, Difference]) -> Iterator[str]:
    for each in resolved or ():
        yield f"{each.change.project}: {_versions(each.change)}{_cause(each)}"
    for name, differing in found.items():
        yield f"{name}: {summary(differing)}"
        for change in differing.changes:
            yield f"  {change.version:12} {change.what}: {change.filename}{_at(change.uploaded)}"
    if not resolved and not found:
        yield "nothing differs"


def _markdown(dates: Dates, resolved: Sequence[Resolved] | None, found: Mapping[str, Difference]) -> Iterator[str]:
    yield f"### From {dates.before} to {dates.after}"
    yield ""
    if resolved:
        yield "| project | before | after | because |"
        yield "|---|---|---|---|"
        for each in resolved:
            project, before, after = each.change
            yield f"| {cell(project)} | {cell(before or '')} | {cell(after or '')} | {cell(_cause(each)[2:])} |"
    for name, differing in found.items():
        yield from markdown(name, differing)
    if not resolved and not found:
        yield "Nothing differs."


def _json(dates: Dates, resolved: Sequence[Resolved] | None, found: Mapping[str, Difference]) -> Iterator[str]:
    for each in resolved or ():
        yield json.dumps({**each.change._asdict(), "uploaded": each.uploaded})
    for name, differing in found.items():
        yield as_json(name, differing)


_RENDERERS = {"table": _table, "json": _json, "markdown": _markdown}


def _versions(change: Change) -> str:
    return f"{change.before or 'not there'} -> {change.after or 'not there'}"


def _cause(each: Resolved) -> str:
    if each.uploaded:
        return f", uploaded {each.uploaded}"
    return ", no longer required" if each.change.after is None else ", since something else was yanked or removed"


def _at(uploaded: str | None) -> str:
    return f", uploaded {uploaded}" if uploaded else ""
