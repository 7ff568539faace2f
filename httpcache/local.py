"""The embedded store: diskcache as the index, blobs as files beside it.

DIR/
  VERSION          the format of the folder, "2"; written last, so that what has one is complete
  index/           diskcache's SQLite database: the entries, each with a checksum
  blobs/           see blobs.py
  spool/           downloads on their way, see spool.py
  reserve          room that is given up when the disk is full
  lock             held shared while a blob and its record are written, exclusively while blobs are removed
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import quote

import anyio.to_thread
import diskcache

from .blobs import Blobs
from .errors import Damaged, StoreError, StoreFull
from .files import sync_file, sync_folder
from .store import Condition

VERSION = "2"
CHECKSUM = 8  # bytes of sha256 in front of a value: SQLite has none of its own
CHUNK = 256 * 1024  # bytes that are read at once
RESERVE = 1024 * 1024  # bytes that are kept back for a full disk
_NEVER = 2**62
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_OURS = re.compile(r"VERSION\.new\d*|blobs|spool|index")  # what a start that was cut short leaves
_RESTORE = "stop the mirror and restore the data folder from a copy"

T = TypeVar("T")
P = ParamSpec("P")


class _BytesDisk(diskcache.Disk):  # type: ignore[misc]
    """Keys are text and values are bytes, inside SQLite; whatever else a database holds is refused, never unpickled."""

    def put(self, key: object) -> tuple[str, bool]:
        if not isinstance(key, str):
            raise TypeError("a key is text")
        return key, True

    def get(self, key: object, raw: bool) -> str:
        if not (isinstance(key, str) and raw):
            raise StoreError("the index holds a key that this program did not write")
        return key

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, None, bytes]:
        if read or not isinstance(value, bytes):
            raise TypeError("a value is bytes")
        return 0, diskcache.core.MODE_RAW, None, value

    def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> bytes:
        if mode != diskcache.core.MODE_RAW or not isinstance(value, bytes):
            raise StoreError("the index holds a value that this program did not write")
        return value


class LocalStore:
    """A Store in a folder, shared by any number of processes of one machine."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, making it where it is missing.

        Raises StoreError with a text that says what to do: not writable, not a folder of this program, or of another
        version of it, or damaged.
        """
        self.folder = folder
        self.spool = folder / "spool"
        self._blobs = Blobs(folder / "blobs")
        try:
            self._index = _open(folder)
        except StoreFull:
            if not _use_reserve(folder):
                raise
            self._index = _open(folder)
        _keep_reserve(folder)
        # diskcache has a connection for each thread that ever used it, so there must be few threads and always the
        # same. Writers wait for locks and for the disk, and have their own.
        self._readers = ThreadPoolExecutor(4, "store-read")
        self._writers = ThreadPoolExecutor(4, "store-write")
        # SQLite lets one write at a time. diskcache takes that for granted: on a connection that has become read-only
        # two can begin a transaction, and it loses count.
        self._writing = threading.Lock()

    async def get(self, key: str) -> bytes | None:
        """See Store."""
        return await self._run(self._readers, lambda: self._get(key))

    def _get(self, key: str) -> bytes | None:
        value = self._index.get(key)
        return None if value is None else _unsealed(key, value)

    async def add(self, key: str, value: bytes) -> bytes:
        """See Store."""
        return await self._run(self._writers, lambda: self._add(key, value))

    def _add(self, key: str, value: bytes) -> bytes:
        with self._writing:
            added = self._index.add(key, _sealed(key, value))
        if added:
            return value
        winner = self._get(key)
        return self._add(key, value) if winner is None else winner  # the operator removed it in between

    async def remove(self, key: str) -> bool:
        """See Store."""

        def work() -> bool:
            with self._writing:
                return bool(self._index.delete(key))

        return await self._run(self._writers, work)

    async def keys(self, prefix: str) -> list[str]:
        """See Store."""
        return await self._run(self._readers, lambda: self._keys(prefix))

    async def entries(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        """See Store."""
        for key in await self.keys(prefix):
            value = await self.get(key)
            if value is not None:
                yield key, value

    async def freeze(self, key: str, value: bytes, digest: str, file: Path) -> bytes:
        """See Store."""

        def work() -> bytes:
            with self._locked(fcntl.LOCK_SH):
                self._blobs.put(digest, file)
                return self._add(key, value)

        return await self._run(self._writers, work)

    def condition(self, digest: str, size: int) -> Condition:
        """See Store."""
        with _mapped():
            return self._blobs.condition(digest, size)

    async def check(self, digest: str, size: int) -> bool:
        """See Store."""
        with _mapped():
            return await self._blobs.check(digest, size)

    async def read_blob(self, digest: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """See Store."""
        fd = await _in_thread(lambda: os.open(self._blobs.path(digest), os.O_RDONLY))
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
            with closing(
                sqlite3.connect(f"file:{quote(str(self.folder / 'index' / 'cache.db'))}?mode=ro", uri=True)
            ) as index:
                found = [str(row[0]) for row in index.execute("PRAGMA integrity_check")]
            wrong = [f"the index: {line}" for line in found if line != "ok"]
            for key in self._keys(""):
                try:
                    self._get(key)
                except Damaged as error:
                    wrong.append(error.text)
            return wrong

        return await self._run(self._readers, work)

    async def sweep(self, named: Callable[[bytes], str | None]) -> int:
        """See Store."""

        def work() -> int:
            with self._locked(fcntl.LOCK_EX):
                values = (self._get(key) for key in self._keys("r/"))
                keep = {named(value) for value in values if value is not None}
                spare = [path for path in self._blobs.all() if path.name not in keep]
                freed = sum(path.stat().st_size for path in spare)
                for path in spare:
                    path.unlink()
                return freed

        return await self._run(self._writers, work)

    def _keys(self, prefix: str) -> list[str]:
        return [key for key in self._index.iterkeys() if key.startswith(prefix)]

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, kind)
            yield
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the index, after what is being written."""
        self._readers.shutdown()
        self._writers.shutdown()
        self._index.close()

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, _guarded, self._connected, work)

    def _connected(self, work: Callable[[], T]) -> T:
        """Do some work with this thread's connection; one that failed may be read-only from then on: a new one next."""
        try:
            return work()
        except (sqlite3.Error, diskcache.Timeout):
            self._index.close()
            raise


