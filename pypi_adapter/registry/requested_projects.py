"""The projects of a registry that were ever requested, in the order of their first request."""

from __future__ import annotations

import anyio

from httpcache.store.log import TypedLog
from httpcache.store.store import Store

AHEAD = "ahead"
"""The log of the projects that were observed before a client requested them, and that none has requested since."""


class RequestedProjects:
    """The names (normalised), which all processes share; with another `log`, those of other projects.

    An entry of the log has the names of all projects that were noted at the same time, which takes one commit.
    """

    def __init__(self, store: Store, registry: str, log: str = "logged") -> None:
        self.log = TypedLog(store, f"{registry}/ {log}", "requested projects", _encode, _decode)
        """The names as they are in the store."""
        self._entries = 0  # of the log that are in `_positions`
        self._positions: dict[str, int] = {}
        self._waiting: list[str] = []  # names that are being noted
        self._reading = anyio.Lock()  # the log can be long: it is read once
        self._writing = anyio.Lock()

    async def note(self, project: str) -> None:
        """Record that a project was requested. Raises StoreError."""
        if project in self._positions:
            return
        self._waiting.append(project)
        try:
            async with self._writing:
                while project not in self._positions:  # else it was in the entry of one that waited with it
                    known = await self._read()
                    if new := tuple(name for name in dict.fromkeys(self._waiting) if name not in known):
                        await self.log.try_append(new)
        finally:
            self._waiting.remove(project)

    async def all(self) -> list[str]:
        """Return all names. Raises StoreError."""
        return list(await self._read())

    async def position(self, project: str) -> int | None:
        """Return the position of a project, counted from 0; None if it was never requested. Raises StoreError."""
        return (await self._read()).get(project)

    async def _read(self) -> dict[str, int]:
        async with self._reading:
            entries = (await self.log.all())[self._entries :]
            self._entries += len(entries)
            for project in (name for names in entries for name in names):
                self._positions.setdefault(project, len(self._positions))
        return self._positions


def _encode(names: tuple[str, ...]) -> bytes:
    return "\n".join(names).encode()


def _decode(value: bytes) -> tuple[str, ...]:
    return tuple(value.decode().split("\n"))
