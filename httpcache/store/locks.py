"""File locks between processes (flock), with a timeout: a process that holds one may hang and never release it."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager

from httpcache.errors import StoreError

PATIENCE = 10.0  # seconds to wait for a lock; the work done under one takes milliseconds
_FIRST, _LONGEST = 0.0005, 0.02  # seconds between two attempts


@contextmanager
def locked(fd: int, kind: int, until: float) -> Iterator[None]:
    """Hold the lock of an open file inside the block; `kind` is LOCK_SH or LOCK_EX.

    `until` is when to give up (`time.monotonic`); a free lock is acquired even after that. Raises StoreError.
    """
    acquire(fd, kind, until)
    try:
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)


def acquire(fd: int, kind: int, until: float) -> None:
    """Like `locked`, for whoever lets go of the lock by closing the file."""
    wait = _FIRST
    while not try_acquire(fd, kind):
        if time.monotonic() >= until:
            raise held()
        time.sleep(wait)
        wait = min(2 * wait, _LONGEST)


def held() -> StoreError:
    """Return the error for a lock that could not be acquired in time."""
    return StoreError(
        "another process did not release its lock on the mirror's store in time: try again; if this keeps happening, "
        "a process of the mirror hangs or is suspended: end it",
        headers={"retry-after": "10"},
    )


def try_acquire(fd: int, kind: int) -> bool:
    """Acquire a lock if it is free. Returns whether it was."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
