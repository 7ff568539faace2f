"""A network backend for httpcore: reads sockets only on demand, up to 256 KiB at once.

An event loop's transport reads ahead: uvloop's buffers up to 8 MB per connection from a fast upstream before the reader
is woken. Here, unread data stays in the kernel, whose receive windows are bounded.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import aiohappyeyeballs
import anyio
import httpcore
from anyio.abc import ByteStream, SocketAttribute
from httpcore._backends.anyio import AnyIOStream

READ = 256 * 1024  # bytes of a body to read at once even if httpcore asks for fewer: the cost is per call
IN_HEAD = ContextVar("IN_HEAD", default=False)
"""Set while the head of a response is read: httpcore parses all that was read before other tasks can run."""
ATTEMPT = 0.25  # seconds until the next address is tried in parallel (RFC 8305 section 5)


class SocketBackend(httpcore.AsyncNetworkBackend):
    """Connects to the first address of a host that answers."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's signature)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Return a connection. Raises httpcore.ConnectError, httpcore.ConnectTimeout."""
        try:
            with anyio.fail_after(timeout):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
                connected = await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=ATTEMPT)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _Stream(_Socket(connected))

    async def sleep(self, seconds: float) -> None:
        """Sleep (httpcore's retries use it)."""
        await anyio.sleep(seconds)


class _Stream(AnyIOStream):
    """httpcore's own stream over an anyio stream, with larger reads."""

    def __init__(self, stream: ByteStream) -> None:
        super().__init__(stream)
        self._tls: ssl.SSLObject | None = self.get_extra_info("ssl_object")

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        if IN_HEAD.get():
            return await super().read(max_bytes, timeout)
        wanted = max(max_bytes, READ)
        data = await super().read(wanted, timeout)
        return data + self._decrypted(wanted - len(data)) if data and self._tls else data

    def _decrypted(self, wanted: int) -> bytes:
        """Return what has been received besides, up to `wanted` bytes: a read of TLS gives one record of 16 KiB."""
        records: list[bytes] = []
        with suppress(ssl.SSLError):  # there is no whole record any more, or an error that the next read meets again
            while self._tls and wanted and (record := self._tls.read(wanted)):
                records.append(record)
                wanted -= len(record)
        return b"".join(records)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        secure = await super().start_tls(ssl_context, server_hostname, timeout)
        return _Stream(secure._stream)  # type: ignore[attr-defined]


class _Socket(ByteStream):
    """A connected socket as an anyio stream."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._loop = asyncio.get_running_loop()

    async def receive(self, max_bytes: int = READ) -> bytes:  # a TLS stream does not say how many
        try:
            data = await self._loop.sock_recv(self._socket, max_bytes)
        except OSError as error:
            raise anyio.BrokenResourceError from error
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        try:
            await self._loop.sock_sendall(self._socket, item)
        except OSError as error:
            raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)  # left by a task that was cancelled but has not run yet
            self._loop.remove_writer(self._socket)
            self._socket.close()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            SocketAttribute.family: lambda: self._socket.family,
            SocketAttribute.raw_socket: lambda: self._socket,
        }
