"""`httpcache import-history`: begins the logs of projects with what was uploaded, as a table of uploads tells it.

All of the table is read and checked before anything is changed. It can be larger than the memory, and in any order: so
its rows go into a database beside the spool first, and come out project by project. A log that has an observation
stays as it is, since instants may have been answered from it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import anyio
import msgspec
from packaging.utils import InvalidName, canonicalize_name

from httpcache.adapter import Row
from httpcache.errors import BadAddress, MirrorError, redact
from httpcache.store.errors import mapped
from httpcache.store.scratch import rows, scratch
from httpcache.store.store import Store
from httpcache.target import read_url
from pypi_adapter.addresses import PYPI
from pypi_adapter.history.history import Entry, Project, Showing, encode_entry
from pypi_adapter.history.project_log import entries_log
from pypi_adapter.instants import now, to_segment
from pypi_adapter.simple.model import File, Identity, identity
from pypi_adapter.simple.versions import versions_of

from .tables import BadRow, read_rows
from .uploads import BadUpload, Upload, read_upload

AT_ONCE = 50  # projects whose logs are begun at once: they share commits
ROWS = 1000  # that are written to the scratch database at once
_TABLES = "CREATE TABLE uploads (project TEXT, instant INTEGER, version TEXT, file BLOB);"


class Outcomes:
    """What became of the projects; `refused` says why, by their names."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self.projects = self.files = self.already = 0

    def rows(self) -> list[Row]:
        """Return a row for each project that was refused, and one for what all comes to."""
        rows = [
            Row(f"{name}: refused: {reason}", {"project": name, "reason": reason}, failed=True)
            for name, reason in sorted(self.refused.items())
        ]
        total = {
            "projects": self.projects,
            "files": self.files,
            "already": self.already,
            "refused": len(self.refused),
        }
        text = (
            f"imported {self.files:,} files of {self.projects:,} projects; {self.already:,} had been imported before, "
            f"{len(self.refused):,} refused"
        )
        return [*rows, Row(text, {"total": total})]


async def import_history(store: Store, given: Mapping[str, Any]) -> list[Row]:
    """Return what was refused, and what all comes to. Raises MirrorError; if the table is at fault, before any change.

    `file` is the table, `projects` are those to import, none for all in it, `files` is the address below which the
    files are whose `path` the table has.
    """
    registry, base = given["registry"] or PYPI, _base(given["files"])
    wanted = frozenset(map(_normal, given["projects"]))
    outcomes = Outcomes()
    with mapped(), scratch(store.spool, _TABLES) as database:
        _read(database, Path(given["file"]), wanted, base)
        outcomes.refused = dict.fromkeys(wanted - _names(database), "the table has no upload of it")
        entries = _entries(database, now())
        while batch := list(islice(entries, AT_ONCE)):
            async with anyio.create_task_group() as tasks:
                for project, entry in batch:
                    tasks.start_soon(_begin, store, registry, project, entry, outcomes)
    return outcomes.rows()


def _base(url: str | None) -> str:
    if not url:
        return ""
    try:
        return read_url(f"{url.rstrip('/')}/").wire
    except BadAddress as error:
        raise MirrorError(f"--files {redact(url)}: {error.text}") from error


def _normal(name: str) -> str:
    try:
        return canonicalize_name(name, validate=True)
    except InvalidName:
        raise MirrorError(f"{name!r} is not the name of a project (PEP 508)") from None


def _read(database: sqlite3.Connection, path: Path, wanted: frozenset[str], base: str) -> None:
    """Write the wanted uploads of a table to the scratch database. Raises MirrorError."""
    uploads = (
        (upload.project, upload.instant, upload.version, msgspec.json.encode(upload.file))
        for upload in _uploads(path, base)
        if not wanted or upload.project in wanted
    )
    while some := list(islice(uploads, ROWS)):
        database.execute("BEGIN")
        database.executemany("INSERT INTO uploads VALUES (?, ?, ?, ?)", some)
        database.execute("COMMIT")
    database.execute("CREATE INDEX by_project ON uploads (project, instant)")


def _uploads(path: Path, base: str) -> Iterator[Upload]:
    latest = now()
    try:
        for line, row in read_rows(path):
            try:
                yield read_upload(row, base, latest)
            except BadUpload as error:
                raise BadRow(line, str(error)) from error
    except BadRow as error:
        raise MirrorError(f"{path}, line {error.line}: {error}; nothing was changed") from error


def _names(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in rows(database, "SELECT DISTINCT project FROM uploads")}


def _entries(database: sqlite3.Connection, instant: int) -> Iterator[tuple[str, Entry]]:
    """Yield the first entry of each project's log."""
    statement = "SELECT project, version, file FROM uploads ORDER BY project, instant, rowid"
    for project, found in groupby(rows(database, statement), itemgetter(0)):
        files: dict[Identity, File] = {}
        versions: list[str] = []
        for _, version, value in found:
            file = msgspec.json.decode(value, type=File)
            files.setdefault(identity(file), file)  # the first upload of the same bytes counts
            versions.append(version)
        yield project, _entry(project, list(files.values()), versions, instant)


def _entry(project: str, files: Sequence[File], versions: Sequence[str], instant: int) -> Entry:
    spelled = versions_of([file.filename for file in files], filter(None, versions))
    shown = tuple(map(Showing, files, spelled))
    return Entry(instant, shown=shown, project=Project(project, None, (), ()), imported=True)


async def _begin(store: Store, registry: str, project: str, entry: Entry, outcomes: Outcomes) -> None:
    """Begin the log of a project, unless it has an entry. Raises StoreError."""
    log = entries_log(store, registry, project)
    values = await log.raw.page()
    if not values:
        if await log.raw.append(0, encode_entry(entry)):
            outcomes.projects += 1
            outcomes.files += len(entry.shown)
            return
        values = await log.raw.page()  # another process was first
    first = log.decode(values[0])
    if not first.imported:
        outcomes.refused[project] = f"it was observed first at {to_segment(first.instant)}: what was answered stands"
    elif msgspec.structs.replace(first, instant=entry.instant) == entry:
        outcomes.already += 1
    else:
        outcomes.refused[project] = f"other uploads of it were imported at {to_segment(first.instant)}"
