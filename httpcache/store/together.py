"""Does short pieces of work for many things, some at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

from httpcache.errors import StoreError

AT_ONCE = 16

T = TypeVar("T")
V = TypeVar("V")


async def each(work: Callable[[T], Awaitable[V]], items: Sequence[T]) -> list[V]:
    """Return the results of `work` for each item, some at a time. Raises the first StoreError."""
    results: dict[int, V] = {}
    errors: list[StoreError] = []
    numbers = iter(range(len(items)))

    async def run() -> None:
        for number in numbers:
            try:
                results[number] = await work(items[number])
            except StoreError as error:
                errors.append(error)
            if errors:
                return

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(run)
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(items))]
