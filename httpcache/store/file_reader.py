"""Reads open files in pieces: directly if the data is in the page cache, otherwise in threads."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TypeVar

import anyio.to_thread

from httpcache.errors import DamagedBody

from .errors import guarded

T = TypeVar("T")

NO_WAIT: int | None = getattr(os, "RWF_NOWAIT", None)  # Linux only
CHUNK = 256 * 1024  # bytes for each read; a client that does not receive holds about ten times as many
LEAST = 16 * 1024  # bytes for each read when there are many clients
READ_AHEAD = 8 * 1024 * 1024  # bytes for the reads of all clients together, but at least LEAST for each


class _Buffer(threading.local):
    """A thread's buffer for reads from memory: to allocate and clear one for each takes longer than the read itself."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(CHUNK))


_BUFFER = _Buffer()


class _Reading:
    """The number of files being read for clients. The more there are, the smaller the pieces, to bound memory."""

    files = 0

    @classmethod
    def piece(cls) -> int:
        return max(LEAST, min(CHUNK, READ_AHEAD // cls.files))


async def read_file(fd: int, start: int, stop: int) -> AsyncIterator[bytes]:
    """Yield the bytes of an open file from `start` to `stop` (exclusive). Raises StoreError if it is shorter."""
    _Reading.files += 1
    try:
        async for chunk in _pieces(fd, start, stop):
            yield chunk
    finally:
        _Reading.files -= 1


async def _pieces(fd: int, start: int, stop: int) -> AsyncIterator[bytes]:
    while start < stop:
        count = min(_Reading.piece(), stop - start)
        chunk = _read_cached(fd, count, start)
        if not chunk:  # some versions of Linux return nothing for data that is not in memory
            chunk = await _in_thread(partial(os.pread, fd, count, start))
        else:
            await asyncio.sleep(0)  # give other tasks a turn, as reading in a thread does
        if not chunk:
            raise DamagedBody("a file of the store is shorter than its record says: try again")
        yield chunk
        start += len(chunk)


def _read_cached(fd: int, count: int, at: int) -> bytes:
    """Read data from the page cache without blocking. Returns b"" if it is not there, or if reading fails."""
    if NO_WAIT is None:
        return b""
    view = _BUFFER.view[:count]
    try:
        return bytes(view[: os.preadv(fd, [view], at, NO_WAIT)])
    except OSError:  # EAGAIN, or an error that the thread will meet again and report
        return b""


async def _in_thread(work: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(guarded, work)
