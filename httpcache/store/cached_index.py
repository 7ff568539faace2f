"""An index on other machines, with what was read of it kept in this process for as long as nothing changes there."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from hashlib import sha256

from httpcache.lru import SizedLRU

from .base import PAGE, Columns, Index, Listed, New, PinTotals, Place, Range, Sized
from .builds import Builds
from .keys import LOGS, RECORDS
from .leaves import Leaf
from .usage import Usage

VALUES = 32 * 1024 * 1024  # bytes of values
BODIES = 32 * 1024 * 1024  # bytes of small bodies
PAGES = 8 * 1024 * 1024  # bytes of pages of logs
ENDS = 8  # logs that are read on in together
OVERHEAD = 400  # bytes that a kept value takes besides its own


class CachedIndex:
    """An Index that asks another one only for what it does not know.

    Values and pages of logs count as long as the generation is the same; while it is not known, all are asked for. A
    body counts for ever: it is named by its digest, and was compared with it.

    Whoever reads on in a log after a change will as a rule read on in the others that it has read last, such as that of
    the rules. So the first request asks for what is new in all of them.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._generation: Hashable = None
        self._values: SizedLRU[str, tuple[bytes | None]] = SizedLRU(VALUES)
        self._pages: SizedLRU[Range, list[tuple[str, bytes]]] = SizedLRU(PAGES)
        self._ends: SizedLRU[str, Range] = SizedLRU(ENDS)  # of logs, by prefix: what comes after the last page
        self._bodies: SizedLRU[str, bytes] = SizedLRU(BODIES)

    @property
    def usage(self) -> Usage:
        """See Index."""
        return self._index.usage

    @property
    def builds(self) -> Builds:
        """See Index."""
        return self._index.builds

    async def get(self, key: str) -> bytes | None:
        """See Index."""
        [value] = await self.get_many([key])
        return value

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """See Index."""
        generation = self._fresh()
        known = {key: self._values.get(key) for key in keys}
        missing = [key for key, value in known.items() if value is None]
        found = await self._index.get_many(missing) if missing else []
        for key, value in zip(missing, found, strict=True):
            known[key] = (value,)
            self._keep(generation, key, value)
        return [value[0] if value else None for value in map(known.get, keys)]

    def _fresh(self) -> Hashable:
        """Forget the values of an earlier generation; return the one of now."""
        generation = self._index.generation()
        if generation != self._generation:
            self._generation = generation
            self._values = SizedLRU(VALUES)
            self._pages = SizedLRU(PAGES)
        return generation

    def _keep(self, generation: Hashable, key: str, value: bytes | None) -> None:
        """Keep a value, or that there is none, as read after this generation, unless there is another one now."""
        is_sure = value is not None or not key.startswith(RECORDS)  # a record can be added without being counted
        if is_sure and generation == self._generation == self._index.generation():
            self._values.put(key, (value,), len(key) + len(value or b"") + OVERHEAD)

    async def body(self, digest: str) -> bytes | None:
        """See Index."""
        body = self._bodies.get(digest)
        if body is None:
            body = await self._index.body(digest)
            if body is not None and sha256(body).hexdigest() == digest:
                self._bodies.put(digest, body, len(body) + OVERHEAD)
        return body

    async def add(
        self,
        key: str,
        value: bytes,
        columns: Columns | None = None,
        body: bytes | None = None,
        *,
        counts: bool = True,
    ) -> bytes:
        """See Index."""
        return await self._index.add(key, value, columns, body, counts=counts)

    async def add_many(self, entries: Sequence[New]) -> list[bytes]:
        """See Index."""
        return await self._index.add_many(entries)

    async def remove(self, key: str) -> bool:
        """See Index."""
        return await self._index.remove(key)

    async def page(self, prefix: str, after: str = "", limit: int = PAGE) -> list[tuple[str, bytes]]:
        """See Index."""
        asked = Range(prefix, after, limit)
        if not prefix.startswith(LOGS):  # a record can be added without being counted
            return await self._index.page(*asked)
        generation = self._fresh()
        page = self._pages.get(asked)
        if page is None:
            ranges = [
                asked,
                *(end for end in self._ends.values() if end.prefix != prefix and self._pages.get(end) is None),
            ]
            pages = await self._index.pages(ranges)
            for each, found in zip(ranges, pages, strict=True):
                self._keep_page(generation, each, found)
            page = pages[0]
        self._ends.put(prefix, Range(prefix, page[-1][0] if page else after, limit))
        return page

    def _keep_page(self, generation: Hashable, asked: Range, page: list[tuple[str, bytes]]) -> None:
        """Keep a page, as read after this generation, unless there is another one now."""
        if generation == self._generation == self._index.generation():
            self._pages.put(asked, page, OVERHEAD + sum(len(key) + len(value) + OVERHEAD for key, value in page))

    async def pages(self, ranges: Sequence[Range]) -> list[list[tuple[str, bytes]]]:
        """See Index."""
        return await self._index.pages(ranges)

    async def keys(self, prefix: str, after: str = "", limit: int = PAGE) -> list[str]:
        """See Index."""
        return await self._index.keys(prefix, after, limit)

    def generation(self) -> Hashable:
        """See Index."""
        return self._index.generation()

    async def pins(self) -> list[PinTotals]:
        """See Index."""
        return await self._index.pins()

    async def totals(self, pin: str) -> PinTotals:
        """See Index."""
        return await self._index.totals(pin)

    async def records(
        self, pin: str, *, address: str | None = None, after: Place | None = None, limit: int = PAGE
    ) -> list[Listed]:
        """See Index."""
        return await self._index.records(pin, address=address, after=after, limit=limit)

    async def largest(self, pin: str, *, after: tuple[int, str] | None = None, limit: int = PAGE) -> list[Sized]:
        """See Index."""
        return await self._index.largest(pin, after=after, limit=limit)

    async def unused(self, digests: Iterable[str]) -> set[str]:
        """See Index."""
        return await self._index.unused(digests)

    async def shared(self) -> dict[str, int]:
        """See Index."""
        return await self._index.shared()

    async def unused_bodies(self) -> dict[str, int]:
        """See Index."""
        return await self._index.unused_bodies()

    async def remove_bodies(self, digests: Sequence[str]) -> int:
        """See Index."""
        self._bodies = SizedLRU(BODIES)
        return await self._index.remove_bodies(digests)

    async def leaf_count(self) -> int:
        """See Index."""
        return await self._index.leaf_count()

    async def leaves(self, start: int, limit: int = PAGE) -> list[Leaf]:
        """See Index."""
        return await self._index.leaves(start, limit)

    async def leaves_by_place(self, prefix: bytes, after: Leaf | None = None, limit: int = PAGE) -> list[Leaf]:
        """See Index."""
        return await self._index.leaves_by_place(prefix, after, limit)

    def lease(self, name: str) -> AbstractAsyncContextManager[bool]:
        """See Index."""
        return self._index.lease(name)

    async def problems(self) -> list[str]:
        """See Index."""
        return await self._index.problems()
