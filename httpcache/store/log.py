"""An append-only log on top of a store."""

from __future__ import annotations

from itertools import takewhile

from . import keys
from .base import Store


class Log:
    """An append-only sequence of values in a store, safe with many writers.

    `add` lets one writer have each number, so two appends never overwrite each other and every reader sees one order.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._prefix = keys.log(name)

    async def read(self, start: int = 0) -> list[bytes]:
        """Return the values from number `start` on."""
        values: list[bytes] = []
        count = 1 if start else 4  # most later reads find nothing new; a long log is read in few steps
        while True:
            first = start + len(values)
            found = await self._store.get_many([f"{self._prefix}{number}" for number in range(first, first + count)])
            present = [value for value in takewhile(lambda value: value is not None, found) if value is not None]
            values += present
            if len(present) < count:
                return values
            count = min(4 * count, 1024)

    async def append(self, number: int, value: bytes) -> bool:
        """Write the value with that number; return False where another has had the number with another value."""
        return await self._store.add(f"{self._prefix}{number}", value) == value

    async def cut(self, number: int) -> None:
        """Remove the values from `number` on, the last one first, while nobody else has the log in memory or grows it.

        For repairs alone: who knows of a value that is there no more would append behind a hole.
        """
        for place in reversed(range(number, number + len(await self.read(number)))):
            await self._store.remove(f"{self._prefix}{place}")

    async def note(self, value: bytes, limit: int) -> bool:
        """Append a value unless the log has it; return whether it has now: one of `limit` bytes takes no more.

        For logs that are bounded sets. Raises StoreError.
        """
        values = await self.read()
        while value not in values:
            if sum(map(len, values)) >= limit:
                return False
            await self.append(len(values), value)
            values = await self.read()
        return True
