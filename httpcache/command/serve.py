"""Runs the workers: one listening socket for all of them, and bounds on what clients may hold."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any, Final

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from httpcache.adapter import Adapter
from httpcache.errors import MirrorError
from httpcache.freezing.mirror import FLIGHTS
from httpcache.settings import Settings
from httpcache.web.app import build

from .ending import Ending
from .scheduler import CaptureScheduler

log = logging.getLogger("httpcache")

GRACE_SECONDS: Final = 25
"""From the signal to the last resort; above what answers get."""
AGAIN_SECONDS: Final = 1.0
"""After which a signal is another one: whoever sends one to a process and to its group sends the same one twice."""
AT_ONCE: Final = signal.SIGUSR1
"""What tells a worker to wait no longer. SIGTERM and SIGINT can reach it twice, from its parent and from elsewhere."""
WATCH_SECONDS: Final = 1.0
"""Between two looks of a worker whether its parent is there."""
BACKLOG: Final = 1024
"""Connections that wait in the kernel while every worker has as many as it may; those behind them try again."""
PROBES: Final = 3
"""Unanswered questions whether a silent client is still there, spread over the client timeout."""
HANDLES_PER_CLIENT: Final = 2
"""A client's socket, and the file that is sent to it."""
HANDLES_PER_DOWNLOAD: Final = 4
"""The upstream's socket, the part that is written, its lock, and a spare one for the moment of freezing."""
HANDLES_OF_ITS_OWN: Final = 128
"""What a worker needs before anybody asks: SQLite once per thread, event loops, pipes, name resolution."""
FEWEST_CLIENTS: Final = 16
LARGE: Final = 512 * 1024
"""Bytes from which on memory is asked of the system, and given back to it, piece by piece."""
SPARE: Final = 8 * 1024 * 1024
"""Free bytes that a heap may keep: what downloads take and leave all the time."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
UNLIMITED: Final = 1 << 20
"""Handles to reckon with where there is no limit."""


def run(settings: Settings, adapters: Sequence[Adapter]) -> int:
    """Serve until a signal ends it; return the exit code.

    A worker that dies is replaced at once. If it dies again within 5.5 seconds, granian ends the server with exit code
    1: a loop of crashes does not spin here, and whoever supervises the server sees it.
    """
    server = _Server(
        "httpcache",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        workers=settings.workers,
        workers_kill_timeout=GRACE_SECONDS,
        respawn_failed_workers=True,
        backlog=BACKLOG,
        backpressure=_clients(settings),
        http1_settings=HTTP1Settings(
            header_read_timeout=max(1, round(settings.client_timeout * 1000)),
            max_buffer_size=settings.max_header,
        ),
        log_level=LogLevels.warning if settings.log_level == "info" else LogLevels(settings.log_level),
    )
    server.patience = settings.client_timeout
    with (
        CaptureScheduler(settings, adapters).running() if settings.capture or settings.capture_every else nullcontext()
    ):
        server.serve(target_loader=partial(_load, os.getpid(), settings, adapters), wrap_loader=False)
    return 0


def _load(parent: int, settings: Settings, adapters: Sequence[Adapter]) -> ASGIApp:
    """Return the application in a worker, which from now on ends when its parent does."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    _bound_memory()
    ending = Ending(settings.port, settings.max_clients)
    app = build(settings, adapters, ending.over)

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        """The application, whose errors at its start are one line each: Starlette sends a traceback."""

        async def shorten(message: Message) -> None:
            error = sys.exception()
            if message["type"] == "lifespan.startup.failed" and isinstance(error, MirrorError):
                message["message"] = f"httpcache: {error.text}"
            await send(message)

        if scope["type"] != "lifespan":
            ending.note(scope)
            await app(scope, receive, send)
            return
        _end_in_time(ending)
        with suppress(MirrorError):  # it has been told
            await app(scope, receive, shorten)

    return told


