"""Imports an archive that was checked: bodies before their records, and logs in their order, as a server adds them.

It goes in batches, of which each is added whole or not at all. What is there already stays as it is, so an import that
was cut off is run again. It may run beside a server.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, NamedTuple

import anyio.to_thread

from httpcache.adapter import Row
from httpcache.errors import MirrorError, StoreError
from httpcache.store.base import New
from httpcache.store.errors import mapped
from httpcache.store.log import Log
from httpcache.store.record import Absence, Record, columns, decode
from httpcache.store.store import SMALL, Store
from httpcache.units import short_size

from . import layout
from .checking import Archive, Value, entries, is_same
from .layout import LogLine, Member, RecordLine, ValueLine

SPARE = 64 * 1024 * 1024  # bytes that stay free when an archive from a pipe is kept on the disk
BATCH = 500  # entries that are added at once; others who change the store wait meanwhile
BATCH_BYTES = 16 * 1024 * 1024  # of a batch; an entry that is larger by itself is a batch by itself


class Outcome(NamedTuple):
    """What was imported: entries that were not here, the bytes of their bodies, and entries that were."""

    added: int
    size: int
    left: int


@contextmanager
def seekable(source: BinaryIO, folder: Path) -> Iterator[BinaryIO]:
    """Return a file that can be read from any place: the given one, or a copy of a pipe in `folder` for the block.

    Raises MirrorError if there is no room for the copy, and StoreError.
    """
    if source.seekable():
        yield source
        return
    with mapped(), NamedTemporaryFile(dir=folder, suffix=".archive") as file:
        while chunk := source.read(layout.CHUNK):
            if shutil.disk_usage(folder).free < SPARE + len(chunk):
                raise MirrorError(f"{folder} has no room for the archive: save it elsewhere, and import the file")
            file.write(chunk)
        yield file  # type: ignore[misc]


async def apply(
    store: Store, file: BinaryIO, archive: Archive, scratch: sqlite3.Connection, advance: Callable[[], None]
) -> Outcome:
    """Add everything that the store lacks. Raises StoreError, OSError."""
    work = _Import(store, file, scratch)
    for line in entries(file, archive):
        match line:
            case RecordLine(key, bytes() as value):
                await work.record(key, value)
                advance()
            case LogLine():
                await work.begin(line)
            case Value():
                await work.value(line)
    await work.flush()
    return Outcome(work.added, work.size, work.left)


class _Pending(NamedTuple):
    """An entry of a batch: its key and value, what it is if it is a record or an absence, and else its log's name."""

    key: str
    value: bytes
    entry: Record | Absence | None = None
    log: str = ""

    @property
    def size(self) -> int:
        """About how many bytes of memory or of the disk it takes until it is added."""
        return len(self.value) + (self.entry.size if isinstance(self.entry, Record) else 0)


