"""Ends a process of a server. A worker gives answers under way a grace period; then they are cut off and logged.

The server would wait for its connections without a limit, and clients can be slow. The requested address of each
connection is noted with its request; which connections are open, and what was sent on them, the system knows.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, TypeAlias

from starlette.types import Scope

from httpcache.target import shown_address

log = logging.getLogger("httpcache")

SECONDS: Final = 20.0
"""The grace period after the signal, for answers and downloads under way, in seconds."""
GRACE_SECONDS: Final = 25
"""Seconds from the signal until a worker is killed; longer than the grace period of answers."""
WATCH_SECONDS: Final = 1.0
"""Seconds between the checks whether the parent of a process is alive."""
STALE: Final = 4096
"""How many more connections are noted than can be open, before closed ones are removed."""
BYTES_ACKED: Final = 120
"""Offset in `struct tcp_info` of Linux of the 64-bit number of bytes that the peer has received (linux/tcp.h)."""

Client: TypeAlias = tuple[str, str]
"""A host and a port, as the server writes them."""


class Ending:
    """Notes the requests on the connections of a worker, and cuts off those still open after the grace period."""

    def __init__(self, listening: int | str, most: int, seconds: float = SECONDS) -> None:
        """`listening` is the server's port, or the path of its Unix socket.

        `most` is the limit of open connections, `seconds` the grace period.
        """
        self._listening = listening
        self._most = most + STALE
        self._seconds = seconds
        self._requests: dict[Client, tuple[bytes, bytes]] = {}  # path and query of the last one on a connection
        self._timer: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()

    def note(self, scope: Scope) -> None:
        """Note the requested address of a connection."""
        if len(self._requests) >= self._most:
            still_open = {client for client, _ in connections(self._listening)}
            self._requests = {client: request for client, request in self._requests.items() if client in still_open}
        if scope["client"]:
            self._requests[scope["client"]] = scope["raw_path"], scope["query_string"]

    def begin(self) -> None:
        """Start the grace period. Idempotent."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self.cut)

    async def over(self) -> None:
        """Wait until the grace period is over; start it if it has not started."""
        self.begin()
        await self._over.wait()

    def cut(self) -> None:
        """End the grace period: reset every connection, and log those with a request."""
        self._over.set()
        for client, connection in connections(self._listening):
            request = self._requests.get(client)
            if request:
                log.warning(
                    "%s: cut off because the mirror is stopping: %s bytes had been sent on this connection",
                    shown_address(*request),
                    _received(connection),
                )
            with suppress(OSError):  # it was just closed
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RDWR)


def watch(parent: int) -> None:
    """End this process once its parent has been killed: a worker would occupy the port of the next server."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    log.error("the server was killed: this process stops too")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def connections(listening: int | str) -> Iterator[tuple[Client, socket.socket]]:
    """Yield the connections of this process that were accepted on a port or Unix socket, with the client's address.

    Clients of a Unix socket have none. Each socket is valid until the next one is requested.
    """
    for name in os.listdir("/dev/fd"):
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            handle = os.dup(int(name))
        except OSError:  # closed meanwhile
            continue
        with socket.socket(fileno=handle) as connection, suppress(OSError):  # a listening socket has no peer
            name = connection.getsockname()
            if connection.family == socket.AF_UNIX and name == listening:
                connection.getpeername()
                yield ("", "0"), connection
            if connection.family in (socket.AF_INET, socket.AF_INET6) and name[1] == listening:
                host, peer = connection.getpeername()[:2]
                yield (host.partition("%")[0], str(peer)), connection


def _received(connection: socket.socket) -> int | str:
    """Return how many bytes a client has acknowledged, or "some" if the system does not tell."""
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED + 8)
        return int(struct.unpack_from("Q", info, BYTES_ACKED)[0])
    except (AttributeError, OSError, struct.error):
        return "some"
