"""The list of a registry's projects as it was observed: its names at an instant."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import anyio
import anyio.to_thread
import msgspec
from packaging.utils import canonicalize_name

from httpcache.errors import BadUpstream
from httpcache.mirror import Mirror
from httpcache.store import Log

from .page import ProjectList
from .registry import Registry


class _Change(msgspec.Struct, frozen=True, array_like=True):
    """What an observation of the list changed; `instant` in microseconds."""

    instant: int
    added: tuple[str, ...]
    removed: tuple[str, ...]


class Catalog:
    """The observed list of one registry.

    A name is listed as of the last observation at or before the instant, and where there is none, as of the first:
    registries give no times for names.
    """

    def __init__(self, registry: Registry, mirror: Mirror) -> None:
        self._registry = registry
        self._log = Log(mirror.store, f"{registry.name}/ projects")
        self._changes: list[_Change] = []
        self._lock = anyio.Lock()

    async def as_of(self, instant: int) -> tuple[ProjectList, bool]:
        """Return the names at an instant (microseconds), and whether the list had to be observed for it.

        Raises MirrorError.
        """
        async with self._lock:
            await self._read()
            observed = not self._changes or self._changes[-1].instant < instant
            if observed:
                await self._observe()
            first = self._changes[0].instant
            return await anyio.to_thread.run_sync(_names, self._changes, max(instant, first)), observed

    async def live(self) -> ProjectList:
        """Return the names now. Raises MirrorError."""
        async with self._lock:
            await self._observe()
            return await anyio.to_thread.run_sync(_names, self._changes, self._changes[-1].instant)

    async def _observe(self) -> None:
        started, page = await self._registry.fetch("")
        if not isinstance(page, ProjectList):
            raise BadUpstream("the registry has no list of projects")
        names = {canonicalize_name(name) for name in page.names}
        while True:
            await self._read()
            if self._changes and self._changes[-1].instant >= started:
                return
            known = set(_names(self._changes, started).names)
            if known and not names:
                raise BadUpstream("the registry's list of projects is empty all at once: it cannot be right")
            change = _Change(started, tuple(sorted(names - known)), tuple(sorted(known - names)))
            value = zlib.compress(msgspec.msgpack.encode(change))
            if await self._log.append(len(self._changes), value):
                self._changes.append(change)
                return

    async def _read(self) -> None:
        for value in await self._log.read(len(self._changes)):
            self._changes.append(msgspec.msgpack.decode(zlib.decompress(value), type=_Change))


def _names(changes: Iterable[_Change], instant: int) -> ProjectList:
    names: set[str] = set()
    for change in changes:
        if change.instant <= instant:
            names.difference_update(change.removed)
            names.update(change.added)
    return ProjectList(tuple(sorted(names)))
