"""Locks a data folder: shared by servers and captures, exclusive for a repair."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from httpcache.errors import MirrorError

NAME = "users.lock"


@contextmanager
def beside(folder: Path) -> Iterator[None]:
    """Hold a shared lock of a folder inside the block. Raises MirrorError if a repair is using it."""
    with _holding(folder, fcntl.LOCK_SH, f"a repair of {folder} is running: wait until it ends"):
        yield


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the exclusive lock of a folder inside the block. Raises MirrorError if servers or captures are using it."""
    busy = f"a server or a capture is using {folder}: stop it, run this command, then start it again"
    with _holding(folder, fcntl.LOCK_EX, busy):
        yield


@contextmanager
def _holding(folder: Path, kind: int, busy: str) -> Iterator[None]:
    path = folder / NAME
    try:
        lock = path.open("a")
    except OSError as error:
        raise MirrorError(
            f"{path} cannot be opened ({error.strerror}): run this command as the user that runs the server"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MirrorError(busy) from error
        yield
