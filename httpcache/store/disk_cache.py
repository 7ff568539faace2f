"""Opens diskcache for data that may be lost at any time, and without pickles: a cache file must not run code."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import diskcache

from .errors import CORRUPT

PATIENCE = 10.0  # seconds to wait for a lock
FAILURES = (OSError, sqlite3.Error, diskcache.Timeout)
"""What a cache raises if it cannot be used; whoever uses it goes on without."""

# diskcache evicts ten values at a time, whatever their size: of a few large ones that can be all.
ONE_BY_ONE = "one-by-one"
_LRU = diskcache.core.EVICTION_POLICY["least-recently-used"]
diskcache.core.EVICTION_POLICY[ONE_BY_ONE] = _LRU | {
    "cull": "SELECT {fields} FROM Cache ORDER BY access_time LIMIT min(1, ?)"
}


class BytesDisk(diskcache.Disk):  # type: ignore[misc]
    """Stores text keys and bytes. Anything else in a database is rejected, never unpickled."""

    def put(self, key: object) -> tuple[str, bool]:
        if not isinstance(key, str):
            raise TypeError("a key is text")
        return key, True

    def get(self, key: object, raw: bool) -> str:
        if not (isinstance(key, str) and raw):
            raise sqlite3.DatabaseError("a key that this program did not write")
        return key

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, str | None, bytes | None]:
        if read or not isinstance(value, bytes):
            raise TypeError("a value is bytes")
        return super().store(value, False, key)  # type: ignore[no-any-return]

    def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> bytes | str:
        if read or mode not in (diskcache.core.MODE_RAW, diskcache.core.MODE_BINARY):
            raise sqlite3.DatabaseError("a value that this program did not write")
        return super().fetch(mode, filename, value, False)  # type: ignore[no-any-return]


class _Cache(diskcache.Cache):  # type: ignore[misc]
    def __init__(self, *arguments: object, **named: object) -> None:
        try:
            super().__init__(*arguments, **named)
        except BaseException:
            self.close()  # a connection that nobody closes is warned of
            raise


def open_cache(folder: Path, limit: int, disk: type[BytesDisk] = BytesDisk) -> diskcache.Cache:
    """Open a cache of about `limit` bytes; one that is damaged is deleted first. Raises FAILURES.

    `set` evicts nothing: call `cull`, which evicts what was not used for longest. Connections belong to the thread that
    opened them.
    """
    try:
        return _open(folder, limit, disk)
    except sqlite3.Error as error:
        if error.sqlite_errorcode not in CORRUPT:
            raise
        shutil.rmtree(folder)
        return _open(folder, limit, disk)


def _open(folder: Path, limit: int, disk: type[BytesDisk]) -> diskcache.Cache:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return _Cache(
        str(folder),
        timeout=PATIENCE,
        disk=disk,
        eviction_policy=ONE_BY_ONE,
        cull_limit=0,
        size_limit=limit,
        sqlite_cache_size=256,  # pages of 4 KiB
        sqlite_mmap_size=0,
    )
