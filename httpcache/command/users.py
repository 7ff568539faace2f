"""Who uses a data folder: servers and captures beside each other, a repair alone."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from httpcache.errors import MirrorError

NAME = "users.lock"


@contextmanager
def beside(folder: Path) -> Iterator[None]:
    """Use a folder beside others inside the block. Raises MirrorError while somebody uses it alone."""
    with _holding(folder, fcntl.LOCK_SH, f"a repair of {folder} is under way: let it end"):
        yield


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Use a folder alone inside the block. Raises MirrorError while servers or captures use it."""
    with _holding(folder, fcntl.LOCK_EX, f"a server or a capture uses {folder}: stop it first, then start it again"):
        yield


@contextmanager
def _holding(folder: Path, kind: int, busy: str) -> Iterator[None]:
    path = folder / NAME
    try:
        lock = path.open("a")
    except OSError as error:
        raise MirrorError(f"{path} cannot be opened ({error.strerror}): be the user that serves") from error
    with lock:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MirrorError(busy) from error
        yield
