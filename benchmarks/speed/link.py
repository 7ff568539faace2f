"""A network in front of a server on this machine: `python -m benchmarks.speed.link --listen PORT --to PORT`.

Each request waits `DELAY` seconds before it goes on, and each connection carries `RATE` bytes a second to the client.
Connections are forwarded one to one and do not wait for each other. Only the heads of requests are looked at: those of
GET and HEAD, which have no body.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import uvloop

from .process import Child, free_port

DELAY: Final = 0.030
"""Seconds for each request."""
RATE: Final = 20_000_000.0
"""Bytes a second of each connection."""
_BURST: Final = 0.005
"""Seconds of the rate that may be sent at once after a pause, since timers are not exact."""
_PIECE: Final = 128 * 1024
"""Bytes that are read at once."""


class Link:
    """A link that runs as a process of its own, and is ended with `stack`."""

    def __init__(self, folder: Path, to: int, stack: ExitStack) -> None:
        self.port = free_port()
        command = (sys.executable, "-m", __spec__.name, "--listen", f"{self.port}", "--to", f"{to}")
        root = Path(__file__).resolve().parents[2]
        self.child = Child(command, folder, stack, {"PYTHONPATH": str(root)})

    @property
    def url(self) -> str:
        """The origin, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"


async def serve(listen: int, to: int) -> None:
    """Forward connections to 127.0.0.1:`listen` to 127.0.0.1:`to`, until the process is ended."""

    async def forward(reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(OSError):
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", to, limit=_PIECE)
            sending = asyncio.create_task(_requests(reader, server_writer))
            await _responses(server_reader, writer)
            sending.cancel()
            server_writer.close()
        writer.close()

    server = await asyncio.start_server(forward, "127.0.0.1", listen, limit=_PIECE)
    async with server:
        await server.serve_forever()


async def _requests(client: StreamReader, server: StreamWriter) -> None:
    """Forward the head of each request `DELAY` seconds after it has come, until the client ends the connection."""
    with suppress(IncompleteReadError, OSError):
        while True:
            head = await client.readuntil(b"\r\n\r\n")
            await asyncio.sleep(DELAY)
            server.write(head)
    server.close()


async def _responses(server: StreamReader, client: StreamWriter) -> None:
    """Forward what the server sends as fast as the link carries it, until the server ends the connection."""
    loop = asyncio.get_running_loop()
    free = loop.time()
    with suppress(OSError):
        while piece := await server.read(_PIECE):
            client.write(piece)
            await client.drain()
            now = loop.time()
            free = max(free, now - _BURST) + len(piece) / RATE
            if free > now:
                await asyncio.sleep(free - now)


def main() -> None:
    """Run a link until SIGTERM."""
    parser = argparse.ArgumentParser(prog=__spec__.name, description="A network in front of a server.")
    parser.add_argument("--listen", type=int, required=True, metavar="PORT")
    parser.add_argument("--to", type=int, required=True, metavar="PORT")
    options = parser.parse_args()
    uvloop.run(serve(options.listen, options.to))


if __name__ == "__main__":
    main()
