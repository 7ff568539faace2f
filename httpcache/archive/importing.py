"""Imports an archive that was checked: a body before its record, and logs in their order, as a server adds them.

What is there already stays as it is, so an import that was cut off is run again. It may run beside a server.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, NamedTuple

import anyio.to_thread

from httpcache.errors import MirrorError, StoreError
from httpcache.store.errors import mapped
from httpcache.store.log import Log
from httpcache.store.record import Entry, Record, decode
from httpcache.store.store import Store
from httpcache.units import short_size

from . import layout
from .checking import Archive, Value, entries, is_same
from .layout import LogLine, Member, RecordLine

SPARE = 64 * 1024 * 1024  # bytes that stay free when an archive from a pipe is kept on the disk


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
    return Outcome(work.added, work.size, work.left)


class _Import:
    def __init__(self, store: Store, file: BinaryIO, scratch: sqlite3.Connection) -> None:
        self._store = store
        self._file = file
        self._scratch = scratch
        self._set: list[bytes] = []
        self.added = self.size = self.left = 0

    async def record(self, key: str, value: bytes) -> None:
        entry = decode(value)
        here = await self._store.get(key)
        if here is not None:
            self.left += 1
            return
        if isinstance(entry, Record):
            winner = await self._freeze(key, entry)
            self.size += entry.size
        else:
            winner = await self._store.freeze_absence(key, entry)
        if not is_same(winner, entry):
            raise StoreError(f"/{entry.pin}/{entry.url} was frozen here with other bytes in the meantime")
        self.added += 1

    async def _freeze(self, key: str, record: Record) -> Entry:
        with NamedTemporaryFile(dir=self._store.spool, suffix=".import", delete=False) as file:
            path, sum_ = Path(file.name), sha256()
            try:
                async for chunk in self._body(record):
                    sum_.update(chunk)
                    await anyio.to_thread.run_sync(file.write, chunk)
                file.flush()
                if sum_.hexdigest() != record.digest:
                    raise StoreError(f"the bytes of /{record.pin}/{record.url} have changed since they were checked")
                return await self._store.freeze(key, record, path)
            finally:
                path.unlink(missing_ok=True)  # noqa: ASYNC240

    async def _body(self, record: Record) -> AsyncIterator[bytes]:
        [(start,)] = self._scratch.execute("SELECT start FROM bodies WHERE digest = ?", (record.digest,))
        if start is None:
            async for chunk in self._store.read_body(record.digest, record.size, 0, record.size):
                yield chunk
            return
        for chunk in layout.chunks(self._file, Member(record.digest, start, record.size)):
            yield chunk

    async def begin(self, line: LogLine) -> None:
        self._set = await Log(self._store, line.name).read() if line.kind == "set" else []

    async def value(self, found: Value) -> None:
        value = found.line.value
        if value is None or value in self._set:
            self.left += 1
        elif found.log.kind == "set":
            await self._insert(Log(self._store, found.log.name), value)
        elif await self._store.get(found.key) == value:
            self.left += 1
        elif await self._store.add(found.key, value) == value:
            self.added += 1
        else:
            raise StoreError(f"the log {found.log.name} has grown here in the meantime: run the import again")

    async def _insert(self, log: Log, value: bytes) -> None:
        while value not in self._set:
            if await log.append(len(self._set), value):
                self.added += 1
            self._set += await log.read(len(self._set))


def summary(archive: Archive, outcome: Outcome) -> str:
    """Return a line about an import."""
    signed = f", signed by {archive.signer}" if archive.signer else ""
    return (
        f"imported {outcome.added:,} entries and {short_size(outcome.size)} of frozen files "
        f"({', '.join(archive.header.selected)}, of {archive.header.made}{signed}); "
        f"{outcome.left:,} entries were here already"
    )
