"""Blobs as files: written atomically, read, and verified against the digest in their name.

    blobs/ab/abcd…   one file for each blob, named by the sha256 of its bytes
    lock             a shared lock while a blob and its record are written, exclusive while blobs are removed

Each process verifies the whole blob before serving it for the first time, and again whenever the file has changed:
disks lose bits, and people copy stores.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from httpcache.executors import prestarted_executor

from .base import Condition, Stamp
from .errors import guarded, mapped, store_error
from .file_reader import read_file
from .fsync import sync_file, sync_folder
from .locks import PATIENCE, locked

MAX_KNOWN = 100_000  # blobs whose condition is remembered
READERS = 2  # threads that verify blobs: that takes a while, and must not use up the shared threads
WRITERS = 8  # threads that put blobs: they wait for locks and the disk
REMOVED_AT_ONCE = 100  # blobs; freezing waits meanwhile

T = TypeVar("T")


class FileBlobs:
    """The Blobs of a data folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder / "blobs")
        self._lock = folder / "lock"
        self._known: OrderedDict[str, tuple[Stamp, bool]] = OrderedDict()  # not a SizedLRU, because threads write to it
        self._checking: dict[str, anyio.Event] = {}
        self._readers: anyio.CapacityLimiter | None = None
        self._threads = prestarted_executor(WRITERS, "store-write")

    def path(self, digest: str) -> Path:
        """See Blobs."""
        return Path(self._name(digest))

    def _name(self, digest: str) -> str:
        return f"{self._folder}/{digest[:2]}/{digest}"  # a Path takes ten times as long as the stat call

    @asynccontextmanager
    async def putting(self) -> AsyncIterator[None]:
        """See Blobs."""
        lock = self._locked(fcntl.LOCK_SH)
        await self._run(lock.__enter__)
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    async def put(self, digest: str, file: Path) -> None:
        """See Blobs."""
        await self._run(partial(self._put, digest, file))

    def _put(self, digest: str, file: Path) -> None:
        sync_file(file)
        path = self.path(digest)
        if not path.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            sync_folder(Path(self._folder))
        os.replace(file, path)  # the blob may exist already; this repairs a damaged one
        sync_folder(path.parent)
        self._note(digest, _stamp(path), sound=True)

    def condition(self, digest: str, size: int) -> Condition:
        """See Blobs."""
        try:  # entering `mapped` would take as long as the call itself
            stamp = _stamp(self._name(digest))
        except FileNotFoundError:
            return Condition.BROKEN
        except OSError as error:
            raise store_error(error) from error
        if stamp.size != size:
            return Condition.BROKEN
        known = self._known.get(digest)
        if known is None or known[0] != stamp:
            return Condition.UNREAD
        return Condition.SOUND if known[1] else Condition.BROKEN

    async def check(self, digest: str, size: int) -> bool:
        """See Blobs. Concurrent callers share one read."""
        while (condition := self.condition(digest, size)) is Condition.UNREAD:
            if digest in self._checking:
                await self._checking[digest].wait()
                continue
            done = self._checking[digest] = anyio.Event()
            try:
                await anyio.to_thread.run_sync(guarded, self._read_whole, digest, limiter=self._limiter())
            finally:
                del self._checking[digest]
                done.set()
        return condition is Condition.SOUND

    def _read_whole(self, digest: str) -> None:
        try:
            with self.path(digest).open("rb") as file:
                before = _stamp_of(os.fstat(file.fileno()))
                sound = hashlib.file_digest(file, "sha256").hexdigest() == digest
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            before, sound = _stamp(self.path(digest)), False  # the disk can no longer read it
        self._note(digest, before, sound=sound)

    def _note(self, digest: str, stamp: Stamp, *, sound: bool) -> None:
        self._known[digest] = (stamp, sound)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def _limiter(self) -> anyio.CapacityLimiter:
        if self._readers is None:
            self._readers = anyio.CapacityLimiter(READERS)
        return self._readers

    async def read(self, digest: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """See Blobs."""
        with mapped():  # not in a thread: after `condition` the path is in the system's cache
            fd = os.open(self._name(digest), os.O_RDONLY)
        try:
            async for chunk in read_file(fd, start, stop):
                yield chunk
        finally:
            os.close(fd)

    async def stamps(self) -> dict[str, Stamp]:
        """See Blobs."""
        return await anyio.to_thread.run_sync(guarded, self._settled, self._listed)

    async def stamps_of(self, digests: Iterable[str]) -> dict[str, Stamp]:
        """See Blobs."""
        return await anyio.to_thread.run_sync(guarded, self._settled, lambda: map(self.path, digests))

    def _settled(self, paths: Callable[[], Iterable[Path]]) -> dict[str, Stamp]:
        stamps = {}
        for path in paths():
            with suppress(FileNotFoundError):
                stamps[path.name] = _stamp(path)
        with self._locked(fcntl.LOCK_EX):
            pass  # anyone who put a blob before its stamp was read has written its record by now
        return stamps

    def _listed(self) -> Iterator[Path]:
        return Path(self._folder).glob("??/*")

    async def remove(self, stamps: Sequence[tuple[str, Stamp]]) -> int:
        """See Blobs. The lock is held for a few removals at a time."""
        return await anyio.to_thread.run_sync(guarded, self._remove, stamps)

    def _remove(self, stamps: Sequence[tuple[str, Stamp]]) -> int:
        freed = 0
        for start in range(0, len(stamps), REMOVED_AT_ONCE):
            with self._locked(fcntl.LOCK_EX):
                for digest, stamp in stamps[start : start + REMOVED_AT_ONCE]:
                    path = self.path(digest)
                    with suppress(FileNotFoundError):
                        if _stamp(path) == stamp:  # otherwise it was put again, maybe for another record
                            path.unlink()
                            freed += stamp.size
        return freed

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        fd = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with locked(fd, kind, time.monotonic() + PATIENCE):
                yield
        finally:
            os.close(fd)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, guarded, work)

    def close(self) -> None:
        """Wait until all that is being put is there."""
        self._threads.shutdown()


def _stamp(path: str | Path) -> Stamp:
    return _stamp_of(os.stat(path))


def _stamp_of(stat: os.stat_result) -> Stamp:
    """Return a value that changes whenever the file does: size, inode, mtime and ctime."""
    return Stamp(stat.st_size, (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns))
