"""The builds of a data folder, in a database of their own. Each change is flushed to the disk."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .builds import BUILDS, FILES, INDEXES, Build, File, Taken, Uses
from .side_database import SideDatabase

DATABASE = "index/builds.db"
AT_ONCE = 500  # keys of one statement

_TABLES = """
CREATE TABLE IF NOT EXISTS builds (
    build TEXT NOT NULL PRIMARY KEY, first_use REAL NOT NULL, last_use REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS builds_by_use ON builds (last_use);
CREATE TABLE IF NOT EXISTS indexes (
    build TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (build, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    build TEXT NOT NULL, name TEXT NOT NULL, pin TEXT NOT NULL, url TEXT NOT NULL, target TEXT NOT NULL,
    digest TEXT NOT NULL, size INTEGER NOT NULL, is_private INTEGER NOT NULL, client TEXT NOT NULL,
    first_use REAL NOT NULL, PRIMARY KEY (build, name, target, digest)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_by_target ON files (target, build);
"""
_ADD_BUILD = """
INSERT INTO builds VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET
    first_use = min(first_use, excluded.first_use), last_use = max(last_use, excluded.last_use)
"""
_ADD_INDEX = f"""
INSERT INTO indexes SELECT ?1, ?2 WHERE (SELECT count(*) FROM indexes WHERE build = ?1) < {INDEXES}
ON CONFLICT DO NOTHING
"""  # noqa: S608
_ADD_FILE = "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_OLD = f"""
SELECT build FROM builds WHERE last_use < ?
UNION SELECT * FROM (SELECT build FROM builds ORDER BY last_use DESC, build LIMIT -1 OFFSET {BUILDS})
"""  # noqa: S608
_ALL = """
SELECT build, first_use, last_use, (SELECT json_group_array(name) FROM indexes WHERE indexes.build = builds.build),
    (SELECT count(*) FROM files WHERE files.build = builds.build),
    (SELECT coalesce(sum(size), 0) FROM files WHERE files.build = builds.build)
FROM builds
"""


class SqliteBuilds:
    """See Builds. A folder without the database has none."""

    def __init__(self, folder: Path, *, read_only: bool) -> None:
        self._database = SideDatabase(folder / DATABASE, _TABLES, is_flushed=True, read_only=read_only)

    async def add(self, uses: Uses) -> None:
        """See Builds."""
        await self._database.change(lambda connection: _add(connection, uses))

    async def prune(self, before: float) -> None:
        """See Builds."""
        if self._database.exists():
            await self._database.change(lambda connection: _prune(connection, before))

    async def all(self) -> list[Build]:
        """See Builds."""
        return [_build(*row) for row in await self._database.rows(f"{_ALL} ORDER BY last_use DESC, build")]

    async def get(self, label: str) -> Build | None:
        """See Builds."""
        for row in await self._database.rows(f"{_ALL} WHERE build = ?", (label,)):
            return _build(*row)
        return None

    async def files(self, label: str) -> list[Taken]:
        """See Builds."""
        query = "SELECT * FROM files WHERE build = ? ORDER BY pin, url, name, digest"
        return [_taken(row) for row in await self._database.rows(query, (label,))]

    async def that_took(self, targets: Sequence[str]) -> list[str]:
        """See Builds."""
        found: set[str] = set()
        for start in range(0, len(targets), AT_ONCE):
            part = targets[start : start + AT_ONCE]
            marks = ",".join("?" * len(part))
            query = f"SELECT DISTINCT build FROM files WHERE target IN ({marks})"  # noqa: S608
            found.update(label for [label] in await self._database.rows(query, part))
        return sorted(found)

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _add(connection: sqlite3.Connection, uses: Uses) -> None:
    for build, part in uses.of_builds().items():
        connection.execute(_ADD_BUILD, (build, part.first, part.last))
        connection.executemany(_ADD_INDEX, ((build, index) for index in part.indexes))
        [[count]] = connection.execute("SELECT count(*) FROM files WHERE build = ?", (build,))
        for file, first in part.files:
            if count == FILES:
                break
            count += connection.execute(_ADD_FILE, (*file, first)).rowcount


def _prune(connection: sqlite3.Connection, before: float) -> None:
    old = connection.execute(_OLD, (before,)).fetchall()
    for table in ("files", "indexes", "builds"):
        connection.executemany(f"DELETE FROM {table} WHERE build = ?", old)  # noqa: S608


def _build(label: str, first: float, last: float, indexes: str, files: int, size: int) -> Build:
    return Build(label, first, last, tuple(sorted(json.loads(indexes))), files, size)


def _taken(row: Sequence[Any]) -> Taken:
    file = File(*row[:-1])
    return Taken(file._replace(is_private=bool(file.is_private)), row[-1])
