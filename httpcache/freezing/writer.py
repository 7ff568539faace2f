"""Writes a body to a file in a thread while more of it arrives."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Self

import anyio

BATCH = 1024 * 1024  # bytes of a body that may wait to be written; smaller batches cost more handovers
WAITING = 32 * BATCH  # bytes of all bodies that may wait; the threads may hold as many again
SYNCED = 64 * BATCH  # bytes between two fdatasync calls, so that the final one does not stall everything
PIECE = 256  # overhead of a piece, in bytes
AT_ONCE = 64 * 1024  # bytes of a first piece that are written on the event loop: a thread would take longer to wake up


class Writer:
    """Writes a body to its part file in a thread while buffering more of it, up to BATCH bytes or its share of WAITING.

    Whatever is buffered when the thread becomes free is the next batch. Another thread syncs to disk in the meantime,
    so that at most twice SYNCED bytes are not on the disk. Only a first piece of up to AT_ONCE bytes, which a client
    waits for, and which may be all of a small file, is written without a thread.
    """

    _count = 0

    def __init__(
        self,
        threads: Executor,
        fd: int,
        first: Callable[[], object] | None,
        on_piece: Callable[[bytes], object],
        on_written: Callable[[int], object],
    ) -> None:
        """`threads` is an executor from `prestarted_executor`.

        Where a piece is written, `first`, if given, is called before anything is, and `on_piece` with every piece. On
        the event loop, `on_written` is called with the number of bytes written so far.
        """
        self.taken = 0
        self._threads = threads
        self._fd = fd
        self._on_piece = on_piece
        self._on_written = on_written
        self._work: list[Callable[[], object]] = [first] if first else []
        self._waiting = 0  # bytes not yet handed to the thread
        self._batch: asyncio.Future[None] | None = None
        self._synced = 0  # bytes that were written when the last sync started
        self._sync: asyncio.Future[None] | None = None
        self._error: BaseException | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Accept pieces inside the block. On normal exit all are written; nothing is written after any exit."""
        Writer._count += 1
        try:
            yield self
            await self._until(0, 0)
        finally:
            Writer._count -= 1
            self._work.clear()
            with anyio.CancelScope(shield=True):  # threads still use a file descriptor that is about to be closed
                while under_way := self._batch or self._sync:
                    await asyncio.wait([under_way])

    async def take(self, piece: bytes) -> None:
        """Accept a piece, and wait while too much is buffered. Raises OSError for this piece or an earlier one."""
        is_first = not self.taken
        self.taken += len(piece)
        self._waiting += len(piece) + PIECE
        self._work.append(partial(self._write, piece))
        if is_first and len(piece) <= AT_ONCE:
            _do(self._taken_over())
            self._on_written(self.taken)
        elif self._batch is None and self._error is None:
            self._start()
        await self._until(min(BATCH, WAITING // Writer._count), 2 * SYNCED)
        await asyncio.sleep(0)  # an upstream with many small pieces must not starve the others

    async def _until(self, waiting: int, unsynced: int) -> None:
        while self._batch and self._waiting >= waiting:
            await asyncio.wait([self._batch])
        while self._sync and self.taken - self._synced >= unsynced:
            await asyncio.wait([self._sync])
        if self._error:
            raise self._error

    def _start(self) -> None:
        self._batch = asyncio.get_running_loop().run_in_executor(self._threads, _do, self._taken_over())
        self._batch.add_done_callback(partial(self._ended, self.taken))

    def _taken_over(self) -> list[Callable[[], object]]:
        """Return the buffered work, to be done by the caller."""
        work, self._work, self._waiting = self._work, [], 0
        return work

    def _ended(self, written: int, batch: asyncio.Future[None]) -> None:
        self._batch, self._error = None, self._error or batch.exception()
        if self._error is None:
            self._on_written(written)
            if self._sync is None and written - self._synced >= SYNCED:
                self._start_sync(written)
            if self._work:
                self._start()

    def _start_sync(self, written: int) -> None:
        self._synced = written
        # In the loop's default executor, so that writers of small bodies do not wait for the disk. If it cannot be
        # started, everything is synced at the end, as for small bodies.
        with suppress(RuntimeError):
            self._sync = asyncio.get_running_loop().run_in_executor(None, os.fdatasync, self._fd)
            self._sync.add_done_callback(self._sync_ended)

    def _sync_ended(self, sync: asyncio.Future[None]) -> None:
        self._sync, self._error = None, self._error or sync.exception()  # the kernel reports a write error only once

    def _write(self, piece: bytes) -> None:
        self._on_piece(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(self._fd, view) :]


def _do(work: list[Callable[[], object]]) -> None:
    for each in work:
        each()
