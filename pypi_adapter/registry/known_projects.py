"""The projects of a registry that can have a log: their names, which may be more than fit into memory."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence

from httpcache.store import keys
from httpcache.store.scratch import rows
from httpcache.store.store import Store
from pypi_adapter.history.project_log import entries_log

from .passes import Passes
from .project_list import projects_log
from .requested_projects import AHEAD, RequestedProjects
from .scope import LISTED

TABLES = "CREATE TABLE projects (name TEXT PRIMARY KEY, position INTEGER) WITHOUT ROWID;"
AT_ONCE = 100  # names of which the store is asked at once


async def known_projects(store: Store, registry: str) -> set[str]:
    """Return the names of all of them: also of those that have no log. Raises StoreError."""
    names = set(await RequestedProjects(store, registry).all())
    async for others in _others(store, registry):
        names.update(others)
    return names


async def _others(store: Store, registry: str) -> AsyncIterator[Sequence[str]]:
    """Yield the names that were read ahead, are on the list, or in the file of a capture's scope; some repeatedly."""
    async for names in RequestedProjects(store, registry, AHEAD).log.each():
        yield names
    async for change in projects_log(store, registry).each():
        yield change.added
    async for done in Passes(store, registry).each():
        if done.scope.kind == LISTED:
            yield done.scope.names


class KnownProjects:
    """The projects that have a log, in a `scratch` database with TABLES."""

    def __init__(self, store: Store, registry: str, scratch: sqlite3.Connection) -> None:
        self._store = store
        self._registry = registry
        self._scratch = scratch

    async def find(self) -> None:
        """Find them; the other methods are for afterwards. Raises StoreError."""
        count = 0
        async for names in RequestedProjects(self._store, self._registry).log.each():
            for name in names:
                statement = "INSERT OR IGNORE INTO projects VALUES (?, ?)"
                count += self._scratch.execute(statement, (name, count)).rowcount
        async for others in _others(self._store, self._registry):
            for start in range(0, len(others), AT_ONCE):
                await self._add(others[start : start + AT_ONCE])

    async def _add(self, names: Sequence[str]) -> None:
        """Add those of some names that have a log: as a rule few of those on a list."""
        firsts = [keys.numbered(keys.log(entries_log(self._store, self._registry, name).name), 0) for name in names]
        for name, first in zip(names, await self._store.get_many(firsts), strict=True):
            if first is not None:
                self._scratch.execute("INSERT OR IGNORE INTO projects VALUES (?, NULL)", (name,))

    async def position(self, project: str) -> int | None:
        """See RequestedProjects."""
        [(position,)] = self._scratch.execute("SELECT position FROM projects WHERE name = ?", (project,))
        return None if position is None else int(position)

    def names(self) -> Iterator[str]:
        """Yield the names, sorted."""
        for (name,) in rows(self._scratch, "SELECT name FROM projects ORDER BY name"):
            yield name
