"""Blobs as files of a data folder: written atomically, read, and verified (see `verified_files`).

blobs/ab/abcd…   one file for each blob, named by the sha256 of its bytes
lock             a shared lock while a blob and its record are written, exclusive while blobs are removed
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio.to_thread

from httpcache.executors import prestarted_executor

from .base import Stamp
from .errors import guarded, mapped
from .fsync import sync_file, sync_folder
from .locks import PATIENCE, acquire, locked, try_acquire
from .verified_files import VerifiedFiles

WRITERS = 8  # threads that put blobs: they wait for locks and the disk
REMOVED_AT_ONCE = 100  # blobs; freezing waits meanwhile

T = TypeVar("T")


class FileBlobs(VerifiedFiles):
    """The Blobs of a data folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "blobs")
        self._lock = folder / "lock"
        self._threads = prestarted_executor(WRITERS, "store-write")

    @asynccontextmanager
    async def putting(self) -> AsyncIterator[None]:
        """See Blobs."""
        with mapped():
            fd = self._open_lock()
        try:
            if not try_acquire(fd, fcntl.LOCK_SH):  # as a rule it is free, and a thread would take longer
                with anyio.CancelScope(shield=True):  # the thread uses a file that would be closed
                    await self._run(partial(acquire, fd, fcntl.LOCK_SH, time.monotonic() + PATIENCE))
            yield
        finally:
            os.close(fd)

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
        self._note(digest, self._stamp(digest), sound=True)

    async def stamps(self) -> dict[str, Stamp]:
        """See Blobs. Waits until whoever was putting one has written its record."""
        return await anyio.to_thread.run_sync(guarded, self._settled, self._listed)

    async def stamps_of(self, digests: Iterable[str]) -> dict[str, Stamp]:
        """See Blobs."""
        return await anyio.to_thread.run_sync(guarded, self._settled, lambda: digests)

    def _settled(self, digests: Callable[[], Iterable[str]]) -> dict[str, Stamp]:
        stamps = {}
        for digest in digests():
            with suppress(FileNotFoundError):
                stamps[digest] = self._stamp(digest)
        with self._locked(fcntl.LOCK_EX):
            pass  # anyone who put a blob before its stamp was read has written its record by now
        return stamps

    def _listed(self) -> Iterator[str]:
        return (path.name for path in Path(self._folder).glob("??/*"))

    async def remove(self, stamps: Sequence[tuple[str, Stamp]]) -> int:
        """See Blobs. The lock is held for a few removals at a time."""
        return await anyio.to_thread.run_sync(guarded, self._remove, stamps)

    def _remove(self, stamps: Sequence[tuple[str, Stamp]]) -> int:
        freed = 0
        for start in range(0, len(stamps), REMOVED_AT_ONCE):
            with self._locked(fcntl.LOCK_EX):
                for digest, stamp in stamps[start : start + REMOVED_AT_ONCE]:
                    with suppress(FileNotFoundError):
                        if self._stamp(digest) == stamp:  # otherwise it was put again, maybe for another record
                            self.path(digest).unlink()
                            freed += stamp.size
        return freed

    def _open_lock(self) -> int:
        return os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        fd = self._open_lock()
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
