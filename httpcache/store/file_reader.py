"""Reads pieces of open files: at once what the system has in memory, the rest in threads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TypeVar

import anyio.to_thread

from httpcache.errors import Damaged

from .errors import guarded

T = TypeVar("T")

NO_WAIT: int | None = getattr(os, "RWF_NOWAIT", None)  # Linux has it
CHUNK = 128 * 1024  # bytes that are read at once; a client that takes none of them holds about ten times as many
LEAST = 16 * 1024  # bytes that are read at once for each of many clients
READ_AHEAD = 4 * 1024 * 1024  # bytes that are read at once for all clients together, but LEAST for each


class _Reading:
    """How many files are being read for clients. The more there are, the smaller the pieces: memory stays bounded."""

    files = 0

    @classmethod
    def piece(cls) -> int:
        return max(LEAST, min(CHUNK, READ_AHEAD // cls.files))


async def read_file(fd: int, start: int, stop: int) -> AsyncIterator[bytes]:
    """Yield the bytes `start` to `stop` of an open file. Raises StoreError where it ends before."""
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
        if not chunk:  # there are versions of Linux that say so of what is not in memory
            chunk = await _in_thread(partial(os.pread, fd, count, start))
        else:
            await asyncio.sleep(0)  # others get their turn, as they do while a thread reads
        if not chunk:
            raise Damaged("a file of the store is shorter than its record says: ask again")
        yield chunk
        start += len(chunk)


def _read_cached(fd: int, count: int, at: int) -> bytes:
    """Read what the system has in memory, without a thread; nothing where it has none, or that fails."""
    if NO_WAIT is None:
        return b""
    buffer = bytearray(count)
    try:
        return bytes(memoryview(buffer)[: os.preadv(fd, [buffer], at, NO_WAIT)])
    except OSError:  # EAGAIN is one; a thread tells of the others
        return b""


async def _in_thread(work: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(guarded, work)
