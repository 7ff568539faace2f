"""The store: frozen responses and logs, on top of an index and blobs (see `base`).

Small bodies are kept in the index: one transaction, and one flush to the disk, makes both the body and its record
durable. All others are blobs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import cast

from httpcache.errors import Damaged, DamagedBody

from .base import Blobs, Condition, Index, New, RemoteBlobs
from .builds import Builds
from .errors import guarded
from .record import Absence, Entry, Record, columns, decode, encode
from .together import each
from .usage import Usage

SMALL = 16 * 1024  # bytes of a body that the index keeps
CHECKED_AT_ONCE = 1000  # blobs of which the index is asked whether a record has them


class Store:
    """Where frozen responses are kept. Every method raises StoreError, like those of Index and Blobs.

    `spool` is a folder on this machine for downloads. If `read_only`, every method that changes the store raises
    StoreError.
    """

    def __init__(self, index: Index, blobs: Blobs, spool: Path, *, read_only: bool = False) -> None:
        self.index = index
        self.spool = spool
        self.read_only = read_only
        self._blobs = blobs

    @property
    def usage(self) -> Usage:
        """See Index."""
        return self.index.usage

    @property
    def builds(self) -> Builds:
        """See Index."""
        return self.index.builds

    async def get(self, key: str) -> bytes | None:
        """See Index."""
        return await self.index.get(key)

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """See Index."""
        return await self.index.get_many(keys)

    def generation(self) -> Hashable:
        """Return a value that differs after any change of the entries that can change a response, by any process.

        If it is unchanged, a response that was made from the entries earlier would be the same now. So it need not
        change when `freeze` adds a record: before that, no response to the same request could come from the store.
        """
        return self.index.generation()

    async def add(self, key: str, value: bytes) -> bytes:
        """See Index; not for records and absences."""
        return await self.index.add(key, value)

    async def remove(self, key: str) -> bool:
        """See Index."""
        return await self.index.remove(key)

    async def entries(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        """Yield every key that starts with `prefix`, with its value, in the order of the keys."""
        after = ""
        while page := await self.index.page(prefix, after):
            for key, value in page:
                yield key, value
            after = page[-1][0]

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        """Yield every key that starts with `prefix`; their values may be damaged."""
        after = ""
        while page := await self.index.keys(prefix, after):
            for key in page:
                yield key
            after = page[-1]

    async def freeze(self, key: str, record: Record, file: Path) -> Entry:
        """Keep a complete file as the body of a record, and the record under its key unless it has one.

        Both are durable on return. Returns the entry that the key has now. The file may be gone by then.
        """
        if record.size > SMALL:
            async with self._blobs.putting():
                await self._blobs.put(record.digest, file)
                return decode(await self.index.add(key, encode(record), columns(record), counts=False))
        body = guarded(file.read_bytes)  # not in a thread: it was written a moment ago
        return decode(await self.index.add(key, encode(record), columns(record), body, counts=False))

    async def add_many(self, entries: Sequence[New], files: Mapping[str, Path]) -> list[bytes]:
        """Add several entries (see Index), those of records too: with their bodies, or these are in `files`.

        `files` are complete, by digest; each may be gone on return. Everything is durable then.
        """
        if not files:
            return await self.index.add_many(entries)
        async with self._blobs.putting():
            await each(lambda digest: self._blobs.put(digest, files[digest]), list(files))
            return await self.index.add_many(entries)

    async def freeze_absence(self, key: str, absence: Absence) -> Entry:
        """Keep an absence under its key unless it has an entry. Returns the entry it has now, which is durable."""
        return decode(await self.index.add(key, encode(absence), columns(absence)))

    def condition(self, digest: str, size: int) -> Condition:
        """Return what is known about a body that should have `size` bytes, without reading it."""
        condition = self._blobs.condition(digest, size)
        may_be_small = size <= SMALL and condition in (Condition.BROKEN, Condition.REMOTE)
        return Condition.UNREAD if may_be_small else condition

    async def check(self, digest: str, size: int) -> bool:
        """Return whether a body exists with the right bytes. Reads all of it if its condition is not known."""
        try:
            return await self.small_body(digest, size) is not None or await self._blobs.check(digest, size)
        except Damaged:
            return False

    async def small_body(self, digest: str, size: int) -> bytes | None:
        """Return a body that the index keeps, or None if it does not keep this one. Raises Damaged."""
        body = await self.index.body(digest) if size <= SMALL else None
        if body is not None and (len(body) != size or sha256(body).hexdigest() != digest):
            raise DamagedBody(f"the bytes with sha256 {digest} are damaged in the store's index: request them again")
        return body

    async def read_body(self, digest: str, size: int, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes of a body of `size` bytes from `start` to `stop` (exclusive), in chunks."""
        body = await self.small_body(digest, size)
        if body is None:
            async for chunk in self._blobs.read(digest, start, stop):
                yield chunk
        elif start < stop:
            yield body[start:stop]

    async def recall(self, digest: str) -> AsyncIterator[bytes]:
        """See RemoteBlobs; only for a body whose condition is REMOTE."""
        async for chunk in self._remote.recall(digest):
            yield chunk

    async def keep(self, digest: str, file: Path) -> None:
        """See RemoteBlobs."""
        await self._remote.keep(digest, file)

    async def presigned(self, digest: str) -> str | None:
        """See RemoteBlobs."""
        return await self._remote.presigned(digest)

    def note_damage(self, digest: str, size: int) -> None:
        """See RemoteBlobs."""
        self._remote.note_damage(digest, size)

    @property
    def _remote(self) -> RemoteBlobs:
        return cast("RemoteBlobs", self._blobs)

    def blob_path(self, digest: str) -> Path:
        """Return the path of a body's file; a small body has none."""
        return self._blobs.path(digest)

    async def collect(self, digests: Iterable[str] | None = None) -> int:
        """Remove the bodies that no record names: of these, or of all. Returns the number of bytes freed.

        That is safe while others freeze: a blob that is put again after its stamp was read has another stamp by then.
        """
        wanted = None if digests is None else list(digests)
        stamps = await (self._blobs.stamps() if wanted is None else self._blobs.stamps_of(wanted))
        freed = await self.index.remove_bodies(list(await self.index.unused_bodies()) if wanted is None else wanted)
        found = list(stamps.items())
        for start in range(0, len(found), CHECKED_AT_ONCE):
            part = dict(found[start : start + CHECKED_AT_ONCE])
            unused = await self.index.unused(part)
            freed += await self._blobs.remove([(digest, part[digest]) for digest in part if digest in unused])
        return freed

    async def garbage(self) -> dict[str, int]:
        """Return the sizes, in bytes, of the bodies that `collect` would remove now, by digest."""
        stamps = await self._blobs.stamps()
        found = await self.index.unused_bodies()
        unused = await self.index.unused(stamps)
        return found | {digest: stamps[digest].size for digest in unused}

    def use_reserve(self) -> bool:
        """Give up disk space that was set aside, so that something can be removed. Returns whether there was some."""
        return False

    async def problems(self) -> list[str]:
        """See Index."""
        return await self.index.problems()
