"""A SQLite database beside the index, so that no damage to it reaches what is frozen.

It may be deleted at any time; a new one begins then.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio.to_thread

from httpcache.errors import StoreError

from .errors import mapped
from .sqlite_reader import uri
from .sqlite_schema import transaction

PATIENCE = 5.0  # seconds to wait for another process


class SideDatabase:
    """A database of a data folder that is made when it is first changed; until then it is empty.

    `tables` are the statements that make its tables unless they exist. `is_flushed`: each change is on the disk before
    it counts as made. Every method raises StoreError.
    """

    def __init__(self, path: Path, tables: str, *, is_flushed: bool, read_only: bool) -> None:
        self._path = path
        self._tables = tables
        self._synchronous = "FULL" if is_flushed else "NORMAL"
        self._read_only = read_only
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: os.stat_result

    def exists(self) -> bool:
        """Whether the file is there."""
        return self._path.exists()

    async def rows(self, query: str, arguments: Sequence[object] = ()) -> list[Any]:
        """Return the rows of a query: none if the file is not there, or is just being made."""
        return await anyio.to_thread.run_sync(self._select, query, arguments)

    def _select(self, query: str, arguments: Sequence[object]) -> list[Any]:
        with mapped():
            if not self.exists():
                return []
            with closing(sqlite3.connect(uri(self._path), uri=True, timeout=PATIENCE)) as connection:
                is_made = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table'").fetchone()
                return connection.execute(query, arguments).fetchall() if is_made else []

    async def change(self, make: Callable[[sqlite3.Connection], None]) -> None:
        """Make a change in a transaction, in a thread. It may still be made if this is cancelled."""
        await anyio.to_thread.run_sync(self._make, make, abandon_on_cancel=True)

    def _make(self, make: Callable[[sqlite3.Connection], None]) -> None:
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
            connection = sqlite3.connect(self._path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            self._connection = connection
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                connection.executescript(f"BEGIN IMMEDIATE; {self._tables}; COMMIT;")
                self._file = os.stat(self._path)
            except BaseException:
                self._disconnect()
                raise
        return self._connection

    def _is_same(self) -> bool:
        try:
            return os.path.samestat(self._file, os.stat(self._path))
        except FileNotFoundError:
            return False

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._disconnect()
