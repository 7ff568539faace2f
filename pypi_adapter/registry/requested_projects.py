"""The projects of a registry that were ever requested, in the order of their first request."""

from __future__ import annotations

import anyio

from httpcache.store.base import Store
from httpcache.store.log import TypedLog


class RequestedProjects:
    """The names (normalised), which all processes share."""

    def __init__(self, store: Store, registry: str) -> None:
        self._log = TypedLog(store, f"{registry}/ logged", "requested projects", str.encode, bytes.decode)
        self._positions: dict[str, int] = {}
        self._reading = anyio.Lock()  # the log can be long: it is read once

    async def note(self, project: str) -> None:
        """Record that a project was requested. Raises StoreError."""
        while project not in await self._read():
            await self._log.try_append(project)

    async def all(self) -> list[str]:
        """Return all names. Raises StoreError."""
        return list(await self._read())

    async def position(self, project: str) -> int | None:
        """Return the position of a project, counted from 0; None if it was never requested. Raises StoreError."""
        return (await self._read()).get(project)

    async def _read(self) -> dict[str, int]:
        async with self._reading:
            for project in (await self._log.all())[len(self._positions) :]:
                self._positions[project] = len(self._positions)
        return self._positions
