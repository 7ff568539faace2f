"""Lists that do not fit into memory, in a database of its own that is removed afterwards."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from .errors import mapped

_OPTIONS = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -8192;"
AT_ONCE = 500  # rows of a page


@contextmanager
def scratch(folder: Path, tables: str) -> Iterator[sqlite3.Connection]:
    """Open an empty database with these tables inside the block, in a file in `folder`. Raises StoreError."""
    with mapped(), NamedTemporaryFile(dir=folder, suffix=".scratch") as file:
        connection = sqlite3.connect(file.name, isolation_level=None, check_same_thread=False)
        try:
            connection.executescript(f"{_OPTIONS}{tables}")
            yield connection
        finally:
            connection.close()


def rows(connection: sqlite3.Connection, statement: str, values: Sequence[Any] = ()) -> Iterator[Any]:
    """Yield the rows of a query, of which only a page is in memory."""
    cursor = connection.execute(statement, values)
    while page := cursor.fetchmany(AT_ONCE):
        yield from page
