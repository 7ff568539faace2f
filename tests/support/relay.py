"""A TCP relay in the event loop of a test: it can hold back what passes, without closing a connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteStream


class Relay:
    """Passes bytes between its own port and another one, as long as `passing` is set; what comes back, altered."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.passing = asyncio.Event()
        self.passing.set()
        self.alter: Callable[[bytes], bytes] = bytes
        self._to = port

    @classmethod
    @asynccontextmanager
    async def before(cls, port: int) -> AsyncIterator[Relay]:
        """Relay to a port of this machine."""
        relay = cls(port)
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        relay.port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, relay._accept)
            yield relay
            group.cancel_scope.cancel()

    async def _accept(self, here: ByteStream) -> None:
        async with here, await anyio.connect_tcp("127.0.0.1", self._to) as there, anyio.create_task_group() as group:

            async def carry(source: ByteStream, sink: ByteStream, alter: Callable[[bytes], bytes]) -> None:
                try:
                    async for data in source:
                        await self.passing.wait()
                        await sink.send(alter(data))
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    pass
                group.cancel_scope.cancel()

            group.start_soon(carry, here, there, bytes)
            group.start_soon(carry, there, here, self.alter)