async def read_file(fd: int, start: int, stop: int) -> AsyncIterator[bytes]:
    """Yield the bytes `start` to `stop` of an open file. Raises StoreError where it ends before."""
    while start < stop:
        at, count = start, min(CHUNK, stop - start)
        chunk = await _in_thread(lambda at=at, count=count: os.pread(fd, count, at))  # type: ignore[misc]
        if not chunk:
            raise Damaged("a file of the store is shorter than its record says: ask again")
        yield chunk
        start += len(chunk)


def _sealed(key: str, value: bytes) -> bytes:
    """Put a checksum in front of a value: of the key too, so that no value can turn up under another one."""
    return sha256(key.encode() + b"\0" + value).digest()[:CHECKSUM] + value


def _unsealed(key: str, sealed: bytes) -> bytes:
    value = sealed[CHECKSUM:]
    if _sealed(key, value) != sealed:
        raise Damaged(f"the entry {key} of the store's index is damaged: {_RESTORE}")
    return value


def _open(folder: Path) -> diskcache.Cache:
    with _mapped(), _named(folder):
        is_new = _prepare(folder)
        # diskcache's defaults evict at 1 GiB and unpickle what they read: for a mirror both are fatal. Its `retry` goes
        # on for ever, whatever has failed; SQLite itself waits `timeout` seconds for its lock.
        index = diskcache.Cache(
            str(folder / "index"),
            timeout=60,
            disk=_BytesDisk,
            eviction_policy="none",
            cull_limit=0,
            size_limit=_NEVER,
            sqlite_synchronous=2,
        )
        if is_new:
            _finish(folder)
        return index


def _use_reserve(folder: Path) -> bool:
    """Make a little room on a full disk: enough to open the index, and for `forget` to begin."""
    try:
        (folder / "reserve").unlink()
    except OSError:
        return False
    return True


def _keep_reserve(folder: Path) -> None:
    """Have a file to give up when the disk is full; without one a full disk could not even be tidied."""
    path = folder / "reserve"
    if path.exists() or shutil.disk_usage(folder).free < 4 * RESERVE:
        return
    with suppress(OSError), path.open("xb") as file:
        os.posix_fallocate(file.fileno(), 0, RESERVE)


def _prepare(folder: Path) -> bool:
    """Make the folder ready for the index to be opened; return whether it is new."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    version = folder / "VERSION"
    is_new = not version.exists()
    if is_new and any(not _OURS.fullmatch(path.name) for path in folder.iterdir()):
        raise StoreError(f"{folder} is not empty and not a data folder of this program: name another with --data")
    if not is_new:
        _check_old(folder, version.read_text().strip())
    for name in ("index", "blobs", "spool"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))
    return is_new


def _check_old(folder: Path, version: str) -> None:
    if version != VERSION:
        raise StoreError(
            f"{folder} has format {version[:20]!r}, this program writes {VERSION!r}: "
            "use the program that made it, or another --data folder"
        )
    index = folder / "index" / "cache.db"
    if not index.exists() or not index.stat().st_size:  # SQLite would begin an empty one, and all pins anew
        raise Damaged(f"the index of {folder} is missing or empty: {_RESTORE}")


def _finish(folder: Path) -> None:
    new = folder / f"VERSION.new{os.getpid()}"
    new.write_text(VERSION + "\n")
    sync_file(new)
    os.replace(new, folder / "VERSION")
    sync_folder(folder)


@contextmanager
def _mapped() -> Iterator[None]:
    """Turn the errors of files and SQLite into the mirror's."""
    try:
        yield
    except (OSError, sqlite3.Error, diskcache.Timeout) as error:
        raise store_error(error) from error


def store_error(error: Exception) -> StoreError:
    """Return the mirror's error for one of files or SQLite; its text names no path: clients get to see it."""
    if isinstance(error, diskcache.Timeout) and isinstance(error.__context__, sqlite3.Error):
        error = error.__context__  # diskcache calls every failure to begin a transaction a timeout
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "disk is full" in str(error):
        return StoreFull("the mirror's store is full: make room on its disk")
    if getattr(error, "sqlite_errorcode", None) in _CORRUPT:
        return Damaged(f"the index of the mirror's store is damaged ({error}): {_RESTORE}")
    return StoreError(f"the mirror's store cannot be used: {getattr(error, 'strerror', None) or error}")


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Name the folder in errors of the system: for the operator, at start. Clients are not told of paths."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{error.filename or folder}: {error.strerror}; name another folder with --data") from error


async def _in_thread(work: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(_guarded, work)


def _guarded(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    with _mapped():
        return work(*arguments, **named)
