"""Reads all of an archive before anything of it is imported: whether it is whole, signed, and fits what is here.

Nothing is changed. What goes wrong afterwards is the target's own trouble, such as a full disk, and the import is run
again.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, NamedTuple

import anyio.to_thread

from httpcache.errors import StoreError
from httpcache.store import keys
from httpcache.store.record import Absence, Entry, Record, columns, decode
from httpcache.store.scratch import rows
from httpcache.store.store import Store

from . import layout, signing
from .collecting import is_public
from .layout import BodyLine, Header, LogLine, Member, RecordLine, Refused, ValueLine

TABLES = """
CREATE TABLE needed (digest TEXT PRIMARY KEY, size INTEGER) WITHOUT ROWID;
CREATE TABLE bodies (digest TEXT PRIMARY KEY, size INTEGER, is_left INTEGER, start INTEGER) WITHOUT ROWID;
"""
AT_ONCE = 256  # entries that the store is asked for at once
_HASH = re.compile(r"[0-9a-f]{64}")
_OTHER_MIRROR = (
    "nothing was imported: the two mirrors have frozen or observed different things; import into a mirror of its own "
    "(another --data)"
)
_INCOMPLETE = (
    "nothing was imported: export again without --since and --have, or import the archive before this one first"
)


class Archive(NamedTuple):
    """An archive that was found to be whole: its header and manifest, and who has signed it, "" if nobody is asked."""

    header: Header
    manifest: Member
    signer: str


class Value(NamedTuple):
    """A value of a log: the key it has unless the log is a set, and what the manifest says of it."""

    log: LogLine
    key: str
    line: ValueLine


def entries(file: BinaryIO, archive: Archive) -> Iterator[RecordLine | Value | BodyLine | LogLine]:
    """Yield what the manifest lists. Raises Refused if it is not as the format says, and OSError."""
    file.seek(archive.manifest.start)
    log, number, before = LogLine("", 0), 0, ("", "")
    stage = ""
    for line in layout.lines(file, archive.manifest.size):
        found = "log" if isinstance(line, LogLine | ValueLine) else type(line).__name__
        if number < log.length and not isinstance(line, ValueLine):
            raise Refused(f"the log {log.name} of the manifest has too few values: export again")
        match line:
            case RecordLine(key) if not stage or stage == found:
                _check_order(before, (found, key))
                before = found, key
                yield line
            case LogLine() if stage != "BodyLine":
                log, number = line, 0
                yield line
            case ValueLine() if line.number == number < log.length:
                yield Value(log, keys.numbered(keys.log(log.name), number), line)
                number += 1
            case BodyLine(digest) if _HASH.fullmatch(digest) and line.size >= 0:
                _check_order(before, (found, digest))
                before = found, digest
                yield line
            case _:
                raise Refused("the lines of the manifest are not in the order of the format: export again")
        stage = found
    if number < log.length:
        raise Refused(f"the log {log.name} of the manifest has too few values: export again")


def _check_order(before: tuple[str, str], now: tuple[str, str]) -> None:
    if before[0] == now[0] and before[1] >= now[1]:
        raise Refused("the lines of the manifest are not in the order of the format: export again")


async def check(
    store: Store, file: BinaryIO, scratch: sqlite3.Connection, trusted: Path | None, advance: Callable[[], None]
) -> Archive:
    """Read an archive; note in `scratch` (with TABLES) where its bodies are. Raises Refused, StoreError, OSError."""
    archive, place = await anyio.to_thread.run_sync(_head, file, trusted)
    await _Entries(store, scratch).check(file, archive)
    await _check_left(store, scratch)
    await anyio.to_thread.run_sync(_check_bodies, file, place, scratch, advance)
    return archive


def _head(file: BinaryIO, trusted: Path | None) -> tuple[Archive, int]:
    """Read what stands before the bodies; return also where they begin."""
    place, found = 0, []
    for name in (layout.HEADER, layout.MANIFEST, layout.SUMS):
        member = layout.next_member(file, place)
        if member is None or member.name != name:
            what = "this is not an archive of `httpcache export`" if not place else f"the archive has no {name}"
            raise Refused(what)
        found.append(member)
        place = member.end
    header, manifest, sums = found
    head, text = layout.short(file, header), layout.short(file, sums)
    if text != layout.sums(sha256(head).hexdigest(), layout.digest_of(file, manifest)):
        raise Refused(f"the manifest of the archive is not what {layout.SUMS} says: it is damaged, copy it again")
    signature = b""
    member = layout.next_member(file, place)
    if member and member.name == layout.SIGNATURE:
        signature, place = layout.short(file, member), member.end
    if trusted and not signature:
        raise Refused("the archive is not signed: ask for one that was exported with --sign")
    signer = signing.check(text, signature, trusted) if trusted else ""
    return Archive(layout.read_header(head), manifest, signer), place


class _Entries:
    """Compares the entries of an archive with those of a store."""

    def __init__(self, store: Store, scratch: sqlite3.Connection) -> None:
        self._store = store
        self._scratch = scratch
        self._batch: list[tuple[str, RecordLine | Value]] = []
        self._problems: list[str] = []

    async def check(self, file: BinaryIO, archive: Archive) -> None:
        counted = dict.fromkeys((RecordLine, LogLine, Value, BodyLine), 0)
        for line in entries(file, archive):
            counted[type(line)] += 1
            match line:
                case RecordLine(key):
                    self._check_record(line)
                    await self._compare(key, line)
                case Value(log, key) if log.kind == "sequence":
                    await self._compare(key, line)
                case Value(_, key, value):
                    if value.value is None:
                        raise Refused(f"{key}: a value of a set cannot be left out: export again")
                case BodyLine(digest, size, left):
                    self._scratch.execute("INSERT INTO bodies VALUES (?, ?, ?, NULL)", (digest, size, left))
        await self._flush()
        header = archive.header
        if list(counted.values()) != [header.records, header.logs, header.values, header.bodies]:
            raise Refused("the manifest has not as many lines as the header of the archive says: export again")
        if self._problems:
            more = f" (and {len(self._problems) - 1} more)" if len(self._problems) > 1 else ""
            raise Refused(f"{self._problems[0]}{more}")
        missing = "SELECT digest FROM needed LEFT JOIN bodies USING (digest, size) WHERE bodies.digest IS NULL LIMIT 1"
        for (digest,) in self._scratch.execute(missing):
            raise Refused(f"the manifest names no body with sha256 {digest}, which a record of it has: export again")

    def _check_record(self, line: RecordLine) -> None:
        """Check a record by itself: an archive has only what everyone may read. Raises Refused."""
        if not line.key.startswith(keys.RECORDS) or not _HASH.fullmatch(line.key.removeprefix(keys.RECORDS)):
            raise Refused(f"{line.key[:100]!r} is not the key of a record: export again")
        if line.value is None:
            return
        try:
            entry = decode(line.value)
        except StoreError as error:
            raise Refused(f"{line.key}: the record cannot be read, by this version at least: export again") from error
        if not is_public(line.key, entry):
            raise Refused(f"{_named(entry)} is private, and private copies do not belong into an archive: export again")
        if columns(entry) != (line.pin, line.address, line.digest, line.size):
            raise Refused(f"{_named(entry)}: the manifest contradicts itself: export again")
        if isinstance(entry, Record):
            self._scratch.execute("INSERT OR IGNORE INTO needed VALUES (?, ?)", (entry.digest, entry.size))

    async def _compare(self, key: str, line: RecordLine | Value) -> None:
        self._batch.append((key, line))
        if len(self._batch) >= AT_ONCE:
            await self._flush()

    async def _flush(self) -> None:
        values = await self._store.get_many([key for key, _ in self._batch])
        for (key, line), value in zip(self._batch, values, strict=True):
            problem = _problem(key, line, value)
            if problem and len(self._problems) < AT_ONCE:
                self._problems.append(problem)
        self._batch.clear()


def _problem(key: str, line: RecordLine | Value, here: bytes | None) -> str:
    """Return why an entry cannot be imported beside what the store has, "" if it can."""
    ours = line.line if isinstance(line, Value) else line
    name = f"value {line.line.number} of the log {line.log.name}" if isinstance(line, Value) else key
    if ours.value is None:
        if here is None:
            return f"{name}, which the archive leaves out, is not here: {_INCOMPLETE}"
        return "" if sha256(here).hexdigest() == ours.sha256 else f"{name} is another one here: {_OTHER_MIRROR}"
    if isinstance(line, RecordLine):
        entry = decode(ours.value)
        if here is not None and not is_same(decode(here), entry):
            return f"{_named(entry)} is frozen here with other bytes or headers: {_OTHER_MIRROR}"
        return ""
    return "" if here in (None, ours.value) else f"{name} is another one here: {_OTHER_MIRROR}"


def is_same(one: Entry, other: Entry) -> bool:
    """Whether two entries answer the same: they may have been made at different times."""
    if isinstance(one, Record) and isinstance(other, Record):
        return (one.digest, one.size, one.headers, one.varies) == (
            other.digest,
            other.size,
            other.headers,
            other.varies,
        )
    return isinstance(one, Absence) and isinstance(other, Absence) and one.status == other.status


async def _check_left(store: Store, scratch: sqlite3.Connection) -> None:
    """Check that the store has the bodies that were left out. Raises Refused."""
    for digest, size in rows(scratch, "SELECT digest, size FROM bodies JOIN needed USING (digest, size) WHERE is_left"):
        if not await store.check(digest, size):
            raise Refused(f"the body with sha256 {digest}, which the archive leaves out, is not here: {_INCOMPLETE}")


def _check_bodies(file: BinaryIO, place: int, scratch: sqlite3.Connection, advance: Callable[[], None]) -> None:
    """Check every body in the archive, and note where it begins. Raises Refused, OSError."""
    for digest, size in list_bodies(scratch):
        member = layout.next_member(file, place)
        if member is None or (member.name, member.size) != (layout.BODIES + digest, size):
            raise Refused(
                f"the archive has no body with sha256 {digest}, where it should be: it is damaged, copy it again"
            )
        if layout.digest_of(file, member) != digest:
            raise Refused(f"the body {member.name} of the archive is damaged: copy it again")
        scratch.execute("UPDATE bodies SET start = ? WHERE digest = ?", (member.start, digest))
        place = member.end
        advance()
    if layout.next_member(file, place) is not None or file.read(1):
        raise Refused("something follows what the manifest of the archive lists: copy it again")


def list_bodies(scratch: sqlite3.Connection) -> Iterator[tuple[str, int]]:
    """Yield digest and size of the bodies in the archive, in their order."""
    last = ""
    while page := scratch.execute(
        "SELECT digest, size FROM bodies WHERE digest > ? AND NOT is_left ORDER BY digest LIMIT 500", (last,)
    ).fetchall():
        yield from page
        last = page[-1][0]


def _named(entry: Entry) -> str:
    return f"/{entry.pin}/{entry.url}"
