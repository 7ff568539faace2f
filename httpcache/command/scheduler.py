"""Runs captures: passes over all that the adapters follow, by command, or beside a server every day at 00:00 UTC.

A server runs each pass in a process of its own, so that its memory is released at the end. A pass can be killed at any
time: what it has done is kept, and the next pass does the rest.
"""

from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import anyio

from httpcache import logs
from httpcache.adapter import Adapter, Progress
from httpcache.errors import MirrorError
from httpcache.freezing.mirror import running
from httpcache.settings import Settings
from httpcache.store.opening import opened
from httpcache.under_way import Noted
from httpcache.web.sharing import Sharing

from .ending import watch
from .progress import Lines
from .users import beside

log = logging.getLogger("httpcache")

DAY: Final = 86_400.0
RETRY: Final = 300.0
"""Seconds until the next pass after one that failed."""
CHECK_INTERVAL: Final = 1.0
"""Seconds between checks whether a pass has ended or the server is stopping."""
SLEEP: Final = 60.0
"""Seconds after which the clock is checked again, because the machine may have been suspended."""
AGENT: Final = "(capture)"
LOOP: Final = {"use_uvloop": find_spec("uvloop") is not None}
"""For `anyio.run`: uvloop if it is installed, as in the workers of a server."""


class UnderWay(MirrorError):
    """Another process is running a capture of the same folder (500)."""


async def capture(
    settings: Settings,
    adapters: Sequence[Adapter],
    progress: Progress,
    due: Callable[[float | None], bool],
    report: Callable[[str], None],
    shared: Path | None = None,
) -> None:
    """Run a pass over all that is due (see `adapter.Bound`). Raises MirrorError; failures of adapters at the end.

    `shared` is the folder of the metrics of a server beside which it runs.
    """
    failed: list[str] = []
    async with opened(settings.location) as store, store.index.lease("capture") as is_ours:
        if not is_ours:
            raise UnderWay("a capture of this store is already running on another machine: wait until it ends")
        with _alone(settings.data), beside(settings.data), closing(Noted(progress, settings.data)) as noted:
            async with (
                running(settings, store, store.spool, AGENT) as mirror,
                Sharing(mirror.metrics, shared, answers=False).running(),
            ):
                for adapter in adapters:
                    try:
                        await adapter.bind(mirror).capture(noted, due, report)
                    except MirrorError as error:
                        failed.append(error.text)
    if failed:
        raise MirrorError("; ".join(failed))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the capture lock of a folder. Raises UnderWay, naming the process, if another process holds it."""
    path = folder / "capture.lock"
    try:
        lock = path.open("a+")
    except OSError as error:
        raise MirrorError(
            f"{path} cannot be opened ({error.strerror}): run the capture as the user that runs the server"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise UnderWay(
                f"a capture of {folder} is already running (process {holder}): wait until it ends"
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def is_due(now: float, last: float | None, every: float | None) -> bool:
    """Whether a pass is due: none has run since 00:00 UTC, or for `every` seconds.

    `last` is when the last pass began, None if never. All are in seconds, instants since the epoch.
    """
    if last is None or last < now - now % DAY:
        return True
    return every is not None and now - last >= every


def upcoming(started: float, ended: float, every: float | None) -> float:
    """Return when the next pass is due: at the first 00:00 UTC after `started`, or `every` seconds after `ended`."""
    midnight = started - started % DAY + DAY
    return midnight if every is None else min(midnight, ended + every)


class CaptureScheduler:
    """Runs passes beside a server, one at a time, each in a process of its own with the settings of its start.

    The settings also say whether there are passes, and when.
    """

    def __init__(self, settings: Settings, adapters: Sequence[Adapter], shared: Path) -> None:
        """`shared` is the folder of the server's metrics."""
        self._settings = settings
        self._shared = shared
        self._adapters = adapters
        self._stop = threading.Event()
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="captures")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run passes inside the block; a pass under way at its end is terminated."""
        self.use(self._settings)
        try:
            yield
        finally:
            self._stop.set()
            self._changed.set()
            if self._thread.is_alive():
                self._thread.join()

    def use(self, settings: Settings) -> None:
        """Use these settings from the next pass on. One that failed is then tried again at once."""
        self._settings = settings
        self._changed.set()
        if self._is_on and not self._thread.is_alive():
            self._thread.start()

    @property
    def _is_on(self) -> bool:
        return self._settings.capture or self._settings.capture_every is not None

    def _run(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        due, last = 0.0, None  # when the next pass is due, and when the last one began and ended, if it succeeded
        while True:
            self._changed.wait(min(SLEEP, max(0.0, due - time.time())))
            if self._stop.is_set():
                return
            if self._changed.is_set():
                self._changed.clear()
                due = upcoming(*last, self._settings.capture_every) if last else 0.0
            started = time.time()
            if not self._is_on:
                due = started + SLEEP
                continue
            if started < due <= started + DAY:  # if it is further away, the clock was set back
                continue
            process = spawn.Process(target=_pass, args=(os.getpid(), self._settings, self._adapters, self._shared))
            try:
                process.start()
            except OSError as error:
                log.error("cannot start a capture (%s): trying again in %.0f s", error.strerror, RETRY)
                due = started + RETRY
                continue
            while process.is_alive() and not self._stop.wait(CHECK_INTERVAL):
                pass
            process.terminate()
            process.join()
            ended = time.time()
            last = None if process.exitcode else (started, ended)
            due = upcoming(started, ended, self._settings.capture_every) if last else ended + RETRY


def _pass(parent: int, settings: Settings, adapters: Sequence[Adapter], shared: Path) -> None:
    """Run a pass if one is due, in a process that ends when its parent does."""
    threading.Thread(target=watch, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it is for the server, and may come to all processes of a group
    logs.start(settings.log_level, settings.log_format)

    def due(last: float | None) -> bool:
        return is_due(time.time(), last, settings.capture_every)

    def report(line: str) -> None:
        log.info("captured %s", line)

    with suppress(KeyboardInterrupt):
        try:
            anyio.run(capture, settings, adapters, Lines(), due, report, shared, backend_options=LOOP)
        except UnderWay as error:
            log.info("%s", error.text)
            sys.exit(1)
        except MirrorError as error:
            log.error("the capture failed: %s", error.text)
            sys.exit(1)
