"""A node's bounded cache of bodies that are kept elsewhere, shared by its processes. It may be deleted at any time.

    kept/cache.db    diskcache's database: which bodies there are, how large, and when they were used
    kept/…           their files, which diskcache deletes when it evicts them
    bodies/ab/abcd…  a second name (a hard link) of each, by the sha256 of its bytes, under which it is read
    new/             bodies that are being downloaded

A file with one name only is leaving: it does not count as cached any more. Its name is deleted a while later, so that
whoever has just been given the path can still open it.

Nothing here fails a request: what cannot be cached is read from where it is kept.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import diskcache

from httpcache.errors import StoreError
from httpcache.executors import prestarted_executor, shut_down

from .base import Condition, Stamp
from .disk_cache import FAILURES, BytesDisk, open_cache
from .verified_files import VerifiedFiles

LEAVING = 60.0  # seconds that an evicted file can still be opened
ABANDONED = 3600.0  # seconds without a write, after which a download is of a process that has ended
NOTE_EVERY = 10.0  # seconds between two notes of what was used
SWEEP_EVERY = 60.0  # seconds between two looks for files that have left

_HELD = re.compile("[0-9a-f]{32}")  # a file in kept/

log = logging.getLogger("httpcache")


class LocalCache(VerifiedFiles):
    """The cache. A body that it does not have is BROKEN."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Open the cache in a folder of its own, in the process that uses it. `limit` is in bytes.

        The limit can be exceeded for a while, by files that are leaving or arriving.
        """
        super().__init__(folder / "bodies")
        self._kept = folder / "kept"
        self._new = folder / "new"
        self._limit = limit
        self._used: set[str] = set()
        self._noted = time.monotonic()
        self._swept = -SWEEP_EVERY
        self._warned = False
        self._index: diskcache.Cache | None = None  # of the one thread
        self._thread = prestarted_executor(1, "body-cache")
        self._thread.submit(self._try, self._sweep)

    def condition(self, digest: str, size: int) -> Condition:
        """See VerifiedFiles. Counts as a use."""
        try:
            found = super().condition(digest, size)
        except StoreError:
            return Condition.BROKEN
        if found is not Condition.BROKEN:
            self._used.add(digest)
            if time.monotonic() > self._noted + NOTE_EVERY:
                self._noted = time.monotonic()
                self._thread.submit(self._try, self._note_used)
        return found

    async def check(self, digest: str, size: int) -> bool:
        """See VerifiedFiles."""
        try:
            return await super().check(digest, size)
        except StoreError:
            return False

    async def has(self, digest: str) -> bool:
        """Return whether a body is here, and its bytes are right."""
        try:
            size = self._stamp(digest).size
        except OSError:
            return False
        return await self.check(digest, size)

    def create(self) -> Path:
        """Create a file for a body that is to be kept. Raises OSError."""
        self._new.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._new / secrets.token_hex(16)
        path.touch(exist_ok=False)
        return path

    async def keep(self, digest: str, file: Path) -> None:
        """See RemoteBlobs."""
        await self._run(partial(self._keep, digest, file))
        await self._run(partial(file.unlink, missing_ok=True))

    async def drop(self, digests: Iterable[str]) -> None:
        """Let bodies leave."""
        await self._run(partial(self._drop, list(digests)))

    async def _run(self, work: Callable[[], object]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._try, work)

    def close(self) -> None:
        """Wait for what is being kept."""
        shut_down(self._thread, 1, self._disconnect)

    # In the thread

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except FAILURES as error:
            with suppress(*FAILURES):
                self._disconnect()  # the next attempt opens it anew: it may have been deleted, or be damaged
            if not self._warned:
                self._warned = True
                log.warning("the cache of bodies cannot be used, so they are read from the object store: %s", error)

    def _opened(self) -> diskcache.Cache:
        if self._index is None:
            self._index = open_cache(self._kept, self._limit, _Held)
        return self._index

    def _disconnect(self) -> None:
        index, self._index = self._index, None
        if index is not None:
            index.close()

    def _keep(self, digest: str, file: Path) -> None:
        if file.stat().st_size > self._limit:
            return
        index = self._opened()
        held = self._kept / secrets.token_hex(16)
        try:
            shutil.move(file, held)
            index.set(digest, str(held))
        except BaseException:
            held.unlink(missing_ok=True)
            raise
        with suppress(FileNotFoundError):  # another process has evicted it already
            with index.transact():  # nobody sweeps
                self._link(held, self.path(digest))
            self._note(digest, self._stamp(digest), sound=True)
        index.cull()
        self._sweep()

    def _link(self, held: Path, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_name(held.name)
        os.link(held, new)
        os.replace(new, path)

    def _drop(self, digests: Iterable[str]) -> None:
        for digest in digests:
            self._opened().delete(digest)

    def _note_used(self) -> None:
        used, self._used = self._used, set()
        index = self._opened()
        with index.transact():
            for digest in list(used):  # the event loop may have it still
                index.get(digest)
        self._sweep()

    def _sweep(self) -> None:
        """Delete the files that have left, and what processes that were killed have left behind."""
        if time.monotonic() < self._swept + SWEEP_EVERY:
            return
        self._swept = time.monotonic()
        now = time.time()
        names = [
            *Path(self._folder).glob("??/*"),
            *(path for path in self._kept.glob("*") if _HELD.fullmatch(path.name)),
        ]
        leaving = [path for path in names if _is_single(path, now - LEAVING)]
        leaving += [path for path in self._new.glob("*") if _is_single(path, now - ABANDONED)]
        if leaving:
            with self._opened().transact():  # nobody links a name
                for path in leaving:
                    if _is_single(path, now - LEAVING):
                        path.unlink(missing_ok=True)

    def _stamp_of(self, stat: os.stat_result) -> Stamp:
        if stat.st_nlink < 2:
            raise FileNotFoundError("the file is leaving")
        return super()._stamp_of(stat)


class _Held(BytesDisk):
    """Takes files that are in its folder already, by their paths, and does not read them."""

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, str | None, bytes | None]:
        path = Path(str(value))
        return path.stat().st_size, diskcache.core.MODE_BINARY, path.name, None

    def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> str:
        return filename or ""


def _is_single(path: Path, before: float) -> bool:
    """Whether a file has no second name, and nothing was done to it since."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return False
    return stat.st_nlink == 1 and stat.st_ctime < before