class _Import:
    def __init__(self, store: Store, file: BinaryIO, scratch: sqlite3.Connection) -> None:
        self._store = store
        self._file = file
        self._scratch = scratch
        self._set: list[bytes] = []
        self._batch: list[_Pending] = []
        self._bytes = 0
        self.added = self.size = self.left = 0

    async def record(self, key: str, value: bytes) -> None:
        await self._take(_Pending(key, value, decode(value)))

    async def begin(self, line: LogLine) -> None:
        if line.kind == "set":
            await self.flush()
            self._set = await Log(self._store, line.name).read()

    async def value(self, found: Value) -> None:
        match found.line:
            case ValueLine(value=None):
                self.left += 1
            case ValueLine(value=bytes() as value) if found.log.kind == "set":
                await self._insert(Log(self._store, found.log.name), value)
            case ValueLine(value=bytes() as value):
                await self._take(_Pending(found.key, value, log=found.log.name))

    async def _insert(self, log: Log, value: bytes) -> None:
        if value in self._set:
            self.left += 1
        while value not in self._set:
            if await log.append(len(self._set), value):
                self.added += 1
            self._set += await log.read(len(self._set))

    async def _take(self, pending: _Pending) -> None:
        if self._bytes + pending.size > BATCH_BYTES:
            await self.flush()
        self._batch.append(pending)
        self._bytes += pending.size
        if len(self._batch) >= BATCH:
            await self.flush()

    async def flush(self) -> None:
        """Add the batch. Raises StoreError."""
        if not self._batch:
            return
        there = await self._store.get_many([each.key for each in self._batch])
        missing = [each for each, value in zip(self._batch, there, strict=True) if value is None]
        for each, value in zip(self._batch, there, strict=True):
            if value is not None:
                _check(each, value)
        self._batch.clear()
        self._bytes = 0
        with ExitStack() as stack:
            files: dict[str, Path] = {}
            new = [await self._new(each, files, stack) for each in missing]
            for each, winner in zip(missing, await self._store.add_many(new, files), strict=True):
                _check(each, winner)
        self.left += len(there) - len(missing)
        self.added += len(missing)
        self.size += sum(each.entry.size for each in missing if isinstance(each.entry, Record))

    async def _new(self, pending: _Pending, files: dict[str, Path], stack: ExitStack) -> New:
        """Return what is to be added for an entry; add its body to `files` unless it is small, for the stack's time."""
        key, value, entry, _ = pending
        if not isinstance(entry, Record):
            return New(key, value, columns(entry) if entry else None)
        if entry.size <= SMALL:
            return New(key, value, columns(entry), b"".join([chunk async for chunk in self._body(entry)]))
        if entry.digest not in files:
            file = stack.enter_context(_spooled(self._store.spool))
            async for chunk in self._body(entry):
                await anyio.to_thread.run_sync(file.write, chunk)
            file.flush()
            files[entry.digest] = Path(file.name)
        return New(key, value, columns(entry))

    async def _body(self, record: Record) -> AsyncIterator[bytes]:
        """Yield the bytes of a record's body. Raises StoreError at their end if they are others than were checked."""
        sum_ = sha256()
        async for chunk in self._chunks(record):
            sum_.update(chunk)
            yield chunk
        if sum_.hexdigest() != record.digest:
            raise StoreError(f"the bytes of /{record.pin}/{record.url} have changed since they were checked")

    async def _chunks(self, record: Record) -> AsyncIterator[bytes]:
        [(start,)] = self._scratch.execute("SELECT start FROM bodies WHERE digest = ?", (record.digest,))
        if start is None:
            async for chunk in self._store.read_body(record.digest, record.size, 0, record.size):
                yield chunk
            return
        for chunk in layout.chunks(self._file, Member(record.digest, start, record.size)):
            yield chunk


@contextmanager
def _spooled(folder: Path) -> Iterator[BinaryIO]:
    """Open a file in a folder that is gone after the block, wherever it was moved."""
    with NamedTemporaryFile(dir=folder, suffix=".import", delete=False) as file:
        try:
            yield file  # type: ignore[misc]
        finally:
            Path(file.name).unlink(missing_ok=True)


def _check(pending: _Pending, found: bytes) -> None:
    """Raise StoreError if a key has another entry by now: nobody had one when the archive was checked."""
    entry = pending.entry
    if entry is None:
        if found != pending.value:
            raise StoreError(f"the log {pending.log} has grown here in the meantime: run the import again")
    elif not is_same(decode(found), entry):
        raise StoreError(f"/{entry.pin}/{entry.url} was frozen here with other bytes in the meantime")


def summary(archive: Archive, outcome: Outcome) -> Row:
    """Return what an import has done, in a line and in values."""
    signed = f", signed by {archive.signer}" if archive.signer else ""
    header = archive.header
    return Row(
        f"imported {outcome.added:,} entries and {short_size(outcome.size)} of frozen files "
        f"({', '.join(header.selected)}, of {header.made}{signed}); {outcome.left:,} entries were here already",
        {
            "imported": outcome.added,
            "bytes": outcome.size,
            "left": outcome.left,
            "selected": header.selected,
            "made": header.made,
            "signer": archive.signer or None,
        },
    )
