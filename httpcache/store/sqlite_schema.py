"""The tables of the SQLite index, and how a connection that changes them is opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import leaves
from .locks import PATIENCE
from .seal import CHECKSUM

# `records` has the columns that records are found by; the totals of a pin are kept by triggers, in the transaction of
# the change. Values and bodies are not in the tables' keys, so tables with large ones have row numbers.
TABLES = """
CREATE TABLE IF NOT EXISTS entries (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS records (
    key TEXT NOT NULL PRIMARY KEY, pin TEXT NOT NULL, address TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS records_of_pin ON records (pin, address, key);
CREATE INDEX IF NOT EXISTS records_of_body ON records (digest);
CREATE INDEX IF NOT EXISTS records_by_size ON records (pin, size, key);
CREATE TABLE IF NOT EXISTS pins (pin TEXT NOT NULL PRIMARY KEY, entries INTEGER NOT NULL, bytes INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bodies (number INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, body BLOB NOT NULL);
CREATE TRIGGER IF NOT EXISTS record_added AFTER INSERT ON records BEGIN
    INSERT INTO pins VALUES (new.pin, 1, new.size)
        ON CONFLICT DO UPDATE SET entries = entries + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER IF NOT EXISTS record_removed AFTER DELETE ON records BEGIN
    UPDATE pins SET entries = entries - 1, bytes = bytes - old.size WHERE pin = old.pin;
    DELETE FROM pins WHERE pin = old.pin AND entries = 0;
END;
"""

LEAVES = """
CREATE TABLE leaves (
    number INTEGER PRIMARY KEY, is_removal INTEGER NOT NULL, place BLOB NOT NULL, nonce BLOB NOT NULL,
    commitment BLOB NOT NULL
);
"""
_LEAF = "INSERT INTO leaves SELECT coalesce(max(number), -1) + 1, ?, ?, ?, ? FROM leaves"
_LOGGED = "SELECT key, value FROM entries WHERE key >= 'l/' AND key < 'l0' AND length(key) = 77 ORDER BY number"


def connect(database: Path) -> sqlite3.Connection:
    """Open a database to change it. Raises sqlite3.Error."""
    connection = sqlite3.connect(database, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = 2048")  # pages of 4 KiB
    connection.execute("PRAGMA mmap_size = 0")  # the system could reclaim that memory, but it would count as ours
    return connection


def create(database: Path) -> None:
    """Make the tables where they are missing. Raises sqlite3.Error. Only one process may do so at a time."""
    connection = connect(database)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN IMMEDIATE; {TABLES} COMMIT;")
    finally:
        connection.close()


def begin_leaves(database: Path) -> int | None:
    """Begin the Merkle log of the entries of logs (see `leaves`), with a leaf for each that is there, in one change.

    Returns how many there were, None if it was begun before. Raises sqlite3.Error.
    """
    connection = connect(database)
    try:
        if _has(connection, "leaves"):
            return None
        with transaction(connection):
            if _has(connection, "leaves"):  # another process has been faster
                return None
            connection.execute(LEAVES)
            count = 0
            for key, value in connection.execute(_LOGGED):
                add_leaf(connection, leaves.new(key, value[CHECKSUM:]))
                count += 1
            connection.execute("CREATE INDEX leaves_of_place ON leaves (place, number)")
        return count
    finally:
        connection.close()


def add_leaf(connection: sqlite3.Connection, leaf: tuple[bool, bytes, bytes, bytes]) -> None:
    """Add a leaf (see `leaves.new`), in the transaction of the change that it is about."""
    connection.execute(_LEAF, leaf)


def index_sizes(database: Path) -> None:
    """Make the index by size, which earlier versions did not make: two seconds for 1,000,000 records.

    Raises sqlite3.Error.
    """
    connection = connect(database)
    try:
        if not _has(connection, "records_by_size"):
            connection.execute("CREATE INDEX IF NOT EXISTS records_by_size ON records (pin, size, key)")
    finally:
        connection.close()


def _has(connection: sqlite3.Connection, name: str) -> bool:
    """Whether there is a table or index with this name."""
    return bool(connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (name,)).fetchall())


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Make the changes inside the block together, or none of them. Raises sqlite3.Error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # it has been rolled back already
            connection.execute("ROLLBACK")
        raise
