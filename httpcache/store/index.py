"""Reads the index: single entries without waiting, pages of entries, and whether anything has changed.

A point read of SQLite takes microseconds if its pages are in memory; handing it to a thread takes a hundred.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

import diskcache

from httpcache.errors import StoreError

from .errors import RESTORE

PAGE = 1000  # entries

_SELECT = "SELECT mode, value FROM Cache WHERE key = ? AND raw = 1"
_RANGE = "SELECT key, raw, mode, value FROM Cache WHERE key > ? AND key >= ? AND key < ? ORDER BY key, raw LIMIT ?"


class Reader:
    """A separate, read-only connection to diskcache's database.

    `wait` is how many seconds to wait for a lock.
    """

    def __init__(self, database: Path, wait: float = 0.0) -> None:
        self._wait = wait
        self._database = database
        self._connection: sqlite3.Connection | None = None
        self._opened = 0

    def value(self, key: str) -> bytes | None:
        """Return the value of a key, or None if it has none. Raises sqlite3.Error, StoreError."""
        for mode, value in self._execute(_SELECT, (key,)):
            return _ours(mode, value)
        return None

    def page(self, prefix: str, after: str) -> list[tuple[str, bytes]]:
        """Return up to PAGE entries whose keys start with `prefix` and come after `after`, in the order of their keys.

        Raises sqlite3.Error, StoreError.
        """
        end = prefix + chr(0x10FFFF) if prefix else b"\xff"  # sorts after all text, and after a pickle
        page = []
        for key, raw, mode, value in self._execute(_RANGE, (after, prefix, end, PAGE)):
            if not (raw and isinstance(key, str)):
                raise StoreError(f"the index contains a key that this program did not write: {RESTORE}")
            page.append((key, _ours(mode, value)))
        return page

    def state(self) -> tuple[int, int]:
        """Return a value that differs after every change of the index, by any process. Raises sqlite3.Error.

        The value is only valid in this process: SQLite counts the changes that this connection has seen.
        """
        [row] = self._execute("PRAGMA data_version")
        return self._opened, row[0]

    def _execute(self, statement: str, arguments: tuple[str | int | bytes, ...] = ()) -> list[tuple[Any, ...]]:
        if self._connection is None:
            self._opened += 1  # a new connection starts counting again
            self._connection = sqlite3.connect(
                address(self._database), uri=True, timeout=self._wait, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA mmap_size = 0")
        try:
            return self._connection.execute(statement, arguments).fetchall()
        except sqlite3.Error:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next use opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def address(database: Path) -> str:
    """Return the URI with which SQLite opens a database read-only.

    SQLite needs a `-shm` file beside the database and creates it. If it cannot, the folder is read-only and nobody else
    can write either, so the database is opened as immutable. Raises StoreError if entries would then be missed.
    """
    beside = {kind: database.with_name(f"{database.name}-{kind}") for kind in ("shm", "wal")}
    name = f"file:{quote(str(database))}?mode=ro"
    if beside["shm"].exists() or os.access(database.parent, os.W_OK):
        return name
    if beside["wal"].exists() and beside["wal"].stat().st_size:
        raise StoreError(
            "the last entries of the index are in index/cache.db-wal, and a read-only folder needs cache.db-shm too to "
            "read them: run `httpcache verify` once on a writable copy"
        )
    return f"{name}&immutable=1"


def _ours(mode: int, value: object) -> bytes:
    if mode != diskcache.core.MODE_RAW or not isinstance(value, bytes):
        raise StoreError(f"the index contains a value that this program did not write: {RESTORE}")
    return value
