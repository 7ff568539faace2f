"""The embedded store: diskcache as the index and blobs as files, in one folder (see `layout`)."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import diskcache

from httpcache.errors import Damaged, StoreError
from httpcache.executors import prestarted_executor, shut_down

from .base import Condition
from .blobs import Blobs
from .commits import Commits, Outcome
from .errors import RESTORE, guarded, mapped, store_error
from .file_reader import read_file
from .generation import Generation
from .index import Reader, address
from .keys import RECORDS
from .layout import is_read_only, open_index
from .locks import PATIENCE, locked

CHECKSUM = 8  # bytes of sha256 before each value: SQLite has no checksums of its own
READERS, WRITERS = 4, 8  # threads
REMOVED_AT_ONCE = 100  # blobs; freezing waits meanwhile

T = TypeVar("T")


class LocalStore:
    """A Store in a folder that any number of processes on one machine can share."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, creating it if it is missing. Raises StoreError with a text that says what to do.

        If the folder cannot be written, `read_only` is True and every method that changes it raises StoreError.
        """
        self.folder = folder
        self.read_only = is_read_only(folder)
        self.spool = folder / "spool"
        self._blobs = Blobs(folder / "blobs")
        self._index = open_index(folder)
        with mapped():
            self._database = os.stat(folder / "index" / "cache.db")
            self._generation = Generation(folder / "index" / "changes", read_only=self.read_only)
        self._near = threading.local()
        self._opened: list[Reader] = []
        # diskcache keeps a connection for each thread that ever used it, so the threads must be few and long-lived.
        # Those that put blobs wait for locks and the disk, so they have their own.
        self._readers = prestarted_executor(READERS, "store-read")
        self._writers = prestarted_executor(WRITERS, "store-write")
        self._commits = Commits(self._index, self._generation, self._checked)

    async def get(self, key: str) -> bytes | None:
        """See Store."""
        try:
            return self._read(key)
        except sqlite3.Error:  # a lock to wait for, or a fault: wait for it, or report it, off the event loop
            return await self._run(self._readers, lambda: self._get(key))

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """See Store."""
        if len(keys) == 1:
            return [await self.get(keys[0])]
        return await self._run(self._readers, lambda: [self._get(key) for key in keys])

    def _get(self, key: str) -> bytes | None:
        try:
            return self._read(key)
        except sqlite3.Error:
            value = self._index.get(key)
            return None if value is None else _unsealed(key, value)

    def _read(self, key: str) -> bytes | None:
        """Read a key with this thread's reader, without waiting for locks. Raises sqlite3.Error, StoreError."""
        value = self._reader.value(key)
        return None if value is None else _unsealed(key, value)

    @property
    def _reader(self) -> Reader:
        if not hasattr(self._near, "reader"):
            self._near.reader = Reader(self.folder / "index" / "cache.db")
            self._opened.append(self._near.reader)
        return self._near.reader  # type: ignore[no-any-return]

    def generation(self) -> Hashable:
        """See Store."""
        count = self._generation.value()
        if count is not None:
            return count
        try:
            return self._reader.state()
        except sqlite3.Error:
            return object()

    async def add(self, key: str, value: bytes) -> bytes:
        """See Store."""
        winner = await self.get(key)  # needs no lock, and no folder that can be written
        if winner is None:
            winner = await asyncio.wrap_future(self._commits.submit(partial(self._add, key, value), _deadline()))
        return winner

    def _add(self, key: str, value: bytes, *, counts: bool = True) -> Outcome[bytes]:
        """Set the value of a key unless it has one, in a transaction; the result is the value it has."""
        if self._index.add(key, _sealed(key, value)):
            return Outcome(value, counts)
        return Outcome(_unsealed(key, self._index.get(key)))

    async def remove(self, key: str) -> bool:
        """See Store."""

        def delete() -> Outcome[bool]:
            existed = bool(self._index.delete(key))
            return Outcome(existed, counts=existed)

        return await asyncio.wrap_future(self._commits.submit(delete, _deadline()))

    async def keys(self, prefix: str) -> list[str]:
        """See Store."""
        return await self._run(self._readers, lambda: [key for key, _ in self._entries(prefix)])

    async def entries(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        """See Store."""
        with closing(self._scanner()) as scanner:
            after: str | None = ""
            while after is not None:
                page = await self._run(self._readers, partial(scanner.page, prefix, after))
                for key, value in page:
                    yield key, _unsealed(key, value)
                after = page[-1][0] if page else None

    def _entries(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Yield the entries under a prefix, with the checksum still before each value."""
        with closing(self._scanner()) as scanner:
            after: str | None = ""
            while after is not None:
                page = scanner.page(prefix, after)
                yield from page
                after = page[-1][0] if page else None

    def _scanner(self) -> Reader:
        return Reader(self.folder / "index" / "cache.db", wait=PATIENCE)

    async def freeze(self, key: str, value: bytes, digest: str, file: Path) -> bytes:
        """See Store."""
        until = _deadline()

        def work() -> bytes:
            with self._locked(fcntl.LOCK_SH, until):
                self._blobs.put(digest, file)
                return self._commits.submit(partial(self._add, key, value, counts=False), until).result()

        return await self._run(self._writers, work)

    def condition(self, digest: str, size: int) -> Condition:
        """See Store."""
        try:  # entering `mapped` would take as long as the call itself
            return self._blobs.condition(digest, size)
        except OSError as error:
            raise store_error(error) from error

    async def check(self, digest: str, size: int) -> bool:
        """See Store."""
        with mapped():
            return await self._blobs.check(digest, size)

    async def read_blob(self, digest: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """See Store."""
        with mapped():  # not in a thread: after `condition` the path is in the system's cache
            fd = os.open(self._blobs.path(digest), os.O_RDONLY)
        try:
            async for chunk in read_file(fd, start, stop):
                yield chunk
        finally:
            os.close(fd)

    def blob_path(self, digest: str) -> Path:
        """See Store."""
        return self._blobs.path(digest)

    async def problems(self) -> list[str]:
        """See Store."""

        def work() -> list[str]:
            with closing(sqlite3.connect(address(self.folder / "index" / "cache.db"), uri=True)) as index:
                found = [str(row[0]) for row in index.execute("PRAGMA integrity_check")]
            wrong = [f"the index: {line}" for line in found if line != "ok"]
            for key, value in self._entries(""):
                try:
                    _unsealed(key, value)
                except Damaged as error:
                    wrong.append(error.text)
            return wrong

        return await self._run(self._readers, work)

    async def sweep(self, named: Callable[[bytes], str | None]) -> int:
        """See Store.

        The lock is held for a few removals at a time, and not while the entries are read. That is safe because a blob
        that was put again after its stamp was read, for any entry, has a different stamp by then.
        """

        def work() -> int:
            stamps = dict(self._blobs.stamps())
            with self._locked(fcntl.LOCK_EX, _deadline()):
                pass  # anyone who put a blob before the stamps were read has written its entry by now
            for key, value in self._entries(RECORDS):
                stamps.pop(named(_unsealed(key, value)) or "", None)
            freed, spare = 0, list(stamps.items())
            for start in range(0, len(spare), REMOVED_AT_ONCE):
                with self._locked(fcntl.LOCK_EX, _deadline()):
                    freed += sum(self._blobs.remove(*each) for each in spare[start : start + REMOVED_AT_ONCE])
            return freed

        return await self._run(self._readers, work)

    @contextmanager
    def _locked(self, kind: int, until: float) -> Iterator[None]:
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with locked(fd, kind, until):
                yield
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the index, after all pending writes have ended."""
        shut_down(self._readers, READERS, self._index.close)  # closes the connection of the thread that calls it
        shut_down(self._writers, WRITERS, self._index.close)
        self._commits.close()
        for reader in self._opened:
            reader.close()
        self._index.close()
        self._generation.close()

    def _check_database(self) -> None:
        """Raise StoreError if the index file was replaced: what is written to the old one would be lost."""
        with suppress(FileNotFoundError):
            if os.path.samestat(self._database, os.stat(self.folder / "index" / "cache.db")):
                return
        raise StoreError("the index of the mirror's store was replaced while it was in use: restart the mirror")

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, guarded, self._connected, work)

    def _connected(self, work: Callable[[], T]) -> T:
        """Run work with this thread's connection, dropping it on failure, since it may be read-only from then on."""
        try:
            return work()
        except (sqlite3.Error, diskcache.Timeout):
            self._index.close()
            self._check_database()  # its error says more than SQLite's
            raise

    def _checked(self, work: Callable[[], T]) -> T:
        """Run work that changes the index with this thread's connection. Raises StoreError."""
        self._check_database()
        result = guarded(self._connected, work)
        self._check_database()
        return result


def _deadline() -> float:
    """Return when to give up waiting for locks, for work that is asked for now: waiting for a thread is part of it."""
    return time.monotonic() + PATIENCE


def _sealed(key: str, value: bytes) -> bytes:
    """Prefix a value with a checksum that covers the key too, so that it cannot pass under another key."""
    return sha256(key.encode() + b"\0" + value).digest()[:CHECKSUM] + value


def _unsealed(key: str, sealed: bytes) -> bytes:
    value = sealed[CHECKSUM:]
    if _sealed(key, value) != sealed:
        raise Damaged(f"the entry {key} of the store's index is damaged: {RESTORE}")
    return value
