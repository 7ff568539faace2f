"""The embedded store: diskcache as the index, blobs as files beside it.

DIR/
  VERSION          the format of the folder, "1"
  index/           diskcache's SQLite database: the entries
  blobs/ab/abcd…   one file a blob, named by its sha256
  spool/           downloads on their way, see spool.py
  lock             held shared while a blob and its record are written, exclusively while blobs are removed
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
import diskcache

from .errors import StoreError, StoreFull

VERSION = "1"
CHUNK = 256 * 1024
_NEVER = 2**62

T = TypeVar("T")


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
        version of it.
        """
        self.folder = folder
        self._blobs = folder / "blobs"
        self.spool = folder / "spool"
        with _mapped(), _named(folder):
            _prepare(folder)
            # diskcache's defaults evict at 1 GiB and unpickle what they read: for a mirror both are fatal.
            self._index = diskcache.Cache(
                str(folder / "index"),
                timeout=60,
                disk=_BytesDisk,
                eviction_policy="none",
                cull_limit=0,
                size_limit=_NEVER,
                sqlite_synchronous=2,
            )
        # diskcache has a connection for each thread that ever used it, so there must be few threads and always the
        # same. Writers wait for locks and for the disk, and have their own.
        self._readers = ThreadPoolExecutor(4, "store-read")
        self._writers = ThreadPoolExecutor(4, "store-write")

    async def get(self, key: str) -> bytes | None:
        """See Store."""
        return await self._run(self._readers, lambda: self._index.get(key, retry=True))

    async def add(self, key: str, value: bytes) -> bytes:
        """See Store."""
        return await self._run(self._writers, lambda: self._add(key, value))

    def _add(self, key: str, value: bytes) -> bytes:
        if self._index.add(key, value, retry=True):
            return value
        winner: bytes | None = self._index.get(key, retry=True)
        return self._add(key, value) if winner is None else winner  # the operator removed it in between

    async def remove(self, key: str) -> bool:
        """See Store."""
        return await self._run(self._writers, lambda: bool(self._index.delete(key, retry=True)))

    async def entries(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        """See Store."""
        for key in await self._run(self._readers, lambda: self._keys(prefix)):
            value = await self.get(key)
            if value is not None:
                yield key, value

    async def freeze(self, key: str, value: bytes, digest: str, file: Path) -> bytes:
        """See Store."""

        def work() -> bytes:
            with self._locked(fcntl.LOCK_SH):
                self._put_blob(digest, file)
                return self._add(key, value)

        return await self._run(self._writers, work)

    def _put_blob(self, digest: str, file: Path) -> None:
        sync_file(file)
        path = self._blob(digest)
        if not path.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            sync_folder(self._blobs)
        os.replace(file, path)  # the same bytes may be there already; then a damaged copy is mended
        sync_folder(path.parent)

    async def has_blob(self, digest: str, size: int) -> bool:
        """See Store."""

        def work() -> bool:
            try:
                return self._blob(digest).stat().st_size == size
            except FileNotFoundError:
                return False

        return await _in_thread(work)

    async def read_blob(self, digest: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """See Store."""
        fd = await _in_thread(lambda: os.open(self._blob(digest), os.O_RDONLY))
        try:
            async for chunk in read_file(fd, start, stop):
                yield chunk
        finally:
            os.close(fd)

    def blob_path(self, digest: str) -> Path:
        """See Store."""
        return self._blob(digest)

    async def sweep(self, named: Callable[[bytes], str | None]) -> int:
        """See Store."""

        def work() -> int:
            with self._locked(fcntl.LOCK_EX):
                values = (self._index.get(key, retry=True) for key in self._keys("r/"))
                keep = {named(value) for value in values if value is not None}
                spare = [path for path in self._blobs.glob("??/*") if path.name not in keep]
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
        return await asyncio.get_running_loop().run_in_executor(threads, _guarded, work)

    def _blob(self, digest: str) -> Path:
        return self._blobs / digest[:2] / digest


async def read_file(fd: int, start: int, stop: int) -> AsyncIterator[bytes]:
    """Yield the bytes `start` to `stop` of an open file. Raises StoreError where it ends before."""
    while start < stop:
        at, count = start, min(CHUNK, stop - start)
        chunk = await _in_thread(lambda at=at, count=count: os.pread(fd, count, at))  # type: ignore[misc]
        if not chunk:
            raise StoreError("a file of the store is shorter than its record says: restore it from a copy")
        yield chunk
        start += len(chunk)


def sync_file(path: Path) -> None:
    """Make the bytes of a file durable."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _prepare(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    version = folder / "VERSION"
    if version.exists():
        found = version.read_text().strip()
        if found != VERSION:
            raise StoreError(
                f"{folder} has format {found[:20]!r}, this program writes {VERSION!r}: "
                "use the program that made it, or another --data folder"
            )
    elif any(path.name not in ("VERSION.new", "blobs", "spool", "index") for path in folder.iterdir()):
        raise StoreError(f"{folder} is not empty and not a data folder of this program: name another with --data")
    for name in ("index", "blobs", "spool"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    if not version.exists():
        new = folder / "VERSION.new"
        new.write_text(VERSION + "\n")
        sync_file(new)
        os.replace(new, version)
        sync_folder(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))


@contextmanager
def _mapped() -> Iterator[None]:
    """Turn the errors of files and SQLite into the mirror's."""
    try:
        yield
    except (OSError, sqlite3.Error, diskcache.Timeout) as error:
        raise store_error(error) from error


def store_error(error: Exception) -> StoreError:
    """Return the mirror's error for one of files or SQLite; its text names no path: clients get to see it."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "disk is full" in str(error):
        return StoreFull("the mirror's store is full: make room on its disk")
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


def _guarded(work: Callable[[], T]) -> T:
    with _mapped():
        return work()
