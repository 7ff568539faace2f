"""Counts the changes of the index that can change an answer, for all processes of the machine that have it open.

    index/changes    a count of 8 bytes: even while nothing changes, odd while a change is under way

SQLite tells too whether anything has changed, but a question to it lets other threads have the interpreter, and to get
that back takes longer than all the rest of a hit. The count is mapped into memory: to look at it is to read a number.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from .locks import PATIENCE, locked

SIZE = 8


class Generation:
    """The count in a file. Whoever changes what may have been answered does it inside of `change`."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the file, making it where it is missing. Raises OSError, StoreError.

        `read_only`: the folder cannot be written; without a file in it nobody counts, and the count stays 0.
        """
        self._path = path
        self._read_only = read_only
        self._file = None if read_only and not path.exists() else _opened(path, read_only=read_only)
        self._fd = self._file.fileno() if self._file else -1
        self._map = mmap.mmap(self._fd, SIZE, access=mmap.ACCESS_READ)
        self._counts = memoryview(self._map).cast("Q")

    def value(self) -> int | None:
        """Return the count, which no later state of the index has again; None while a change is under way.

        It stays None after a change that was cut off, until the next one.
        """
        count = self._counts[0]
        return None if count % 2 else count

    @contextmanager
    def change(self, until: float) -> Iterator[None]:
        """Count what is changed and committed inside the block. One thread of a process at a time.

        `until` is when to give up where another process does not end its change (see `locks`). Raises OSError,
        StoreError.

        It is odd before anything is committed and even again after that. So while it is the same even number no change
        has been committed, also where a process ends in between.
        """
        if self._read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        with locked(self._fd, fcntl.LOCK_EX, until):
            self._check()
            under_way = self._counts[0] | 1
            self._write(under_way)
            try:
                yield
            finally:
                with suppress(OSError):  # it stays odd: the change is made, and nobody relies on the count
                    self._write(under_way + 1)

    def _check(self) -> None:
        """Raise OSError where others have another file, or it was cut: nothing that is counted here reaches them."""
        mine = os.fstat(self._fd)
        if mine.st_size != SIZE or not os.path.samestat(mine, os.stat(self._path)):
            raise OSError(errno.ESTALE, "index/changes was replaced while it was in use: stop all that use the folder")

    def _write(self, count: int) -> None:
        os.pwrite(self._fd, count.to_bytes(SIZE, sys.byteorder), 0)  # by a mapping, a full disk would be a signal

    def close(self) -> None:
        """Close the file."""
        self._counts.release()
        self._map.close()
        if self._file:
            self._file.close()


def _opened(path: Path, *, read_only: bool) -> FileIO:
    """Return the file with a count in it."""
    if read_only:
        return FileIO(path)
    file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
    try:
        with locked(file.fileno(), fcntl.LOCK_EX, time.monotonic() + PATIENCE):
            if os.fstat(file.fileno()).st_size < SIZE:
                os.pwrite(file.fileno(), bytes(SIZE), 0)
    except BaseException:
        file.close()
        raise
    return file
