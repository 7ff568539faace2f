"""The usage journal of a data folder, in a database of its own. Its changes are not flushed to the disk one by one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from .side_database import SideDatabase
from .usage import PAGE, PINS, READERS, Reader, Sums, Use, Used, UsedEntry, summed

FILE = "index/usage.db"
AT_ONCE = 500  # keys of one statement

_TABLES = """
CREATE TABLE IF NOT EXISTS pins (
    pin TEXT NOT NULL PRIMARY KEY, hits INTEGER NOT NULL, bytes INTEGER NOT NULL, first_use REAL NOT NULL,
    last_use REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pins_by_use ON pins (last_use);
CREATE TABLE IF NOT EXISTS entries (
    key TEXT NOT NULL PRIMARY KEY, pin TEXT NOT NULL, address TEXT NOT NULL, hits INTEGER NOT NULL,
    bytes INTEGER NOT NULL, first_use REAL NOT NULL, last_use REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entries_by_use ON entries (pin, last_use, key);
CREATE TABLE IF NOT EXISTS readers (
    key TEXT NOT NULL, client TEXT NOT NULL, hits INTEGER NOT NULL, first_use REAL NOT NULL, last_use REAL NOT NULL,
    PRIMARY KEY (key, client)
) WITHOUT ROWID;
"""
_ADD_PIN = """
INSERT INTO pins VALUES (?1, ?2, ?3, ?4, ?4) ON CONFLICT DO UPDATE SET
    hits = hits + excluded.hits, bytes = bytes + excluded.bytes, last_use = max(last_use, excluded.last_use)
"""
_ADD_ENTRY = """
INSERT INTO entries VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) ON CONFLICT DO UPDATE SET
    hits = hits + excluded.hits, bytes = bytes + excluded.bytes, last_use = max(last_use, excluded.last_use)
"""
_ADD_READER = """
INSERT INTO readers VALUES (?1, ?2, ?3, ?4, ?4) ON CONFLICT DO UPDATE SET
    hits = hits + excluded.hits, last_use = max(last_use, excluded.last_use)
"""
_DROP_READERS = f"""
DELETE FROM readers WHERE key = ?1 AND client IN (
    SELECT client FROM readers WHERE key = ?1 ORDER BY last_use DESC, client LIMIT -1 OFFSET {READERS}
)
"""  # noqa: S608
_DROP_PINS = f"""
DELETE FROM pins WHERE pin IN (SELECT pin FROM pins ORDER BY last_use DESC LIMIT -1 OFFSET {PINS})
"""  # noqa: S608
_OF_PIN = """
SELECT key, address, hits, bytes, first_use, last_use FROM entries
WHERE pin = ? AND (last_use, key) {} (?, ?) ORDER BY last_use {}, key {} LIMIT ?
"""
_REMOVE_FROM_PIN = """
UPDATE pins SET (hits, bytes) = (
    SELECT pins.hits - gone.hits, pins.bytes - gone.bytes FROM entries AS gone WHERE gone.key = ?1
) WHERE pin = (SELECT pin FROM entries WHERE key = ?1)
"""


class SqliteUsage:
    """See Usage. A folder without the database, or with one that is just being made, has a journal that is empty."""

    def __init__(self, folder: Path, *, read_only: bool) -> None:
        tables = f"{_TABLES} {_DROP_PINS}"
        self._database = SideDatabase(folder / FILE, tables, is_flushed=False, read_only=read_only)

    async def add(self, uses: Sequence[Use], now: float) -> None:
        """See Usage."""
        sums = summed(uses)
        await self._database.change(lambda connection: _add(connection, sums, now))

    async def pins(self) -> dict[str, Used]:
        """See Usage."""
        rows = await self._database.rows("SELECT * FROM pins ORDER BY pin")
        return {pin: Used(*used) for pin, *used in rows}

    async def pin(self, name: str) -> Used | None:
        """See Usage."""
        for _, *used in await self._database.rows("SELECT * FROM pins WHERE pin = ?", (name,)):
            return Used(*used)
        return None

    async def entries(self, keys: Sequence[str]) -> dict[str, Used]:
        """See Usage."""
        found: dict[str, Used] = {}
        for start in range(0, len(keys), AT_ONCE):
            part = keys[start : start + AT_ONCE]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, hits, bytes, first_use, last_use FROM entries WHERE key IN ({marks})"  # noqa: S608
            found |= {key: Used(*used) for key, *used in await self._database.rows(query, part)}
        return found

    async def of_pin(
        self, name: str, *, behind: UsedEntry | None = None, limit: int = PAGE, oldest: bool = False
    ) -> list[UsedEntry]:
        """See Usage."""
        place = (behind.used.last, behind.key) if behind else (0.0 if oldest else 1e300, "")
        query = _OF_PIN.format(*((">", "ASC", "ASC") if oldest else ("<", "DESC", "DESC")))
        rows = await self._database.rows(query, (name, *place, limit))
        return [UsedEntry(key, address, Used(*used)) for key, address, *used in rows]

    async def readers(self, key: str) -> list[Reader]:
        """See Usage."""
        query = "SELECT client, hits, first_use, last_use FROM readers WHERE key = ? ORDER BY last_use DESC, client"
        return [Reader(*row) for row in await self._database.rows(query, (key,))]

    async def remove(self, keys: Sequence[str]) -> None:
        """See Usage."""
        if self._database.exists():
            await self._database.change(lambda connection: _remove(connection, keys))

    def close(self) -> None:
        """Close the journal."""
        self._database.close()


def _add(connection: sqlite3.Connection, sums: Sums, now: float) -> None:
    connection.executemany(_ADD_PIN, ((pin, hits, size, now) for pin, (hits, size) in sums.pins.items()))
    connection.executemany(
        _ADD_ENTRY,
        ((key, subject.pin, subject.address, hits, size, now) for key, (subject, hits, size) in sums.entries.items()),
    )
    connection.executemany(_ADD_READER, ((*key, hits, now) for key, hits in sums.readers.items()))
    connection.executemany(_DROP_READERS, ((key,) for key in sums.entries))


def _remove(connection: sqlite3.Connection, keys: Sequence[str]) -> None:
    rows = [(key,) for key in keys]
    for statement in (_REMOVE_FROM_PIN, "DELETE FROM entries WHERE key = ?", "DELETE FROM readers WHERE key = ?"):
        connection.executemany(statement, rows)
    connection.execute("DELETE FROM pins WHERE hits <= 0")
