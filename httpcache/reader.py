"""Reads single entries of the index without waiting, and tells whether anything has changed.

A point read of SQLite takes microseconds where its pages are in memory; to hand it to a thread takes a hundred.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

import diskcache

from .errors import StoreError

_SELECT = "SELECT mode, value FROM Cache WHERE key = ? AND raw = 1"


class Reader:
    """A connection of its own to diskcache's database, which never writes and never waits for a lock."""

    def __init__(self, database: Path) -> None:
        self._address = f"file:{quote(str(database))}?mode=ro"
        self._connection: sqlite3.Connection | None = None
        self._opened = 0

    def value(self, key: str) -> bytes | None:
        """Return what the index holds under a key, None for nothing. Raises sqlite3.Error, StoreError."""
        for mode, value in self._execute(_SELECT, (key,)):
            if mode != diskcache.core.MODE_RAW or not isinstance(value, bytes):
                raise StoreError("the index holds a value that this program did not write")
            return value
        return None

    def state(self) -> tuple[int, int]:
        """Return what is another value after every change of the index, by whatever process. Raises sqlite3.Error.

        The value is of this process alone: SQLite counts the changes that a connection has met.
        """
        [row] = self._execute("PRAGMA data_version")
        return self._opened, row[0]

    def _execute(self, statement: str, arguments: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
        if self._connection is None:
            self._opened += 1  # a new connection counts anew
            self._connection = sqlite3.connect(
                self._address, uri=True, timeout=0, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA mmap_size = 0")
        try:
            return self._connection.execute(statement, arguments).fetchall()
        except sqlite3.Error:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
