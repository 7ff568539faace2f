"""Counts the changes of the index that can change a response, across all processes on the machine (a seqlock).

    index/changes    a count of 8 bytes: odd while a change is in progress, even otherwise

SQLite can also tell whether anything has changed, but a query releases the GIL, and getting it back takes longer than
all the rest of a cache hit. The count is memory-mapped, so checking it means reading one number.
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
    """The count in a file. Any change that may affect earlier responses must be made inside `change`."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the file, creating it if it is missing. Raises OSError, StoreError.

        `read_only`: the folder cannot be written. If it has no such file, no process counts and the count stays 0.
        """
        self._path = path
        self._read_only = read_only
        self._file = None if read_only and not path.exists() else _opened(path, read_only=read_only)
        self._fd = self._file.fileno() if self._file else -1
        self._map = mmap.mmap(self._fd, SIZE, access=mmap.ACCESS_READ)
        self._counts = memoryview(self._map).cast("Q")

    def value(self) -> int | None:
        """Return the count, which no later state of the index will have again, or None while a change is in progress.

        If a process dies during a change, it stays None until the next change.
        """
        count = self._counts[0]
        return None if count % 2 else count

    @contextmanager
    def change(self, until: float) -> Iterator[None]:
        """Count a change that is made and committed inside the block. Only one thread of a process may enter at a time.

        `until` is when to give up waiting for another process to end its change (see `locks`). Raises OSError,
        StoreError.

        The count becomes odd before anything is committed and even again afterwards. So as long as it is the same even
        number, no change has been committed, even if a process died in between.
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
                with suppress(OSError):  # the count stays odd: the change is made, and the count is not relied on
                    self._write(under_way + 1)

    def _check(self) -> None:
        """Raise OSError if the file was replaced or truncated: other processes would not see what is counted here."""
        mine = os.fstat(self._fd)
        if mine.st_size != SIZE or not os.path.samestat(mine, os.stat(self._path)):
            raise OSError(errno.ESTALE, "index/changes was replaced while it was in use: restart the mirror")

    def _write(self, count: int) -> None:
        os.pwrite(self._fd, count.to_bytes(SIZE, sys.byteorder), 0)  # through the mmap, a full disk would raise SIGBUS

    def close(self) -> None:
        """Close the file."""
        self._counts.release()
        self._map.close()
        if self._file:
            self._file.close()


def _opened(path: Path, *, read_only: bool) -> FileIO:
    """Open the file, with an initial count if it is new."""
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
