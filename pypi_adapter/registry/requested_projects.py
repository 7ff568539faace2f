"""The projects of a registry that were ever requested, in the order of their first request."""

from __future__ import annotations

import anyio

from httpcache.store.base import Store
from httpcache.store.log import Log


class RequestedProjects:
    """The names (normalised) in the store: shared by all processes."""

    def __init__(self, store: Store, registry: str) -> None:
        self._log = Log(store, f"{registry}/ logged")
        self._numbers: dict[str, int] = {}  # with their places in the log
        self._lock = anyio.Lock()

    async def note(self, project: str) -> None:
        """Note that a project was requested. Raises StoreError."""
        async with self._lock:
            while project not in await self._read():
                await self._log.append(len(self._numbers), project.encode())

    async def all(self) -> list[str]:
        """Return all names. Raises StoreError."""
        async with self._lock:
            return list(await self._read())

    async def position(self, project: str) -> int | None:
        """Return the place of a project in the order, None if it was never requested. Raises StoreError."""
        async with self._lock:
            return (await self._read()).get(project)

    async def _read(self) -> dict[str, int]:
        for value in await self._log.read(len(self._numbers)):
            self._numbers[value.decode()] = len(self._numbers)
        return self._numbers
