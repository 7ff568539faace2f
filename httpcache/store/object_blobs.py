"""Blobs in an object store that several machines share, with a cache on each machine's disk.

    ab/abcd…   one object for each blob, named by the sha256 of its bytes

Nobody holds a lock while a blob is put and its record written. Instead, only objects older than GRACE are taken for
blobs that no record names; and whoever puts a blob whose object is older than half of that writes it again. So the time
between the two must be shorter than the other half, less what the clocks of the machines differ by.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from copy import copy
from pathlib import Path
from typing import BinaryIO

import anyio
import anyio.to_thread

from httpcache.errors import Damaged, StoreError
from httpcache.lru import SizedLRU

from .base import Condition, Stamp
from .errors import guarded
from .file_reader import CHUNK
from .local_cache import LocalCache
from .objects import PATIENCE, Objects, age
from .together import each

GRACE = 3600.0  # seconds
BROKEN_SECONDS = 10.0  # how long a blob counts as broken: another process may have put it again
BROKEN_ENTRIES = 10_000
UPLOADS = 4  # at once; each holds some parts in memory

_OURS = re.compile("[0-9a-f]{2}/[0-9a-f]{64}")


class ObjectBlobs:
    """The Blobs of an object store; they are RemoteBlobs."""

    def __init__(self, address: str, cache: LocalCache, *, grace: float = GRACE, patience: float = PATIENCE) -> None:
        """Open them (see `Objects`). `grace` is in seconds; so is `patience`, for the object store to answer."""
        self._objects = Objects(address, patience)
        self._cache = cache
        self._grace = grace
        self._broken: SizedLRU[tuple[str, int], float] = SizedLRU(BROKEN_ENTRIES)  # until when it counts as broken
        self._fetching: dict[tuple[str, int], _Fetch] = {}
        self._uploads = anyio.CapacityLimiter(UPLOADS)

    @asynccontextmanager
    async def putting(self) -> AsyncIterator[None]:
        """See Blobs. Needs nothing: what was put a moment ago is not removed."""
        yield

    async def put(self, digest: str, file: Path) -> None:
        """See Blobs."""
        size = guarded(file.stat).st_size
        async with self._uploads:
            if await self._is_due(digest, size):
                await self._objects.put(_name(digest), file, size)
        if self._broken.get((digest, size)):
            self._broken.drop((digest, size))
        await self.keep(digest, file)

    async def _is_due(self, digest: str, size: int) -> bool:
        """Whether a blob must be written, though it may exist."""
        if self._objects.folder or self._broken.get((digest, size)):
            return True  # in a folder, a power cut can have left a name without its bytes
        stamp = await self._objects.stamp(_name(digest))
        return stamp is None or stamp.size != size or age(stamp) > self._grace / 2

    def condition(self, digest: str, size: int) -> Condition:
        """See Blobs."""
        found = self._cache.condition(digest, size)
        if found is not Condition.BROKEN:
            return found
        return Condition.BROKEN if self._is_broken(digest, size) else Condition.REMOTE

    def _is_broken(self, digest: str, size: int) -> bool:
        return (self._broken.get((digest, size)) or 0.0) > time.monotonic()

    async def check(self, digest: str, size: int) -> bool:
        """See Blobs. Concurrent callers share one download, and its error."""
        while not await self._cache.check(digest, size):
            if self._is_broken(digest, size):
                return False
            fetch = self._fetching.get((digest, size))
            if fetch is None:
                return await self._fetch_shared(digest, size)
            await fetch.done.wait()
            if fetch.error:
                raise copy(fetch.error)
            if fetch.sound is not None:  # else it was cancelled
                return fetch.sound
        return True

    async def _fetch_shared(self, digest: str, size: int) -> bool:
        fetch = self._fetching[digest, size] = _Fetch()
        try:
            fetch.sound = await self._fetch(digest, size)
        except StoreError as error:
            fetch.error = error
            raise
        finally:
            del self._fetching[digest, size]
            fetch.done.set()
        if not fetch.sound:
            self.note_damage(digest, size)
        return fetch.sound

    async def _fetch(self, digest: str, size: int) -> bool:
        """Download a blob into the cache. Returns whether its bytes are right."""
        stamp = await self._objects.stamp(_name(digest))
        if stamp is None or stamp.size != size:
            return False
        with _Download(self._cache) as download:
            try:
                async for chunk in self.recall(digest):
                    await anyio.to_thread.run_sync(download.write, chunk)
            except Damaged:
                return False
            if download.sha256.hexdigest() != digest:
                return False
            if file := download.finished():
                await self.keep(digest, file)
        return True

    async def read(self, digest: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """See Blobs. What is cached is verified first."""
        if await self._cache.has(digest):
            with suppress(StoreError):  # the rest comes from the object store
                async for chunk in self._cache.read(digest, start, stop):
                    yield chunk
                    start += len(chunk)
                return
        async for chunk in self._objects.read(_name(digest), CHUNK, start, stop):
            yield chunk

    def recall(self, digest: str) -> AsyncIterator[bytes]:
        """See RemoteBlobs."""
        return self._objects.read(_name(digest), CHUNK)

    async def presigned(self, digest: str) -> str | None:
        """See RemoteBlobs."""
        return await self._objects.presigned(_name(digest))

    def note_damage(self, digest: str, size: int) -> None:
        """See RemoteBlobs."""
        self._broken.put((digest, size), time.monotonic() + BROKEN_SECONDS)

    async def keep(self, digest: str, file: Path) -> None:
        """See RemoteBlobs."""
        await self._cache.keep(digest, file)

    def path(self, digest: str) -> Path:
        """See Blobs."""
        return self._cache.path(digest)

    async def stamps(self) -> dict[str, Stamp]:
        """See Blobs."""
        found = {}
        async for name, stamp in self._objects.stamps():
            if _OURS.fullmatch(name) and self._is_settled(stamp):
                found[name.rpartition("/")[2]] = stamp
        return found

    async def stamps_of(self, digests: Iterable[str]) -> dict[str, Stamp]:
        """See Blobs."""
        wanted = list(digests)
        stamps = await each(lambda digest: self._objects.stamp(_name(digest)), wanted)
        return {
            digest: stamp for digest, stamp in zip(wanted, stamps, strict=True) if stamp and self._is_settled(stamp)
        }

    def _is_settled(self, stamp: Stamp) -> bool:
        """Whether the record of a blob has been written, if there is to be one."""
        return age(stamp) >= self._grace

    async def remove(self, stamps: Sequence[tuple[str, Stamp]]) -> int:
        """See Blobs. Those that other machines have cached are evicted there in time."""
        freed = await each(lambda item: self._remove(*item), stamps)
        await self._cache.drop([digest for (digest, _), size in zip(stamps, freed, strict=True) if size is not None])
        return sum(size or 0 for size in freed)

    async def _remove(self, digest: str, stamp: Stamp) -> int | None:
        """Return the size of what was removed, or None if it has another stamp by now."""
        if await self._objects.stamp(_name(digest)) != stamp or not self._is_settled(stamp):
            return None
        await self._objects.delete(_name(digest))
        return stamp.size

    def close(self) -> None:
        """Wait until all that is being kept is there."""
        self._cache.close()


def _name(digest: str) -> str:
    return f"{digest[:2]}/{digest}"


class _Fetch:
    """A download that several wait for, and its outcome."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.sound: bool | None = None
        self.error: StoreError | None = None


class _Download:
    """A body that is being written to the cache and hashed; to the cache only as far as it can be written to."""

    def __init__(self, cache: LocalCache) -> None:
        self.sha256 = hashlib.sha256()
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        with suppress(OSError):
            self._path = cache.create()
            self._file = self._path.open("wb", buffering=0)

    def write(self, chunk: bytes) -> None:
        """Take a piece; to be called in a thread."""
        self.sha256.update(chunk)
        if self._file:
            written = 0
            with suppress(OSError):
                written = self._file.write(chunk)
            if written < len(chunk):
                self._discard()

    def finished(self) -> Path | None:
        """Return the file, which is the caller's now, if all pieces are in it."""
        if self._file is None:
            return None
        self._file.close()
        path, self._path = self._path, None
        return path

    def __enter__(self) -> _Download:
        return self

    def __exit__(self, *error: object) -> None:
        self._discard()

    def _discard(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
        if self._path:
            with suppress(OSError):
                self._path.unlink()
