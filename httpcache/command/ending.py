"""The end of a worker: from the signal on, answers under way have a while; then they are cut, and the log names them.

The server waits for its connections without a bound, and a client can take its time. What was asked for on each
connection is noted when it is asked; which connections are there, and what went out on them, the system knows.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, TypeAlias

from starlette.types import Scope

from httpcache.errors import BadAddress, redact
from httpcache.target import parse_target

log = logging.getLogger("httpcache")

SECONDS: Final = 20.0
"""From the signal on, for answers and downloads under way."""
STALE: Final = 4096
"""Connections that are noted besides those that there can be, until those that have ended are forgotten."""
BYTES_ACKED: Final = 120
"""Where `struct tcp_info` of Linux has what the peer has received, as 64 bits (linux/tcp.h)."""

Client: TypeAlias = tuple[str, str]
"""A host and a port, as the server writes them."""


class Ending:
    """Knows what is asked for on the connections of a worker, and cuts those that are there when its time is over."""

    def __init__(self, port: int, most: int, seconds: float = SECONDS) -> None:
        """`port` is that of the server, `most` how many connections there can be."""
        self._port = port
        self._most = most + STALE
        self._seconds = seconds
        self._asked: dict[Client, tuple[bytes, bytes]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()

    def note(self, scope: Scope) -> None:
        """Note what is asked for on a connection."""
        if len(self._asked) >= self._most:
            there = {client for client, _ in connections(self._port)}
            self._asked = {client: asked for client, asked in self._asked.items() if client in there}
        if scope["client"]:
            self._asked[scope["client"]] = scope["raw_path"], scope["query_string"]

    def begin(self) -> None:
        """Let the time begin; called again, it has begun already."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self.cut)

    async def over(self) -> None:
        """Wait until the time is over, which begins now at the latest."""
        self.begin()
        await self._over.wait()

    def cut(self) -> None:
        """The time is over: break every connection, and tell of each that waits for an answer."""
        self._over.set()
        for client, connection in connections(self._port):
            asked = self._asked.get(client)
            if asked:
                log.warning(
                    "%s: cut off, the mirror is stopped and waits no longer: %s bytes had gone out on this connection",
                    shown(*asked),
                    _received(connection),
                )
            with suppress(OSError):  # it has just ended
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RDWR)


def connections(port: int) -> Iterator[tuple[Client, socket.socket]]:
    """Yield the connections of this process that were accepted on a port, each with the address of its client.

    The sockets are good until the next one is asked for.
    """
    for name in os.listdir("/dev/fd"):
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            handle = os.dup(int(name))
        except OSError:  # closed meanwhile
            continue
        with socket.socket(fileno=handle) as connection, suppress(OSError):  # one that listens has no peer
            if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getsockname()[1] == port:
                host, peer = connection.getpeername()[:2]
                yield (host.partition("%")[0], str(peer)), connection


def shown(path: bytes, query: bytes) -> str:
    """Return the address of a request for people, with nothing secret in it."""
    raw, values = path.decode("latin-1"), query.decode("latin-1")
    try:
        return str(parse_target(raw, values))
    except BadAddress:
        if "@" in raw or "%40" in raw:  # a user and password, perhaps
            return f"/{raw.split('/')[1]}/…"
        return redact(f"{raw}?{values}" if values else raw)


def _received(connection: socket.socket) -> int | str:
    """How many bytes a client has confirmed, where the system tells."""
    try:
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED + 8)
        return int(struct.unpack_from("Q", told, BYTES_ACKED)[0])
    except (AttributeError, OSError, struct.error):
        return "some"
