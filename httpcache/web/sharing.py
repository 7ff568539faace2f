"""Puts the numbers of several processes together: each writes its own to a file, and whoever is asked reads all files.

The folder is that of one server, made when it starts. What a process has counted stays when it ends; its gauges count
no more once it has not written for a while.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from httpcache import logs
from httpcache.metrics import CPU, MEMORY, WORKERS, Metrics, Sample, Snapshot

EVERY = 1.0  # seconds between two writings
ALIVE = 10.0  # seconds after which a process that has not written is taken for dead
_PAGE = resource.getpagesize()


class Sharing:
    """The numbers of this process and of all others of the server.

    `folder` is theirs; None for a process that is alone. `answers`: whether this process answers requests.
    """

    def __init__(self, metrics: Metrics, folder: Path | None, *, answers: bool = True) -> None:
        self.metrics = metrics
        self.folder = folder
        self._answers = answers
        self._file: int | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write the numbers of this process again and again inside the block, and at its end."""
        if self.folder is None:
            yield
            return
        self._file = os.open(self.folder / f"{os.getpid()}-{time.time_ns()}", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        writing = asyncio.ensure_future(self._write_always())
        try:
            yield
        finally:
            writing.cancel()
            with suppress(asyncio.CancelledError):
                await writing
            self._write(ended=True)
            os.close(self._file)

    async def _write_always(self) -> None:
        while True:
            self._write()
            await asyncio.sleep(EVERY)

    def _own(self, *, ended: bool = False) -> Snapshot:
        gauges = [] if ended else [Sample(MEMORY, (), _memory()), Sample(WORKERS, (), int(self._answers))]
        own = self.metrics.snapshot(0.0 if ended else time.time(), [Sample(CPU, (), time.process_time())])
        own.gauges += gauges
        own.lines = logs.last()
        return own

    def _write(self, *, ended: bool = False) -> None:
        """Write in place: a file that is replaced again and again would be flushed to the disk each time."""
        if self._file is None:
            return
        text = msgspec.msgpack.encode(self._own(ended=ended))
        with suppress(OSError):  # a disk that is full: the numbers are those of before
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                os.pwrite(self._file, text, 0)
                os.ftruncate(self._file, len(text))
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def all(self) -> list[Snapshot]:
        """Return the numbers of all processes: gauges only of those that live."""
        if self.folder is None:
            return [self._own()]
        self._write()
        now = time.time()
        found = list(_read(self.folder))
        for each in found:
            if each.taken < now - ALIVE:
                each.gauges = []
        return found


def _read(folder: Path) -> Iterator[Snapshot]:
    for path in folder.iterdir():
        with suppress(OSError, msgspec.MsgspecError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield msgspec.msgpack.decode(file.read(), type=Snapshot)


def _memory() -> int:
    """Return the bytes of memory that this process has; see proc(5)."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    return 0
