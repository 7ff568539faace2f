"""The embedded index: a SQLite database that any number of processes on one machine can share."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from httpcache.errors import Damaged, StoreError
from httpcache.executors import prestarted_executor, shut_down

from . import leaves
from .base import PAGE, Columns, Listed, New, PinTotals, Place, Range, Sized
from .commits import Commits, Outcome
from .errors import mapped
from .generation import Generation
from .keys import LOGS
from .layout import CHANGES, DATABASE
from .leaves import Leaf
from .locks import PATIENCE
from .seal import sealed, unsealed
from .sqlite_builds import SqliteBuilds
from .sqlite_reader import IS_UNUSED, Reader
from .sqlite_schema import add_leaf, connect
from .sqlite_usage import SqliteUsage

READERS = 4  # threads
NEAR = 2  # entries that are read on the event loop: most logs are short, or have nothing new
REMOVED_AT_ONCE = 1000  # bodies; other changes wait meanwhile

T = TypeVar("T")


class SqliteIndex:
    """The Index of a data folder. If `read_only`, every method that changes it raises StoreError."""

    def __init__(self, folder: Path, *, read_only: bool) -> None:
        """Open the index of a folder that `layout` has prepared. Raises StoreError."""
        self._database = folder / DATABASE
        self._read_only = read_only
        self.usage = SqliteUsage(folder, read_only=read_only)
        self.builds = SqliteBuilds(folder, read_only=read_only)
        with mapped():
            self._file = os.stat(self._database)
            self._generation = Generation(folder / CHANGES, read_only=read_only)
        self._near = threading.local()
        self._opened: list[Reader] = []
        self._threads = prestarted_executor(READERS, "store-read")
        self._commits = Commits(partial(connect, self._database), self._generation, self._check)

    # Reading

    async def get(self, key: str) -> bytes | None:
        """See Index."""
        return await self._read(lambda reader: reader.value(key))

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """See Index."""
        if len(keys) <= NEAR:
            return [await self.get(key) for key in keys]
        return await self._run(lambda reader: [reader.value(key) for key in keys])

    async def page(self, prefix: str, after: str = "", limit: int = PAGE) -> list[tuple[str, bytes]]:
        """See Index."""
        near = await self._read(lambda reader: reader.page(prefix, after, min(limit, NEAR)))
        if len(near) < NEAR or limit == NEAR:
            return near
        return near + await self._run(lambda reader: reader.page(prefix, near[-1][0], limit - NEAR))

    async def pages(self, ranges: Sequence[Range]) -> list[list[tuple[str, bytes]]]:
        """See Index."""
        return [await self.page(*each) for each in ranges]

    async def keys(self, prefix: str, after: str = "", limit: int = PAGE) -> list[str]:
        """See Index."""
        return await self._run(lambda reader: [key for key, _ in reader.rows(prefix, after, limit)])

    async def pins(self) -> list[PinTotals]:
        """See Index."""
        return await self._run(Reader.pins)

    async def totals(self, pin: str) -> PinTotals:
        """See Index."""
        return await self._run(lambda reader: reader.totals(pin))

    async def records(
        self, pin: str, *, address: str | None = None, after: Place | None = None, limit: int = PAGE
    ) -> list[Listed]:
        """See Index."""
        return await self._run(lambda reader: reader.records(pin, address, after, limit))

    async def largest(self, pin: str, *, after: tuple[int, str] | None = None, limit: int = PAGE) -> list[Sized]:
        """See Index."""
        return await self._run(lambda reader: reader.largest(pin, after, limit))

    async def unused(self, digests: Iterable[str]) -> set[str]:
        """See Index."""
        return await self._run(lambda reader: reader.unused(digests))

    async def shared(self) -> dict[str, int]:
        """See Index."""
        return await self._run(Reader.shared)

    async def unused_bodies(self) -> dict[str, int]:
        """See Index."""
        return await self._run(Reader.unused_bodies)

    async def body(self, digest: str) -> bytes | None:
        """See Index."""
        return await self._read(lambda reader: reader.body(digest))

    async def leaf_count(self) -> int:
        """See Index."""
        return await self._read(Reader.leaf_count)

    async def leaves(self, start: int, limit: int = PAGE) -> list[Leaf]:
        """See Index."""
        return await self._run(lambda reader: reader.leaves(start, limit))

    async def leaves_by_place(self, prefix: bytes, after: Leaf | None = None, limit: int = PAGE) -> list[Leaf]:
        """See Index."""
        return await self._run(lambda reader: reader.leaves_by_place(prefix, after, limit))

    async def problems(self) -> list[str]:
        """See Index."""
        return await self._run(_problems)

    def generation(self) -> Hashable:
        """See Index."""
        count = self._generation.value()
        if count is not None:
            return count
        try:
            return self._reader(0.0).state()
        except sqlite3.Error:
            return object()

    async def _read(self, work: Callable[[Reader], T]) -> T:
        """Do a short piece of work on the event loop."""
        try:
            return work(self._reader(0.0))
        except sqlite3.Error:  # a lock to wait for, or a fault: wait for it, or report it, off the event loop
            return await self._run(work)

    async def _run(self, work: Callable[[Reader], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._in_thread, work)

    def _in_thread(self, work: Callable[[Reader], T]) -> T:
        with mapped():
            try:
                return work(self._reader(PATIENCE))
            except sqlite3.Error:
                self._check_file()  # its error says more than SQLite's
                raise

    def _reader(self, wait: float) -> Reader:
        """Return the reader of this thread."""
        if not hasattr(self._near, "reader"):
            self._near.reader = Reader(self._database, wait)
            self._opened.append(self._near.reader)
        return self._near.reader  # type: ignore[no-any-return]

    # Changing

    async def add(
        self,
        key: str,
        value: bytes,
        columns: Columns | None = None,
        body: bytes | None = None,
        *,
        counts: bool = True,
    ) -> bytes:
        """See Index."""
        winner = None if columns else await self.get(key)  # needs no lock, and no folder that can be written
        if winner is None:
            winner = await self._commit(partial(_add, New(key, value, columns, body), counts))
        return winner

    async def add_many(self, entries: Sequence[New]) -> list[bytes]:
        """See Index."""
        found = await self._commit(partial(_add_many, entries))
        return [
            entry.value if it is None else unsealed(entry.key, it) for entry, it in zip(entries, found, strict=True)
        ]

    async def remove(self, key: str) -> bool:
        """See Index."""
        return await self._commit(partial(_remove, key))

    async def remove_bodies(self, digests: Sequence[str]) -> int:
        """See Index."""
        freed = 0
        for start in range(0, len(digests), REMOVED_AT_ONCE):
            freed += await self._commit(partial(_remove_bodies, digests[start : start + REMOVED_AT_ONCE]))
        return freed

    @asynccontextmanager
    async def lease(self, name: str) -> AsyncIterator[bool]:
        """See Index."""
        yield True

    async def _commit(self, make: Callable[[sqlite3.Connection], Outcome[T]]) -> T:
        return await asyncio.wrap_future(self._commits.submit(make, time.monotonic() + PATIENCE))

    def _check(self) -> None:
        """Raise StoreError if the index cannot be changed."""
        if self._read_only:
            raise StoreError("the mirror's data folder is read-only: its contents can be read, but not changed")
        self._check_file()

    def _check_file(self) -> None:
        """Raise StoreError if the file was replaced: what is written to the old one would be lost."""
        with suppress(FileNotFoundError):
            if os.path.samestat(self._file, os.stat(self._database)):
                return
        raise StoreError("the index of the mirror's store was replaced while it was in use: restart the mirror")

    def close(self) -> None:
        """Close the index, after all pending changes have been made."""
        shut_down(self._threads, READERS, lambda: self._reader(0.0).close())
        self._commits.close()
        for reader in self._opened:
            reader.close()
        self._generation.close()
        self.usage.close()
        self.builds.close()


def _add(entry: New, counts: bool, connection: sqlite3.Connection) -> Outcome[bytes]:
    winner = _insert(entry, connection)
    return Outcome(entry.value, counts) if winner is None else Outcome(unsealed(entry.key, winner))


def _add_many(entries: Sequence[New], connection: sqlite3.Connection) -> Outcome[list[object]]:
    """Return what is there under the key of each entry, sealed; None if the entry was added."""
    winners = [_insert(entry, connection) for entry in entries]
    return Outcome(winners, None in winners)


def _insert(entry: New, connection: sqlite3.Connection) -> object:
    key, value, columns, body = entry
    leaf = leaves.new(key, value) if key.startswith(LOGS) else None
    winner = None
    added = connection.execute(
        "INSERT INTO entries (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING", (key, sealed(key, value))
    )
    if not added.rowcount:
        [(winner,)] = connection.execute("SELECT value FROM entries WHERE key = ?", (key,))
    elif leaf:
        add_leaf(connection, leaf)
    elif columns:
        connection.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?)", (key, *columns))
    if columns and body is not None:  # if it was damaged, this repairs it
        connection.execute(
            "INSERT INTO bodies (digest, body) SELECT ?, ? WHERE EXISTS (SELECT 1 FROM records WHERE digest = ?) "
            "ON CONFLICT DO UPDATE SET body = excluded.body",
            (columns.digest, body, columns.digest),
        )
    return winner


def _remove(key: str, connection: sqlite3.Connection) -> Outcome[bool]:
    existed = bool(connection.execute("DELETE FROM entries WHERE key = ?", (key,)).rowcount)
    connection.execute("DELETE FROM records WHERE key = ?", (key,))
    if existed and key.startswith(LOGS):
        add_leaf(connection, leaves.new(key, None))
    return Outcome(existed, existed)


def _remove_bodies(digests: Sequence[str], connection: sqlite3.Connection) -> Outcome[int]:
    freed = 0
    for digest in digests:
        for number, size in connection.execute(
            f"SELECT number, length(body) FROM bodies WHERE digest = ? AND {IS_UNUSED}",  # noqa: S608
            (digest,),
        ).fetchall():
            connection.execute("DELETE FROM bodies WHERE number = ?", (number,))
            freed += size
    return Outcome(freed)


def _problems(reader: Reader) -> list[str]:
    found = [f"the index: {line}" for line in reader.integrity()]
    after = ""
    while rows := reader.rows("", after, PAGE):
        for key, value in rows:
            try:
                unsealed(key, value)
            except Damaged as error:
                found.append(error.text)
        after = rows[-1][0]
    return found
