"""Bodies as files, named by the sha256 of their bytes, and verified against it.

    ab/abcd…   one file for each body

Each process verifies a whole file before using it for the first time, and again whenever it has changed: disks lose
bits, and people copy folders.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread

from .base import Condition, Stamp
from .errors import guarded, mapped, store_error
from .file_reader import read_file

MAX_KNOWN = 100_000  # files whose condition is remembered
READERS = 2  # threads that verify files: that takes a while, and must not use up the shared threads


class VerifiedFiles:
    """The files of a folder. Every method raises StoreError."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._known: OrderedDict[str, tuple[Stamp, bool]] = OrderedDict()  # not a SizedLRU, because threads write to it
        self._checking: dict[str, anyio.Event] = {}
        self._readers: anyio.CapacityLimiter | None = None

    def path(self, digest: str) -> Path:
        """Return the path of a body's file, whether there is one or not."""
        return Path(self._name(digest))

    def _name(self, digest: str) -> str:
        return f"{self._folder}/{digest[:2]}/{digest}"  # a Path takes ten times as long as the stat call

    def condition(self, digest: str, size: int) -> Condition:
        """Return what is known about a file that should have `size` bytes, without reading it."""
        try:  # entering `mapped` would take as long as the call itself
            stamp = self._stamp_of(os.stat(self._name(digest)))
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
        """Return whether there is a file with the right bytes. Concurrent callers share one read."""
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
                before = self._stamp_of(os.fstat(file.fileno()))
                sound = hashlib.file_digest(file, "sha256").hexdigest() == digest
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            before, sound = self._stamp(digest), False  # the disk can no longer read it
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
        """Yield the bytes of a file from `start` to `stop` (exclusive), in chunks."""
        with mapped():  # not in a thread: after `condition` the path is in the system's cache
            fd = os.open(self._name(digest), os.O_RDONLY)
        try:
            async for chunk in read_file(fd, start, stop):
                yield chunk
        finally:
            os.close(fd)

    def _stamp(self, digest: str) -> Stamp:
        """Return a file's stamp. Raises OSError."""
        return self._stamp_of(os.stat(self._name(digest)))

    def _stamp_of(self, stat: os.stat_result) -> Stamp:
        """Return a value that changes whenever the file does: size, inode, mtime and ctime."""
        return Stamp(stat.st_size, (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns))
