"""Reads ahead: fetches what an installer will probably ask for next, before it asks.

A *walk* (`walk`) is all that installers in one environment ask for in one index at one instant, and finds what comes
next. All comes by the same way as for a client's request, which finds it frozen or joins its download. So a wrong guess
costs a request, and changes no answer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TypeAlias

import anyio

from httpcache import only_if_cached
from httpcache.freezing.mirror import Mirror
from httpcache.lru import SizedLRU
from pypi_adapter.addresses import When
from pypi_adapter.installers.environment import Environment, read_environment
from pypi_adapter.registry.files import Find
from pypi_adapter.registry.registry import Registry, View
from pypi_adapter.simple.model import File

from .groups import Source
from .turns import Turns
from .walk import DEPTH, Walk

log = logging.getLogger("httpcache")

WALKS = 32  # of a process
ADDRESSES = 4000  # projects of which a process knows in which walk they were asked for last
QUIET = 60.0  # seconds without a request after which a walk is over

_Key: TypeAlias = tuple[str, When, Environment]


class ReadAhead:
    """The walks of one process."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._turns = Turns(mirror, DEPTH + 1)
        self._walks: dict[_Key, Walk] = {}
        self._last: SizedLRU[tuple[str, str, Environment], _Key] = SizedLRU(ADDRESSES)
        self._watching = False
        self._in_vain: dict[Registry, set[str]] = {}
        self._fetched = self._followed = 0  # in walks that have ended since this was last told

    def page(
        self, agent: str, path: str, sources: Sequence[Source], when: When, project: str, source: Source, view: View
    ) -> None:
        """Note that a client asks for a project's page, which is `view` of `source`, and read ahead from there.

        `agent` is the client's `User-Agent`, `path` and `sources` are those of the index (see `Dated`). Returns at
        once.
        """
        environment = read_environment(agent)
        if environment is None or only_if_cached.is_asked() or not all(each.read_ahead for each in sources):
            return
        key = path, when, environment
        self._last.put((source.registry.path, project, environment), key)
        self._walk(key, sources).page(project, source, view)

    def metadata(self, agent: str, source: Source, project: str, file: File, find: Find | None) -> None:
        """Note that a client asks for METADATA of a file, and read ahead from there. For `find` see `Files.open`.

        `agent` is the client's `User-Agent`. Returns at once.
        """
        environment = read_environment(agent)
        key = environment and self._last.get((source.registry.path, project, environment))
        walk = key and self._walks.get(key)
        if walk and not only_if_cached.is_asked():
            walk.metadata(source, project, file, find)

    def _walk(self, key: _Key, sources: Sequence[Source]) -> Walk:
        walk = self._walks.get(key)
        if walk is None or walk.is_full:
            self._end(key)
            if len(self._walks) >= WALKS:
                self._end(min(self._walks, key=lambda each: self._walks[each].last))
            walk = self._walks[key] = Walk(sources, *key[1:], self._turns)
        if not self._watching:
            self._watching = True
            self._mirror.start(self._watch)
        return walk

    def _end(self, key: _Key) -> None:
        walk = self._walks.pop(key, None)
        if walk:
            fetched = [item for item in walk.items if item.ahead and item.fetched]
            self._fetched += len(fetched)
            self._followed += sum(item.followed for item in fetched)
            for source in walk.sources:
                self._in_vain.setdefault(source.registry, set()).update(walk.in_vain)

    async def _watch(self) -> None:
        """End the walks that have become quiet, and tell once a minute what came of them."""
        try:
            while self._walks:
                await anyio.sleep(QUIET)
                quiet = anyio.current_time() - QUIET
                for key in [key for key, walk in self._walks.items() if walk.last <= quiet]:
                    self._end(key)
                await self._note()
                self._tell()
        finally:
            self._watching = False
            for key in list(self._walks):
                self._end(key)
            with anyio.CancelScope(shield=True):
                await self._note()
            self._tell()

    async def _note(self) -> None:
        """Note the projects that have a log and that nobody has requested: `undo` has to know of them."""
        noted, self._in_vain = self._in_vain, {}
        for registry, names in noted.items():
            for name in names:
                await registry.ahead.note(name)

    def _tell(self) -> None:
        if self._fetched:
            vain = self._fetched - self._followed
            log.info(
                "read ahead: %d fetched, %d of them asked for later, %d in vain", self._fetched, self._followed, vain
            )
        self._fetched = self._followed = 0
