"""Downloads on their way: who of several processes fetches a key, and where its bytes can be read as they arrive.

spool/
  <key>.lock      held by the process that fetches the key; the kernel lets go of it when that process dies; its time
                  is set anew every few seconds, which a process that hangs does not do
  <key>.head      what the others need to follow: the head of the answer, and the name of the part
  <key>.<n>.part  the bytes so far; becomes the blob
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

import anyio
import msgspec

from httpcache.errors import StoreError

BATCH = 1024 * 1024  # bytes of a body that may wait to be written; the fewer there are, the more handing over costs
WAITING = 32 * BATCH  # bytes that may wait of all bodies together; the threads may have as many once more
SYNCED = 64 * BATCH  # bytes after which the disk is asked for them: it must not be given all at the end, when all wait
PIECE = 256  # bytes that a piece takes besides its own
_PART = re.compile(r"[0-9a-f]+\.[0-9a-f]+\.part")


class Head(msgspec.Struct, frozen=True):
    """The head of an answer that is being downloaded.

    `url` is the address after redirects; `length` the announced number of bytes; `scope` tells which credentials it
    took, `varies` the `Accept` by which the upstream varies it, and `place` stands for `url` with its query (see
    Record); `part` is the name of the file that the body is written to.
    """

    status: int
    headers: dict[str, str]
    url: str
    length: int | None
    scope: str
    varies: str
    place: str
    part: str


class Holder(NamedTuple):
    """A process that holds a key: the number of its lock file, and when it last showed that it does not hang."""

    inode: int
    beat: int


class Claim:
    """The right to download a key, held until `release`."""

    def __init__(self, folder: Path, key: str, fd: int) -> None:
        self._folder = folder
        self._key = key
        self._fd = fd
        self.part = folder / f"{key}.{secrets.token_hex(8)}.part"

    def beat(self) -> None:
        """Show the others that this process does not hang."""
        with suppress(OSError):  # then it looks as if it did, and somebody else fetches the key too
            os.utime(self._fd)

    def publish(self, head: Head) -> None:
        """Let other processes see the head and follow the part, unless one of them has taken over."""
        if not self._is_ours():
            return
        new = self._folder / f"{self._key}.head.new"
        new.write_bytes(msgspec.msgpack.encode(head))
        os.replace(new, self._folder / f"{self._key}.head")

    def release(self) -> None:
        """Remove what is left of the download and let the next one begin."""
        try:
            self.part.unlink(missing_ok=True)
            for kind in ("head.new", "head", "lock") if self._is_ours() else ():
                (self._folder / f"{self._key}.{kind}").unlink(missing_ok=True)
        finally:
            os.close(self._fd)  # lets go of the key, whatever the disk says

    def _is_ours(self) -> bool:
        return _is_same_file(self._fd, self._folder / f"{self._key}.lock")


class Writer:
    """Writes a body to its part in a thread, and takes more of it meanwhile, up to BATCH bytes or its share of WAITING.

    What has come by the time the thread is free is the next batch. Another thread has the disk write meanwhile: at most
    twice SYNCED bytes are not on it.
    """

    _count = 0

    def __init__(
        self,
        threads: Executor,
        fd: int,
        first: Callable[[], object] | None,
        see: Callable[[bytes], object],
        told: Callable[[int], object],
    ) -> None:
        """`threads` has all its threads already (executors.py).

        In the thread, `first`, if given, is called before anything is written, and `see` is given every piece.
        `told` is told how many bytes the part has by now.
        """
        self.taken = 0
        self._threads = threads
        self._fd = fd
        self._see = see
        self._told = told
        self._work: list[Callable[[], object]] = [first] if first else []
        self._waiting = 0  # bytes that the thread has yet to be given
        self._batch: asyncio.Future[None] | None = None
        self._synced = 0  # bytes that there were when the disk was asked for them last
        self._sync: asyncio.Future[None] | None = None
        self._error: BaseException | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Take pieces inside the block. At its end all are written; after it nothing is, whatever ended it."""
        Writer._count += 1
        try:
            yield self
            await self._until(0, 0)
        finally:
            Writer._count -= 1
            self._work.clear()
            with anyio.CancelScope(shield=True):  # threads have the number of a file that is about to be closed
                while under_way := self._batch or self._sync:
                    await asyncio.wait([under_way])

    async def take(self, piece: bytes) -> None:
        """Take a piece, and wait while too much of the body waits. Raises OSError for this piece or one before."""
        self.taken += len(piece)
        self._waiting += len(piece) + PIECE
        self._work.append(partial(self._write, piece))
        if self._batch is None and self._error is None:
            self._start()
        await self._until(min(BATCH, WAITING // Writer._count), 2 * SYNCED)
        await asyncio.sleep(0)  # an upstream with many small pieces must not keep all others waiting

    async def _until(self, waiting: int, unsynced: int) -> None:
        while self._batch and self._waiting >= waiting:
            await asyncio.wait([self._batch])
        while self._sync and self.taken - self._synced >= unsynced:
            await asyncio.wait([self._sync])
        if self._error:
            raise self._error

    def _start(self) -> None:
        work, self._work, self._waiting = self._work, [], 0
        self._batch = asyncio.get_running_loop().run_in_executor(self._threads, _do, work)
        self._batch.add_done_callback(partial(self._ended, self.taken))

    def _ended(self, written: int, batch: asyncio.Future[None]) -> None:
        self._batch, self._error = None, self._error or batch.exception()
        if self._error is None:
            self._told(written)
            if self._sync is None and written - self._synced >= SYNCED:
                self._start_sync(written)
            if self._work:
                self._start()

    def _start_sync(self, written: int) -> None:
        self._synced = written
        # In one of the loop's threads: those that write small bodies would wait for the disk with this one. Where it
        # cannot be started all is asked for at the end, as of small bodies.
        with suppress(RuntimeError):
            self._sync = asyncio.get_running_loop().run_in_executor(None, os.fdatasync, self._fd)
            self._sync.add_done_callback(self._sync_ended)

    def _sync_ended(self, sync: asyncio.Future[None]) -> None:
        self._sync, self._error = None, self._error or sync.exception()  # a disk tells of a fault only once

    def _write(self, piece: bytes) -> None:
        self._see(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(self._fd, view) :]


class Spool:
    """A folder of downloads, shared by the processes of one machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def claim(self, key: str) -> Claim | None:
        """Return the right to download a key, None where another process has it."""
        path = self._folder / f"{key}.lock"
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return None
            if _is_same_file(fd, path):
                claim = Claim(self._folder, key, fd)
                try:
                    self._remove_left(key)
                except OSError:
                    claim.release()
                    raise
                return claim
            os.close(fd)  # its last holder removed the name between our open and our lock

    def holder(self, key: str) -> Holder | None:
        """Return the process that is downloading the key as far as it shows, None where there is none."""
        try:
            fd = os.open(self._folder / f"{key}.lock", os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            found = os.fstat(fd)
            return Holder(found.st_ino, found.st_mtime_ns)
        else:
            return None
        finally:
            os.close(fd)

    def take_over(self, key: str, holder: Holder) -> None:
        """Let somebody else download a key whose holder hangs.

        If that one comes back it goes on, and freezes what it has unless another was first.
        """
        path = self._folder / f"{key}.lock"
        with suppress(FileNotFoundError):
            if path.stat().st_ino == holder.inode:
                path.unlink()

    def follow(self, key: str) -> tuple[Head, int] | None:
        """Return the head of a download of another process and an open part, None while there is none.

        Raises StoreError where the head is damaged.
        """
        try:
            head = self._head(key)
            return head, os.open(self._folder / head.part, os.O_RDONLY)
        except FileNotFoundError:
            return None

    def _head(self, key: str) -> Head:
        try:
            head = msgspec.msgpack.decode((self._folder / f"{key}.head").read_bytes(), type=Head)
            if not _PART.fullmatch(head.part):
                raise ValueError(f"{head.part!r} is no part")
        except ValueError as error:  # those of msgspec and of UTF-8 are some
            raise StoreError(f"a file of the spool is damaged ({error}): ask again") from error
        return head

    def clean(self) -> None:
        """Remove what processes that died have left."""
        for path in self._folder.iterdir():
            claim = self.claim(path.name.partition(".")[0])
            if claim is not None:
                path.unlink(missing_ok=True)
                claim.release()

    def _remove_left(self, key: str) -> None:
        """Remove what the last holder of a key left, if it died; the folder may be full of others' files."""
        with suppress(FileNotFoundError, StoreError):
            (self._folder / self._head(key).part).unlink(missing_ok=True)
        for kind in ("head.new", "head"):
            (self._folder / f"{key}.{kind}").unlink(missing_ok=True)


def _do(work: list[Callable[[], object]]) -> None:
    for each in work:
        each()


def _is_same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
