"""Translates errors of PostgreSQL and its client into the mirror's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from httpcache.errors import Damaged, StoreError, StoreFull

UPGRADE = "run `httpcache index upgrade`"

_NOT_NOW = (  # what passes by itself, or when somebody has mended the server
    errors.TooManyConnections,
    errors.OutOfMemory,
    errors.QueryCanceled,
    errors.LockNotAvailable,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.ReadOnlySqlTransaction,  # after a failover, on the server that is no longer the first
)
_ENDED = (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow)
_POOL = (PoolClosed, PoolTimeout, TooManyRequests)


@contextmanager
def mapped() -> Iterator[None]:
    """Raise StoreError for an error of PostgreSQL inside the block."""
    try:
        yield
    except (psycopg.Error, OSError) as error:
        raise store_error(error) from error


def store_error(error: Exception) -> StoreError:
    """Return the mirror's error for one of PostgreSQL.

    Clients see its text. So it has nothing of an error's that can name a host or a user, or show a value.
    """
    if isinstance(error, errors.DiskFull):
        return StoreFull("the index of the mirror's store is full: make room on the disk of PostgreSQL")
    if isinstance(error, (errors.DataCorrupted, errors.IndexCorrupted)):
        return Damaged("PostgreSQL finds the index of the mirror's store damaged: restore it from a backup")
    if isinstance(error, (errors.UndefinedTable, errors.UndefinedColumn)):
        return StoreError(f"the index in PostgreSQL lacks tables of this version: {UPGRADE}")
    if isinstance(error, (*_POOL, *_NOT_NOW, OSError)) or is_lost(error):
        return not_now(f"the index of the mirror's store cannot be reached now ({reason(error)}): try again")
    return StoreError(f"PostgreSQL refuses what the index of the mirror's store needs: {reason(error)}")


def not_now(text: str) -> StoreError:
    """Return an error that passes by itself."""
    return StoreError(text, headers={"retry-after": "10"})


def reason(error: Exception) -> str:
    """Return what a client may know of an error: the name of its kind, as in PostgreSQL's list of error codes."""
    return "no connection" if is_lost(error) or isinstance(error, _POOL) else type(error).__name__


def is_lost(error: Exception) -> bool:
    """Whether an error says that a connection is gone, or could not be made. What was under way may have been done."""
    if not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)) or isinstance(error, _POOL):
        return False
    return error.sqlstate is None or error.sqlstate.startswith("08") or isinstance(error, _ENDED)
