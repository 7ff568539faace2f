"""Blobs as files: written atomically, read, and verified against the digest in their name.

    blobs/ab/abcd…   one file for each blob, named by the sha256 of its bytes

Each process verifies the whole blob before serving it for the first time, and again whenever the file has changed:
disks lose bits, and people copy stores.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread

from .base import Condition
from .fsync import sync_file, sync_folder

MAX_KNOWN = 100_000  # blobs whose condition is remembered
READERS = 2  # threads that verify blobs: that takes a while, and must not use up the shared threads

Stamp = tuple[int, int, int, int]


class Blobs:
    """The blobs in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._known: OrderedDict[str, tuple[Stamp, bool]] = OrderedDict()  # not a SizedLRU, because threads write to it
        self._checking: dict[str, anyio.Event] = {}
        self._readers: anyio.CapacityLimiter | None = None

    def path(self, digest: str) -> Path:
        """Return the path of a blob's file."""
        return Path(self._name(digest))

    def _name(self, digest: str) -> str:
        return f"{self._folder}/{digest[:2]}/{digest}"  # a Path takes ten times as long as the stat call

    def put(self, digest: str, file: Path) -> None:
        """Move in a file whose bytes have this digest. Durable on return."""
        sync_file(file)
        path = self.path(digest)
        if not path.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            sync_folder(Path(self._folder))
        os.replace(file, path)  # the blob may exist already; this repairs a damaged one
        sync_folder(path.parent)
        self._note(digest, _stamp(path), sound=True)

    def condition(self, digest: str, size: int) -> Condition:
        """Return what is known about a blob without reading it."""
        try:
            stamp = _stamp(self._name(digest))
        except FileNotFoundError:
            return Condition.BROKEN
        if stamp[1] != size:
            return Condition.BROKEN
        known = self._known.get(digest)
        if known is None or known[0] != stamp:
            return Condition.UNREAD
        return Condition.SOUND if known[1] else Condition.BROKEN

    async def check(self, digest: str, size: int) -> bool:
        """Return whether the blob has the right bytes. Reads it if unknown; concurrent callers share one read."""
        while (condition := self.condition(digest, size)) is Condition.UNREAD:
            if digest in self._checking:
                await self._checking[digest].wait()
                continue
            done = self._checking[digest] = anyio.Event()
            try:
                await anyio.to_thread.run_sync(self._read_whole, digest, limiter=self._limiter())
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

    def stamps(self) -> Iterator[tuple[str, Stamp]]:
        """Yield the digest of every blob, with the stamp of its file."""
        for path in Path(self._folder).glob("??/*"):
            with suppress(FileNotFoundError):
                yield path.name, _stamp(path)

    def remove(self, digest: str, stamp: Stamp) -> int:
        """Remove a blob if its file still has this stamp. Returns the number of bytes freed."""
        path = self.path(digest)
        with suppress(FileNotFoundError):
            if _stamp(path) == stamp:
                path.unlink()
                return stamp[1]
        return 0


def _stamp(path: str | Path) -> Stamp:
    return _stamp_of(os.stat(path))


def _stamp_of(stat: os.stat_result) -> Stamp:
    """Return a value that changes whenever the file does: inode, size, mtime and ctime."""
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
