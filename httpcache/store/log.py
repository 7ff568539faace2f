"""Append-only logs on top of a store: of bytes, and of values that are encoded and decoded."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Generic, TypeVar

from httpcache.errors import StoreError

from . import keys
from .errors import RESTORE
from .store import Store

T = TypeVar("T")


AT_ONCE = 1024  # values that are read in one request
IN_MEMORY = 64  # the same, of a log that is read through and not kept


class Log:
    """An append-only sequence of values in a store, safe with many writers.

    The index gives each number to one writer, so appends never overwrite each other and all readers see one order.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._prefix = keys.log(name)

    async def read(self, start: int = 0) -> list[bytes]:
        """Return the values from number `start` on."""
        values: list[bytes] = []
        while True:
            page = await self.page(start + len(values))
            values += page
            if len(page) < AT_ONCE:
                return values

    async def page(self, start: int = 0, limit: int = AT_ONCE) -> list[bytes]:
        """Return the values from number `start` on, at most `limit`; fewer if there are no more."""
        after = keys.numbered(self._prefix, start - 1) if start else self._prefix
        page = await self._store.index.page(self._prefix, after, limit)
        values: list[bytes] = []
        for key, value in page:
            if key != keys.numbered(self._prefix, start + len(values)):
                break
            values.append(value)
        return values

    async def each(self) -> AsyncIterator[bytes]:
        """Yield all values, the oldest first, of which only a page is in memory."""
        number = 0
        while page := await self.page(number, IN_MEMORY):
            for value in page:
                yield value
            number += len(page)
            if len(page) < IN_MEMORY:
                return

    async def append(self, number: int, value: bytes) -> bool:
        """Write the value with that number; return False if another writer has used the number for another value."""
        return await self._store.add(keys.numbered(self._prefix, number), value) == value

    async def cut(self, number: int) -> None:
        """Remove the values from `number` on, the last one first.

        For repairs only, while no other process uses the log: one that has read a removed value would append behind a
        gap.
        """
        for place in reversed(range(number, number + len(await self.read(number)))):
            await self._store.remove(keys.numbered(self._prefix, place))

    async def note(self, value: bytes, limit: int) -> bool:
        """Append a value unless the log contains it; return False if the log already has `limit` bytes or more.

        For logs that are bounded sets. Raises StoreError.
        """
        values = await self.read()
        while value not in values:
            if sum(map(len, values)) >= limit:
                return False
            await self.append(len(values), value)
            values = await self.read()
        return True


class TypedLog(Generic[T]):
    """A `Log` whose values are encoded and decoded; each is read and decoded once.

    `subject` completes "the log of ...". `decode` raises ValueError or zlib.error for bytes that it cannot read. Every
    method raises StoreError, also if a value cannot be decoded.
    """

    def __init__(
        self, store: Store, name: str, subject: str, encode: Callable[[T], bytes], decode: Callable[[bytes], T]
    ) -> None:
        self.name = name
        self.raw = Log(store, name)
        """The log as it is in the store."""
        self._subject = subject
        self._encode = encode
        self._decode = decode
        self._values: list[T] = []

    async def all(self) -> Sequence[T]:
        """Return all values, the oldest first. The sequence grows in place and must not be changed by the caller."""
        number = len(self._values)
        self._take(number, [self.decode(value) for value in await self.raw.read(number)])
        return self._values

    async def each(self) -> AsyncIterator[T]:
        """Yield all values, the oldest first, without keeping them."""
        async for value in self.raw.each():
            yield self.decode(value)

    async def append(self, value: T) -> None:
        """Append a value; it is durable on return."""
        await self.all()
        while not await self.try_append(value):
            await self.all()

    async def try_append(self, value: T, encoded: bytes | None = None) -> bool:
        """Append a value directly after those in memory; return False if another writer was first.

        So what was decided from `all` still holds if this returns True. `encoded` is the value, encoded by the caller:
        what takes long to encode is better encoded in a thread.
        """
        number = len(self._values)
        if not await self.raw.append(number, self._encode(value) if encoded is None else encoded):
            return False
        self._take(number, [value])
        return True

    async def cut(self, number: int) -> None:
        """Remove the values from `number` on; see `Log.cut` for when that is safe."""
        await self.raw.cut(number)
        del self._values[number:]

    def decode(self, value: bytes) -> T:
        """Decode a value of `raw`."""
        try:
            return self._decode(value)
        except (ValueError, zlib.error) as error:
            raise self.damaged() from error

    def damaged(self) -> StoreError:
        """Return the error for a log whose values make no sense."""
        return StoreError(f"the log of {self._subject} is damaged: {RESTORE}")

    def _take(self, number: int, values: Sequence[T]) -> None:
        """Add the values from `number` on, except those that another task has added in the meantime."""
        self._values += values[len(self._values) - number :]
