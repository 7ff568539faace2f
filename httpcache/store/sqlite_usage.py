"""The usage journal of a data folder: a SQLite database of its own, so that no damage to it reaches what is frozen.

It may be deleted at any time; a new one begins then. Its changes are not flushed to the disk one by one.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread

from httpcache.errors import StoreError

from .errors import mapped
from .sqlite_reader import uri
from .sqlite_schema import transaction
from .usage import PAGE, PINS, READERS, Reader, Sums, Use, Used, UsedEntry, summed

FILE = "index/usage.db"
PATIENCE = 5.0  # seconds to wait for another process
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

T = TypeVar("T")


class SqliteUsage:
    """See Usage. A folder without the database, or with one that is just being made, has a journal that is empty."""

    def __init__(self, folder: Path, *, read_only: bool) -> None:
        self._database = folder / FILE
        self._read_only = read_only
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: os.stat_result

    async def add(self, uses: Sequence[Use], now: float) -> None:
        """See Usage."""
        sums = summed(uses)
        await self._change(lambda connection: _add(connection, sums, now))

    async def pins(self) -> dict[str, Used]:
        """See Usage."""
        rows = await self._rows("SELECT * FROM pins ORDER BY pin", ())
        return {pin: Used(*used) for pin, *used in rows}

    async def pin(self, name: str) -> Used | None:
        """See Usage."""
        for _, *used in await self._rows("SELECT * FROM pins WHERE pin = ?", (name,)):
            return Used(*used)
        return None

    async def entries(self, keys: Sequence[str]) -> dict[str, Used]:
        """See Usage."""
        found: dict[str, Used] = {}
        for start in range(0, len(keys), AT_ONCE):
            part = keys[start : start + AT_ONCE]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, hits, bytes, first_use, last_use FROM entries WHERE key IN ({marks})"  # noqa: S608
            found |= {key: Used(*used) for key, *used in await self._rows(query, part)}
        return found

    async def of_pin(
        self, name: str, *, behind: UsedEntry | None = None, limit: int = PAGE, oldest: bool = False
    ) -> list[UsedEntry]:
        """See Usage."""
        place = (behind.used.last, behind.key) if behind else (0.0 if oldest else 1e300, "")
        query = _OF_PIN.format(*((">", "ASC", "ASC") if oldest else ("<", "DESC", "DESC")))
        rows = await self._rows(query, (name, *place, limit))
        return [UsedEntry(key, address, Used(*used)) for key, address, *used in rows]

    async def readers(self, key: str) -> list[Reader]:
        """See Usage."""
        query = "SELECT client, hits, first_use, last_use FROM readers WHERE key = ? ORDER BY last_use DESC, client"
        return [Reader(*row) for row in await self._rows(query, (key,))]

    async def remove(self, keys: Sequence[str]) -> None:
        """See Usage."""
        if self._database.exists():
            await self._change(lambda connection: _remove(connection, keys))

    async def _rows(self, query: str, arguments: Sequence[object]) -> list[Any]:
        return await anyio.to_thread.run_sync(self._select, query, arguments)

    def _select(self, query: str, arguments: Sequence[object]) -> list[Any]:
        with mapped():
            if not self._database.exists():
                return []
            with closing(sqlite3.connect(uri(self._database), uri=True, timeout=PATIENCE)) as connection:
                is_made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries'").fetchone()
                return connection.execute(query, arguments).fetchall() if is_made else []

    async def _change(self, make: Callable[[sqlite3.Connection], None]) -> None:
        await anyio.to_thread.run_sync(self._make, make, abandon_on_cancel=True)

    def _make(self, make: Callable[[sqlite3.Connection], None]) -> None:
        """Make a change in a transaction. Raises StoreError."""
        if self._read_only:
            raise StoreError("the mirror's data folder is read-only")
        with self._lock, mapped():
            connection = self._connected()
            try:
                with transaction(connection):
                    make(connection)
            except sqlite3.Error:
                self._disconnect()
                raise

    def _connected(self) -> sqlite3.Connection:
        """Return the connection for changes. If the file was removed or replaced, this is one to the new file."""
        if self._connection is not None and not self._is_same():
            self._disconnect()
        if self._connection is None:
            connection = sqlite3.connect(
                self._database, timeout=PATIENCE, isolation_level=None, check_same_thread=False
            )
            self._connection = connection
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} {_DROP_PINS}; COMMIT;")
                self._file = os.stat(self._database)
            except BaseException:
                self._disconnect()
                raise
        return self._connection

    def _is_same(self) -> bool:
        try:
            return os.path.samestat(self._file, os.stat(self._database))
        except FileNotFoundError:
            return False

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Close the journal."""
        with self._lock:
            self._disconnect()


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
