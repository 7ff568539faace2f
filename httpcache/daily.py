"""Captures: one pass over all that the adapters follow, by command, or beside a server each day at 00:00 UTC.

Each pass is a process of its own, so what it takes of memory ends with it. It can be killed at any instant: what it has
done is kept, and the next one does the rest.
"""

from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import anyio

from .adapter import Adapter
from .errors import MirrorError
from .local import LocalStore
from .mirror import running
from .progress import Lines, Progress
from .settings import Settings

log = logging.getLogger("httpcache")

DAY: Final = 86_400.0
RETRY: Final = 300.0
"""Seconds after a pass that failed."""
LOOK: Final = 1.0
"""Seconds between two looks whether a pass has ended, or the server is to stop."""
SLEEP: Final = 60.0
"""Seconds after which the clock is looked at again: a machine can be asleep meanwhile."""
AGENT: Final = "(capture)"
LOOP: Final = {"use_uvloop": find_spec("uvloop") is not None}
"""For `anyio.run`: uvloop where it is installed, as the workers of a server have it."""


async def capture(settings: Settings, adapters: Sequence[Adapter], progress: Progress) -> list[str]:
    """Make one pass; return a summary in lines. Raises MirrorError, also where another pass is under way."""
    with closing(LocalStore(settings.data)) as store, _alone(settings.data):
        lines: list[str] = []
        failed: MirrorError | None = None
        async with running(settings, store, store.spool, AGENT) as mirror:
            try:
                for adapter in adapters:
                    lines += await adapter.bind(mirror).capture(progress)
            except MirrorError as error:  # raised below: the tasks of the mirror would make a group of it
                failed = error
        if failed:
            raise failed
        return lines


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of captures on a folder. Raises MirrorError where another process has it, and says which."""
    with (folder / "capture.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise MirrorError(f"a capture of {folder} is under way already (process {holder}): let it end") from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def is_due(now: float, last: float | None, every: float | None) -> bool:
    """Whether a pass should be made: none has been since 00:00 UTC, or for `every` seconds.

    `last` is when the last pass began, None for never. All are in seconds, instants since the epoch.
    """
    if last is None or last < now - now % DAY:
        return True
    return every is not None and now - last >= every


def pause(now: float, every: float | None) -> float:
    """Return the seconds until the next look whether a pass is due: until 00:00 UTC, or `every` if that is earlier."""
    midnight = DAY - now % DAY
    return midnight if every is None else min(midnight, every)


class Daily:
    """Starts passes beside a server, one at a time, each in a process of its own."""

    def __init__(self, settings: Settings, adapters: Sequence[Adapter]) -> None:
        self._settings = settings
        self._adapters = adapters
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="captures")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make passes inside the block; one that is under way at its end is ended."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()

    def _run(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        due = 0.0
        while not self._stop.wait(min(SLEEP, max(0.0, due - time.time()))):
            if time.time() < due:
                continue
            process = spawn.Process(target=_pass, args=(os.getpid(), self._settings, self._adapters))
            process.start()
            while process.is_alive() and not self._stop.wait(LOOK):
                pass
            process.terminate()
            process.join()
            due = time.time() + (pause(time.time(), self._settings.capture_every) if process.exitcode == 0 else RETRY)


def _pass(parent: int, settings: Settings, adapters: Sequence[Adapter]) -> None:
    """Make a pass if one is due, in a process that ends when its parent does."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    log.setLevel(settings.log_level.upper())
    with suppress(KeyboardInterrupt):
        try:
            if anyio.run(_is_due, settings, adapters, backend_options=LOOP):
                for line in anyio.run(capture, settings, adapters, Lines(), backend_options=LOOP):
                    log.info("%s", line)
        except MirrorError as error:
            log.error("the capture failed: %s", error.text)
            sys.exit(1)


async def _is_due(settings: Settings, adapters: Sequence[Adapter]) -> bool:
    with closing(LocalStore(settings.data)) as store:
        async with running(settings, store, store.spool, AGENT) as mirror:
            found = [await adapter.bind(mirror).captured() for adapter in adapters]
    last = None if None in found else min(instant for instant in found if instant is not None) / 1e6
    return is_due(time.time(), last, settings.capture_every)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)
