"""Many clients that ask for one file at once: `python crowd.py URL FILE CLIENTS`.

Each has a connection and compares every byte it gets with the file, which is as strict as a digest of each body and
takes a tenth of the CPU. All are connected before the first one asks.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import resource
import sys
import time
from urllib.parse import urlsplit

import uvloop


class Client(asyncio.Protocol):
    """One client: `ended` is set to whether all bytes were there and right."""

    def __init__(self, expected: mmap.mmap) -> None:
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._expected = expected
        self._head: bytes | None = b""
        self._at = 0

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            head, found, data = (self._head + data).partition(b"\r\n\r\n")
            if not found:
                self._head = head
                return
            self._head = None
            length = f"content-length: {len(self._expected)}".encode()
            if not head.startswith(b"HTTP/1.1 200") or length not in head.lower().split(b"\r\n"):
                self._end(False)
                return
        stop = self._at + len(data)
        if data != self._expected[self._at : stop]:
            self._end(False)
        self._at = stop

    def connection_lost(self, error: Exception | None) -> None:
        self._end(self._head is None and self._at == len(self._expected))

    def _end(self, right: bool) -> None:
        if not self.ended.done():
            self.ended.set_result(right)


async def ask(url: str, expected: mmap.mmap, clients: int) -> dict[str, float]:
    """Connect all, let all ask, wait for all."""
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    request = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode()
    connect = asyncio.get_running_loop().create_connection
    connected = [
        await connect(lambda: Client(expected), str(parts.hostname), int(parts.port or 80)) for _ in range(clients)
    ]
    started = time.perf_counter()
    for transport, _ in connected:
        transport.write(request)
    right = await asyncio.gather(*(client.ended for _, client in connected))
    return {"clients": clients, "right": sum(right), "seconds": time.perf_counter() - started}


def main() -> None:
    """Print as JSON how many clients there were, how many had all bytes right, and the seconds."""
    url, file, clients = sys.argv[1:]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with open(file, "rb") as opened:
        expected = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(ask(url, expected, int(clients)))))


if __name__ == "__main__":
    main()
