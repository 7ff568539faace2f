"""Whether a dated page follows from the log of its project, by the rules that the mirror itself goes by.

The page and the log come from a mirror that is not believed; that the log's entries are in its Merkle log is shown
elsewhere (`httpcache.audit`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import msgspec
from packaging.utils import canonicalize_name

from httpcache.adapter import Client
from httpcache.audit.findings import Finding
from httpcache.errors import BadAddress, MirrorError, NotFound

from .addresses import PYPI, AsOf, linked, parse_when
from .history.history import Entry, History, NotObserved, StaleObservation, decode_entry
from .history.snapshot import Snapshot, take_snapshot
from .instants import now, to_datetime

JSON = "application/vnd.pypi.simple.v1+json"
SLACK = 3_600_000_000  # microseconds by which an observation may be older than the moment in which it is noted
_ASK = "ask the operator of the mirror why; keep this output and the checkpoints"
_OF_THE_HOST = {"core-metadata", "dist-info-metadata", "data-dist-info-metadata"}
"""What a page says of a file depending on whether its host can be asked for parts of it."""


class DatedPage:
    """A page of a project at an instant, as a mirror serves it (see `httpcache.adapter.Retold`)."""

    def __init__(self, client: Client, project: str, date: str) -> None:
        """Ask for it. Raises MirrorError."""
        try:
            when = parse_when(date, now())
        except BadAddress as error:
            raise MirrorError(error.text) from None
        if not isinstance(when, AsOf):
            raise MirrorError(f"{date!r} is not a date: write 2024-01-02, or 2024-01-02T12:00:00Z")
        self.log = log_of(project)
        registry, _, self._project = self.log.rpartition("/")
        self._instant = when.instant
        self._date = date
        path = "" if registry == PYPI else f"/{registry}"
        self._base = urlsplit(client.url).path + path
        self._served: Mapping[str, Any] | None = None
        self._refused = ""
        try:
            found = client.read(f"{client.url}{path}/{date}/{self._project}/", JSON)
            self._served = msgspec.json.decode(found.body)
        except NotFound:
            pass
        except MirrorError as error:
            if not error.text.startswith("403"):
                raise
            self._refused = error.text
        except msgspec.DecodeError as error:
            raise MirrorError(f"the mirror sends no index page: {error}") from error

    def findings(self, values: Sequence[bytes], known: int, since: float | None) -> Iterator[Finding]:
        """See `httpcache.adapter.Retold`."""
        try:
            entries = [decode_entry(value) for value in values]
            snapshot = take_snapshot(History(entries), partial(linked, base=self._base, project=self._project))
            page = snapshot.at(self._instant)
        except (ValueError, KeyError, zlib.error, StaleObservation) as error:
            yield self._found("log", f"its entries are no history: {error}")
            return
        except NotObserved:
            yield self._found("page", "it was answered without an observation at or after the instant")
            return
        yield from self._late(entries, known, since)
        if page is None:
            if self._served is not None:
                yield self._found("page", "it is served, and by its log the project did not exist then")
        elif self._served is None:
            why = self._refused or "404"
            yield self._found("withheld", f"it is not served ({why}), and by its log the project existed", is_note=True)
        else:
            yield from self._compared(msgspec.json.decode(page.json()))

    def _late(self, entries: Sequence[Entry], known: int, since: float | None) -> Iterator[Finding]:
        """Yield the entries that changed something before a checkpoint, and were noted after it."""
        for number, entry in enumerate(entries[known:], known):
            if since is not None and entry.changed and entry.instant < since * 1e6 - SLACK:
                observed = to_datetime(entry.instant).strftime("%Y-%m-%dT%H:%M:%SZ")
                text = f"entry {number} of the log {self.log}: it says {observed}, and was added after the checkpoint"
                yield Finding("late", text, "that is right after an import, and else it is made up", self.log, number)

    def _compared(self, expected: Mapping[str, Any]) -> Iterator[Finding]:
        served = self._served or {}
        mine, theirs = _files(expected), _files(served)
        for key in theirs.keys() - mine.keys():
            yield self._found("page", f"it has {key[0]} ({key[1][:12]}), and its log does not")
        for key in theirs.keys() & mine.keys():
            names = sorted(
                each for each in mine[key].keys() | theirs[key].keys() if _other(mine[key], theirs[key], each)
            )
            if names:
                yield self._found("page", f"it says something else of {key[0]} than its log: {', '.join(names)}")
        if missing := mine.keys() - theirs.keys():
            text = (
                f"{len(missing)} files of its log are not on it ({', '.join(sorted(name for name, _ in missing)[:3])})"
            )
            yield self._found("withheld", text, is_note=True)
        elif served.get("project-status") != expected.get("project-status"):
            yield self._found("page", "it has another status than its log says")

    def _found(self, kind: str, text: str, *, is_note: bool = False) -> Finding:
        advice = "rules and advisories withhold what they name; who operates the mirror can say" if is_note else _ASK
        return Finding(kind, f"the page of {self._project} at {self._date}: {text}", advice, self.log, is_note=is_note)


def log_of(project: str) -> str:
    """Return the name of the log of a project, which can have the name of a registry and a slash before it."""
    registry, _, name = project.rpartition("/")
    return f"{registry or PYPI}/{canonicalize_name(name)}"


def _files(page: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(file["filename"], file["url"].rsplit("/", 2)[-2]): file for file in page.get("files", ())}


def _other(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> bool:
    return name not in _OF_THE_HOST and one.get(name) != other.get(name)


def told_apart(one: Sequence[bytes], other: Sequence[bytes]) -> str:
    """Return in what two logs of a project differ, "" if every page is the same at every instant that both know."""
    link = partial(linked, base="", project="p")
    try:
        snapshots = [take_snapshot(History(map(decode_entry, values)), link) for values in (one, other)]
    except (ValueError, KeyError, zlib.error) as error:
        return f"one of them is no history: {error}"
    known = min(snapshot.instant or 0 for snapshot in snapshots)
    breaks = sorted({each for snapshot in snapshots for each in snapshot.breaks if each <= known})
    for instant in breaks:
        mine, theirs = (_listed(snapshot, instant) for snapshot in snapshots)
        if mine != theirs:
            names = sorted({name for name, _ in mine.items() ^ theirs.items()})
            when = to_datetime(instant).strftime("%Y-%m-%dT%H:%M:%SZ")
            return f"their pages differ from {when} on: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
    return ""


def _listed(snapshot: Snapshot, instant: int) -> dict[str, str]:
    """Return the files on a page by their names, each with what it is and whether it is yanked."""
    page = snapshot.at(instant)
    if page is None:
        return {}
    return {file.filename: f"{file.hashes} {file.yanked}" for file in page.page().files}
