"""A least-recently-used cache in memory, bounded by bytes or by the number of values."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class SizedLRU(Generic[K, V]):
    """A mapping that keeps the most recently used values.

    `limit` bounds the sum of the sizes given to `put`: bytes, or the number of values if each has size 1. The value
    that was put last is always kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._size = 0

    def get(self, key: K) -> V | None:
        """Return the value of a key, or None if it is not cached."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def values(self) -> list[V]:
        """Return all values, those that were used last at the end."""
        return [value for value, _ in self._values.values()]

    def put(self, key: K, value: V, size: int = 1) -> None:
        """Store a value with its current size."""
        _, before = self._values.pop(key, (None, 0))
        self._values[key] = value, size
        self._size += size - before
        while self._size > self._limit and len(self._values) > 1:
            _, (_, dropped) = self._values.popitem(last=False)
            self._size -= dropped

    def drop(self, key: K) -> None:
        """Remove a value. Raises KeyError if it is not cached."""
        _, size = self._values.pop(key)
        self._size -= size
