"""Runs the workers, with one listening socket for all of them and limits on the resources of clients."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from granian import Granian
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.log import LogLevels
from starlette.types import ASGIApp

from httpcache.adapter import Adapter
from httpcache.errors import MirrorError
from httpcache.freezing.mirror import FLIGHTS
from httpcache.settings import Settings

from . import worker
from .ending import GRACE_SECONDS
from .listening import renewing
from .reloading import Reloading
from .scheduler import CaptureScheduler

log = logging.getLogger("httpcache")

AGAIN_SECONDS: Final = 1.0
"""Seconds after which a second signal counts: a signal sent to a process and to its group arrives twice."""
BACKLOG: Final = 1024
"""Connections that wait in the kernel while every worker is at its limit; further clients have to retry."""
PROBES: Final = 3
"""Unanswered TCP keepalive probes to a silent client, spread over the client timeout."""
HANDLES_PER_CLIENT: Final = 2
"""A client's socket, and the file being sent to it."""
HANDLES_PER_DOWNLOAD: Final = 4
"""The upstream's socket, the partial file being written, its lock, and a spare one for the moment of freezing."""
HANDLES_OF_ITS_OWN: Final = 128
"""What a worker needs without any requests: SQLite once per thread, event loops, pipes, name resolution."""
FEWEST_CLIENTS: Final = 16
SOCKET_MODE: Final = 0o666
"""Of a Unix socket: who may use it is decided by its folder."""
UNLIMITED: Final = 1 << 20
"""The number of handles to assume if there is no limit."""


def run(reloading: Reloading, adapters: Sequence[Adapter]) -> int:
    """Serve until a signal stops the server; return the exit code. At SIGHUP, read the settings again.

    A worker that dies is replaced at once. If it dies again within 5.5 seconds, granian stops the server with exit code
    1, so that there is no crash loop and a supervisor of the server notices.
    """
    with TemporaryDirectory(prefix="httpcache-metrics-", ignore_cleanup_errors=True) as shared:
        return _run(reloading, adapters, Path(shared))


def _run(reloading: Reloading, adapters: Sequence[Adapter], shared: Path) -> int:
    """See `run`; `shared` is the folder of the processes' metrics."""
    settings = reloading.settings
    scheduler = CaptureScheduler(settings, adapters, shared)
    server = _Server(
        "httpcache",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        uds=settings.unix_socket,
        uds_permissions=SOCKET_MODE,
        ssl_cert=settings.tls_cert,
        ssl_key=settings.tls_key,
        ssl_protocol_min=SSLProtocols.tls12,
        http=HTTPModes.auto if settings.tls_cert else HTTPModes.http1,
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
        http2_settings=HTTP2Settings(max_headers_size=settings.max_header),
        log_level=LogLevels.warning if settings.log_level == "info" else LogLevels(settings.log_level),
    )
    server.patience = settings.client_timeout
    server.reloading, server.scheduler, server.channels = reloading, scheduler, {}
    signal.signal(signal.SIGHUP, server.signal_handler_reload)  # granian sets it later: until then it would end us
    with scheduler.running(), renewing(settings, server.renew):
        server.serve(target_loader=partial(worker.load, os.getpid(), adapters, shared), wrap_loader=False)
    return 0


