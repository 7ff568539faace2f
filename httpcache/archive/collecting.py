"""Gathers what an export takes, as lines of a manifest, on the disk: there can be more than fits into memory."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, NamedTuple

from httpcache.adapter import Adapter, Frozen, Kept
from httpcache.credentials import PUBLIC
from httpcache.errors import NotFound
from httpcache.freezing.download import absence_key
from httpcache.settings_file import SettingsFile
from httpcache.store import keys
from httpcache.store.log import Log
from httpcache.store.record import Entry, Record, columns, decode
from httpcache.store.scratch import rows
from httpcache.store.store import Store

from . import layout
from .layout import BodyLine, LogLine, RecordLine, ValueLine

TABLES = """
CREATE TABLE records (key TEXT PRIMARY KEY, line BLOB) WITHOUT ROWID;
CREATE TABLE logs (number INTEGER PRIMARY KEY, name TEXT UNIQUE, is_set INTEGER, length INTEGER DEFAULT 0);
CREATE TABLE held (log INTEGER, number INTEGER, line BLOB, PRIMARY KEY (log, number)) WITHOUT ROWID;
CREATE TABLE bodies (digest TEXT PRIMARY KEY, size INTEGER, is_left INTEGER) WITHOUT ROWID;
CREATE TABLE theirs (key TEXT PRIMARY KEY, sha256 TEXT) WITHOUT ROWID;
"""


class Chosen(NamedTuple):
    """A pin or an index, as it was asked for: `name`, or `name@date`."""

    name: str
    date: str

    @classmethod
    def read(cls, text: str) -> Chosen:
        """Read what a command was given."""
        name, _, date = text.strip("/").partition("@")
        return cls(name, date)

    def __str__(self) -> str:
        return f"{self.name}@{self.date}" if self.date else self.name


class Collection:
    """The lines of a manifest, in a `scratch` database with TABLES.

    `since`: what is older, in seconds since the epoch, is left out. `brief`: all values are, so that the manifest says
    what is there and nothing more.
    """

    def __init__(self, store: Store, scratch: sqlite3.Connection, *, since: float = 0.0, brief: bool = False) -> None:
        self._store = store
        self._scratch = scratch
        self._since = since
        self._brief = brief
        self.private = 0

    def has(self, file: BinaryIO, size: int) -> None:
        """Note what the other side has, by a manifest of its own, or of what it was sent. Raises Refused, OSError."""
        log = ""
        for line in layout.lines(file, size):
            match line:
                case LogLine(name):
                    log = keys.log(name)
                case RecordLine() | ValueLine():
                    key = line.key if isinstance(line, RecordLine) else keys.numbered(log, line.number)
                    self._insert("theirs", key, line.sha256 or _digest(line.value or b""))
                case BodyLine(digest):
                    self._insert("theirs", digest, "")

    async def add(self, chosen: Chosen, adapters: Sequence[Adapter], file: SettingsFile, *, settle: bool) -> None:
        """Add a pin or an index. Raises NotFound if there is nothing of it, and MirrorError."""
        found = 0
        if not chosen.date:
            found += await self._frozen(Frozen(chosen.name))
        for adapter in adapters:
            async for part in adapter.parts(self._store, file, chosen.name, chosen.date, settle=settle):
                found += await (self._frozen(part) if isinstance(part, Frozen) else self._kept(part))
        if not found:
            raise NotFound(
                f"there is nothing of {str(chosen)!r} here: `httpcache ls` lists the pins, and an index with a date is "
                "written like pypi@2024-01-02, or team@2024-01-02 for the registry or group named team"
            )

    async def _frozen(self, part: Frozen) -> int:
        """Add records and absences; return how many there are, private ones not counted."""
        found = 0
        async for key, value in self._entries(part):
            entry = decode(value)
            if not is_public(key, entry):
                self.private += 1
                continue
            found += 1
            sum_ = _digest(value)
            if self._leaves(key, sum_, entry.created):
                self._insert("records", key, layout.encode(RecordLine(key, sha256=sum_)))
                if self._brief:
                    self._body(entry)
            else:
                self._insert("records", key, layout.encode(RecordLine(key, value, "", *columns(entry))))
                self._body(entry)
        return found

    def _body(self, entry: Entry) -> None:
        if isinstance(entry, Record):
            is_theirs = self._brief or self._holds(entry.digest)
            self._insert("bodies", entry.digest, entry.size, is_theirs)

    async def _entries(self, part: Frozen) -> AsyncIterator[tuple[str, bytes]]:
        for url in part.urls if part.urls is not None else (None,):
            after = None
            while page := await self._store.index.records(part.pin, address=url, after=after):
                for place, value in page:
                    yield place.key, value
                after = page[-1].place

    async def _kept(self, part: Kept) -> int:
        """Add a log, unless it has been added; return how many values it has."""
        if self._scratch.execute("SELECT 1 FROM logs WHERE name = ?", (part.name,)).fetchone():
            return 1
        log, length = None, 0
        async for value in self._values(part):
            if log is None:
                statement = "INSERT INTO logs (name, is_set) VALUES (?, ?)"
                log = self._scratch.execute(statement, (part.name, part.is_set)).lastrowid
            sum_, made = _digest(value), part.made(value) if part.made else self._since
            is_left = not part.is_set and self._leaves(keys.numbered(keys.log(part.name), length), sum_, made)
            line = ValueLine(length, sha256=sum_) if is_left else ValueLine(length, value)
            self._insert("held", log, length, layout.encode(line))
            length += 1
        self._scratch.execute("UPDATE logs SET length = ? WHERE number = ?", (length, log))
        return length

    async def _values(self, part: Kept) -> AsyncIterator[bytes]:
        if part.values is not None:
            for value in part.values:
                yield value
        else:
            async for value in Log(self._store, part.name).each():
                yield value

    def _leaves(self, key: str, sum_: str, made: float) -> bool:
        """Whether an entry is left out, and only named."""
        if self._brief or made < self._since:
            return True
        found = self._scratch.execute("SELECT sha256 FROM theirs WHERE key = ?", (key,)).fetchone()
        return found is not None and found[0] == sum_

    def _holds(self, digest: str) -> bool:
        return self._scratch.execute("SELECT 1 FROM theirs WHERE key = ?", (digest,)).fetchone() is not None

    def _insert(self, table: str, *values: str | int | bytes | None) -> None:
        marks = ", ".join("?" * len(values))
        self._scratch.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", values)  # noqa: S608

    def header(self, made: str, chosen: Sequence[Chosen], since: str, have: str) -> layout.Header:
        """Return the header of an archive of this collection."""
        [(count, size)] = self._scratch.execute(
            "SELECT count(*), coalesce(sum(CASE WHEN is_left THEN 0 ELSE size END), 0) FROM bodies"
        )
        numbers = [self._count(table) for table in ("records", "logs", "held")]
        return layout.Header(
            format=layout.FORMAT, made=made, selected=tuple(map(str, chosen)), since=since, have=have,
            records=numbers[0], logs=numbers[1], values=numbers[2], bodies=count, bytes=size, private=self.private,
        )  # fmt: skip

    def _count(self, table: str) -> int:
        [(count,)] = self._scratch.execute(f"SELECT count(*) FROM {table}")  # noqa: S608
        return int(count)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the manifest, encoded."""
        for (line,) in rows(self._scratch, "SELECT line FROM records ORDER BY key"):
            yield line
        # what was read first speaks of what was read after it
        for number, name, is_set, length in rows(
            self._scratch, "SELECT number, name, is_set, length FROM logs ORDER BY number DESC"
        ):
            yield layout.encode(LogLine(name, length, "set" if is_set else "sequence"))
            for (line,) in rows(self._scratch, "SELECT line FROM held WHERE log = ? ORDER BY number", (number,)):
                yield line
        for digest, size, is_left in rows(self._scratch, "SELECT digest, size, is_left FROM bodies ORDER BY digest"):
            yield layout.encode(BodyLine(digest, size, bool(is_left)))


def is_public(key: str, entry: Entry) -> bool:
    """Whether everyone may read an entry: only such ones are in archives."""
    if isinstance(entry, Record):
        return entry.scope == PUBLIC
    return key == absence_key(entry.target, PUBLIC)


def manifest(path: Path) -> tuple[BinaryIO, int]:
    """Open a manifest, alone or in an archive, at its first byte; return also its size. Raises Refused, OSError."""
    file = path.open("rb")
    try:
        with suppress(layout.Refused):
            first = layout.next_member(file, 0)
            if first and first.name == layout.HEADER:
                found = layout.next_member(file, first.end)
                if found and found.name == layout.MANIFEST:
                    file.seek(found.start)
                    return file, found.size
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file, path.stat().st_size


def _digest(value: bytes) -> str:
    return sha256(value).hexdigest()
