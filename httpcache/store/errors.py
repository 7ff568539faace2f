"""Translates errors of the file system and SQLite into the mirror's own."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from httpcache.errors import Damaged, StoreError, StoreFull

from .locks import held

T = TypeVar("T")
P = ParamSpec("P")

RESTORE = "stop the mirror and restore the data folder from a backup"
_HELD = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)  # there is no room for the index, or for its -shm file
CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@contextmanager
def mapped() -> Iterator[None]:
    """Raise StoreError for an error of the file system or SQLite inside the block."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise store_error(error) from error


def store_error(error: Exception) -> StoreError:
    """Return the mirror's error for one of the file system or SQLite. Clients see its text, so it names no path."""
    code = getattr(error, "sqlite_errorcode", None)
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or code in _FULL:
        return StoreFull("the mirror's store is full: make room on its disk")
    if getattr(error, "errno", None) == errno.EROFS:
        return StoreError("the mirror's data folder is read-only: it serves what is frozen, but cannot freeze more")
    if code in CORRUPT:
        return Damaged(f"the index of the mirror's store is damaged ({error}): {RESTORE}")
    if code in _HELD:
        return held()
    return StoreError(f"the mirror's store cannot be used: {getattr(error, 'strerror', None) or error}")


def guarded(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call `work` with the errors translated; to be run in a thread. Raises StoreError."""
    with mapped():
        return work(*arguments, **named)