class _Server(Granian):  # type: ignore[misc, valid-type]
    """granian with one listening socket for all workers, which it uses only if the kernel cannot share a port.

    With a socket for each worker, a connection is assigned to a worker before it is accepted: it waits for that worker
    even if another is free, and is reset if that worker dies. Also, only on a socket of our own can we set options,
    which accepted sockets inherit.
    """

    patience: float
    reloading: Reloading
    scheduler: CaptureScheduler
    channels: dict[int, tuple[Connection, Connection]]  # to each worker, by number: where it receives, and we send
    _ssp: Any  # creates a socket for each worker
    _shd: Any  # the socket they share
    _sso: socket.socket  # the same as a Python socket
    _first_signal: float | None = None  # when it arrived
    _handing_on = threading.Lock()
    _is_renewing = False
    _is_rereading = False

    def signal_handler_interrupt(self, *args: object, **kwargs: object) -> None:
        """Shut down gracefully at the first signal, immediately at a second one."""
        if self._first_signal is None:
            self._first_signal = time.monotonic()
        elif time.monotonic() - self._first_signal >= AGAIN_SECONDS:
            for process in self.wrks:
                with suppress(ProcessLookupError):
                    os.kill(process.inner.pid, worker.AT_ONCE)
        super().signal_handler_interrupt(*args, **kwargs)

    def _spawn_worker(self, idx: int, target: Any, callback_loader: Callable[..., ASGIApp]) -> Any:
        """Give a worker the settings that are in force now, and a channel for those to come."""
        self.channels[idx] = receiver, _ = Pipe(duplex=False)
        loader = partial(callback_loader, self.reloading.settings, receiver)
        return super()._spawn_worker(idx, target, loader)

    def renew(self) -> None:
        """Replace the workers by others that read the certificate again. To be called in any thread."""
        self._is_renewing = True
        super().signal_handler_reload()

    def signal_handler_reload(self, *args: object, **kwargs: object) -> None:
        """Have the settings read again."""
        self._is_rereading = True
        super().signal_handler_reload()

    def _reload(self, spawn_target: Any, target_loader: Any) -> None:
        """Do what `renew` or SIGHUP asked for. granian would replace the workers for both."""
        self.main_loop_interrupt.clear()
        self.reload_signal = False
        if self._is_rereading:
            self._is_rereading = False
            self._reread()
        if self._is_renewing:
            self._is_renewing = False
            super()._reload(spawn_target, target_loader)
        if self.interrupt_signal or self.interrupt_children or self.reload_signal:  # it came meanwhile
            self.main_loop_interrupt.set()

    def _reread(self) -> None:
        """Read the settings again, and hand them to the workers, which go on."""
        if self.reloading.again():
            self.scheduler.use(self.reloading.settings)
            threading.Thread(target=self._hand_on, daemon=True).start()  # a worker that hangs holds up nobody

    def _hand_on(self) -> None:
        with self._handing_on:
            for _, sender in list(self.channels.values()):
                with suppress(OSError):  # this worker has died: the one that replaces it has them
                    sender.send(self.reloading.settings)

    def _init_shared_socket(self) -> None:
        super()._init_shared_socket()
        if self._ssp is not None:
            self._shd, self._ssp = self._ssp.build(), None
            self._sso = socket.socket(fileno=self._shd.get_fd())
            self._sso.set_inheritable(True)
        if not self.bind_uds:
            _bound_silence(self._sso, self.patience)


def _bound_silence(listening: socket.socket, patience: float) -> None:
    """Make the kernel drop connections whose client is gone, or reads nothing of its answer for `patience` seconds.

    granian limits how long a client may take to send its request, but not to read the answer. The kernel can. On Linux
    the user timeout counts from the last acknowledged byte, and from the moment the client's window closed, even if the
    client keeps answering that it is closed. A client opens its window in steps, so a slow one has to read about 128 KB
    in that time: 4 KB a second with the default of 30 seconds. Keepalive probes clients to which no data is in flight
    because they are still waiting for their answer.
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
    """Return how many client connections a worker may have: fewer than configured if there are too few handles.

    A worker that has run out of handles cannot accept connections, and granian would retry without a pause.
    """
    handles = _handles()
    downloads = HANDLES_PER_DOWNLOAD + FLIGHTS  # downloads that wait for their turn hold only their lock
    kept = HANDLES_OF_ITS_OWN + downloads * settings.max_connections
    room = (handles - kept) // HANDLES_PER_CLIENT
    if room < FEWEST_CLIENTS:
        least = kept + HANDLES_PER_CLIENT * FEWEST_CLIENTS
        raise MirrorError(
            f"a process may open only {handles} files, and at least {least} are needed: "
            "raise the limit (ulimit -Hn), or lower --max-connections"
        )
    if room < settings.max_clients:
        log.warning(
            "a process may open only %d files: accepting %d clients at once instead of %d (raise ulimit -Hn for more)",
            handles,
            room,
            settings.max_clients,
        )
    return min(room, settings.max_clients)


def _handles() -> int:
    """Raise the limit of open files as far as possible, also for the workers started later; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems report a higher limit than they allow
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return UNLIMITED if soft == resource.RLIM_INFINITY else soft