def _end_in_time(ending: Ending) -> None:
    """Begin the end at SIGTERM, which a worker gets whatever its parent got; granian's own handler is that of SIGINT.

    granian then stops to accept, ends connections that wait for nothing, and waits for the others.
    """
    loop = asyncio.get_running_loop()

    def begin() -> None:
        ending.begin()
        os.kill(os.getpid(), signal.SIGINT)

    loop.add_signal_handler(signal.SIGTERM, begin)
    loop.add_signal_handler(AT_ONCE, ending.cut)


def _bound_memory() -> None:
    """Have glibc give back what large pages took: by default each thread has a heap of its own, and keeps it.

    mallopt(3); other C libraries have no such thing.
    """
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((M_ARENA_MAX, 2), (M_MMAP_THRESHOLD, LARGE), (M_TRIM_THRESHOLD, SPARE)):
            mallopt(option, value)


def _watch(parent: int) -> None:
    """A parent that was killed ends nobody: its workers would go on, and hold the port against the next server."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    log.error("the server was killed: its workers end")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


class _Server(Granian):  # type: ignore[misc, valid-type]
    """granian with one listening socket for all workers, as it has where the kernel cannot share a port.

    With a socket for each, a connection belongs to a worker before one has accepted it: it waits for that one though
    another is free, and is reset if that one dies. And only our own socket can carry options, which those that are
    accepted from it inherit.
    """

    patience: float
    _ssp: Any  # what makes a socket for each worker
    _shd: Any  # the one that they share
    _sso: socket.socket  # the same, as Python has it
    _told: float | None = None  # when the first signal came

    def signal_handler_interrupt(self, *args: object, **kwargs: object) -> None:
        """A first signal ends the server when all is done, another one ends it now."""
        if self._told is None:
            self._told = time.monotonic()
        elif time.monotonic() - self._told >= AGAIN_SECONDS:
            for worker in self.wrks:
                with suppress(ProcessLookupError):
                    os.kill(worker.inner.pid, AT_ONCE)
        super().signal_handler_interrupt(*args, **kwargs)

    def _init_shared_socket(self) -> None:
        super()._init_shared_socket()
        if self._ssp is not None:
            self._shd, self._ssp = self._ssp.build(), None
            self._sso = socket.socket(fileno=self._shd.get_fd())
            self._sso.set_inheritable(True)
        _bound_silence(self._sso, self.patience)


def _bound_silence(listening: socket.socket, patience: float) -> None:
    """Let the kernel break connections whose client is gone, or takes nothing of its answer for `patience` seconds.

    granian bounds how long a client may take to ask, not how long it may take to read. The kernel can. On Linux the
    user timeout counts from the last acknowledged byte, and from the moment when the client's window was closed, also
    if the client keeps answering that it is closed. A client opens its window in steps, so a slow one has to take about
    128 KB in that time: 4 KB a second of the default's 30. Keepalive asks after clients to whom nothing is on the way,
    because their answer has yet to come.
    """
    seconds = max(1, round(patience))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(patience * 1000)))
    if hasattr(socket, "TCP_KEEPIDLE"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, seconds // PROBES))
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)


def _clients(settings: Settings) -> int:
    """Return how many connections of clients a worker may have: fewer than were asked for if handles are short.

    A worker without a handle left cannot accept, and granian would try again without a pause.
    """
    handles = _handles()
    downloads = HANDLES_PER_DOWNLOAD + FLIGHTS  # those that wait for their turn have their lock alone
    kept = HANDLES_OF_ITS_OWN + downloads * settings.max_connections
    room = (handles - kept) // HANDLES_PER_CLIENT
    if room < FEWEST_CLIENTS:
        least = kept + HANDLES_PER_CLIENT * FEWEST_CLIENTS
        raise MirrorError(
            f"a process may open only {handles} files here, and at least {least} are needed: "
            "raise the limit (ulimit -Hn), or lower --max-connections"
        )
    if room < settings.max_clients:
        log.warning(
            "a process may open only %d files here: %d clients at once, not %d", handles, room, settings.max_clients
        )
    return min(room, settings.max_clients)


def _handles() -> int:
    """Raise the limit of open files as far as it goes, also for the workers to come; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems promise more than they allow
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return UNLIMITED if soft == resource.RLIM_INFINITY else soft
