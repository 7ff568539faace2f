"""Clients as a server must not have to hope for: slow, silent, endless or gone, many of them at once."""

from __future__ import annotations

import os
import random
import re
import resource
import select
import socket
import struct
import threading
import zlib
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.inside import memory, processes
from tests.support.mirror import Mirror

PACE: Final = 0.02
"""Seconds between two turns of a crowd: how fast it is, not what it waits for."""
LOOKS: Final = 0.1
"""Seconds between two looks of a watch."""
TINY: Final = 2048
"""Bytes of a receive buffer: the kernel makes it about twice as large."""
AT_ONCE: Final = 64
"""Bad clients send and take little, but each turn something."""
ENDLESS: Final = b"8000\r\n" + bytes(0x8000) + b"\r\n"
"""One chunk of a request body."""

Step = Callable[[socket.socket], None]


def request(address: str, *lines: str, method: str = "GET", ended: bool = True) -> bytes:
    """The head of a request to the mirror for an address of it; without its end if it is not `ended`."""
    path = "/" + address.split("/", 3)[3]
    head = "".join(f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *lines))
    return f"{head}\r\n".encode() if ended else head.encode()


def connect(server: Mirror, receive_buffer: int = 0) -> socket.socket:
    """A connection to the mirror, with a receive buffer of so many bytes if one is given."""
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(30)
    client.connect(("127.0.0.1", server.port))
    return client


def nothing(client: socket.socket) -> None:
    """Only look whether the server has ended the connection; take nothing off it."""
    hung_up = select.poll()
    hung_up.register(client, select.POLLRDHUP)
    if hung_up.poll(0):
        raise ConnectionResetError


def nibble(client: socket.socket) -> None:
    """Take a few bytes."""
    if not client.recv(AT_ONCE):
        raise ConnectionResetError


def dribble(client: socket.socket) -> None:
    """Send one byte of a header that has no end, and look whether the server is still there."""
    client.send(b"x")
    with suppress(BlockingIOError):
        nibble(client)


def pour(client: socket.socket) -> None:
    """Send as much of a body without an end as goes, and take what is answered."""
    with suppress(BlockingIOError):
        client.send(ENDLESS)
    nibble(client)


def pile(head: bytes) -> Step:
    """Send the same request again and again, and take none of the answers."""

    def step(client: socket.socket) -> None:
        client.send(100 * head)

    return step


class Crowd:
    """So many connections that begin with the same bytes and then take the same step, until the block ends.

    `dropped` counts those that the server has ended by then.
    """

    def __init__(self, server: Mirror, count: int, opening: bytes, step: Step, receive_buffer: int = 0) -> None:
        """Connect them all and send the first bytes."""
        self.dropped = 0
        self.turns = 0
        self._step = step
        self._clients: list[socket.socket] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        try:
            for _ in range(count):
                client = connect(server, receive_buffer)
                self._clients.append(client)
                client.sendall(opening)
                client.setblocking(False)
        except BaseException:
            self._leave()
            raise

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._leave()

    def _run(self) -> None:
        while not self._done.wait(PACE):
            self._clients = [client for client in self._clients if self._stays(client)]
            self.turns += 1

    def _stays(self, client: socket.socket) -> bool:
        try:
            self._step(client)
        except BlockingIOError:
            return True
        except OSError:
            client.close()
            self.dropped += 1
            return False
        return True

    def _leave(self) -> None:
        for client in self._clients:
            client.close()


def vanish(server: Mirror, opening: bytes, *, reset: bool, after: int) -> None:
    """Ask, take so many bytes of the answer and be gone: with a reset, or with an ordinary end."""
    with connect(server) as client:
        client.sendall(opening)
        taken = 0
        while taken < after:
            taken += len(client.recv(after - taken)) or after
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def answered(client: socket.socket) -> bytes:
    """All that the server sends until it ends the connection, with a reset or without."""
    found = b""
    with suppress(ConnectionError):
        while chunk := client.recv(65536):
            found += chunk
    return found


def checksum(server: Mirror, address: str) -> tuple[int, int]:
    """The size and the CRC-32 of a body: an honest client that costs the test little, to have many of them."""
    buffer, size, found = bytearray(1 << 20), 0, 0
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request("GET", "/" + address.split("/", 3)[3])
        answer = connection.getresponse()
        while count := answer.readinto(buffer):
            size, found = size + count, zlib.crc32(memoryview(buffer)[:count], found)
    return size, found


def held(server: Mirror) -> int:
    """The sockets and files that a mirror has open for somebody: clients, frozen files, downloads and their locks."""
    clients, found = _clients(server), 0
    for pid in processes(server):
        with suppress(FileNotFoundError):
            found += sum(_is_held(fd, clients) for fd in Path(f"/proc/{pid}/fd").iterdir())
    return found


def _is_held(fd: Path, clients: set[str]) -> bool:
    with suppress(FileNotFoundError):
        target = os.readlink(fd)
        return target in clients or "/blobs/" in target or "/spool/" in target
    return False


def _clients(server: Mirror) -> set[str]:
    """The connections of clients that it has accepted, by the names that they have in /proc."""
    here, listens = f":{server.port:04X}", "0A"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {f"socket:[{row[9]}]" for row in rows if row[1].endswith(here) and row[3] != listens and row[9] != "0"}


def handles(server: Mirror) -> int:
    """All that a mirror has open, in all its processes."""
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in processes(server))


def limit_of_files(pid: int) -> tuple[int, int]:
    """The soft and the hard limit of open files that a process has."""
    found = re.search(r"Max open files\s+(\d+)\s+(\d+)", Path(f"/proc/{pid}/limits").read_text())
    assert found is not None
    return int(found[1]), int(found[2])


def room_for(connections: int) -> bool:
    """Raise this process's limit of open files as far as it goes; whether it can have so many connections then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard == resource.RLIM_INFINITY or hard > 2 * connections


@dataclass
class Seen:
    """The most that a mirror had at once."""

    memory: int = 0
    held: int = 0


class Watch:
    """Looks at a mirror's memory and handles again and again, until the block ends."""

    def __init__(self, server: Mirror) -> None:
        """Set it up; the block starts it."""
        self._server = server
        self._seen = Seen()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Seen:
        self._look()
        self._thread.start()
        return self._seen

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(LOOKS):
            self._look()

    def _look(self) -> None:
        with suppress(FileNotFoundError):
            self._seen.memory = max(self._seen.memory, memory(self._server))
        self._seen.held = max(self._seen.held, held(self._server))


def openings(address: str, seed: int) -> list[bytes]:
    """Requests for a file in the ways that installers have: whole, its end, its middle, two parts of it."""
    chance = random.Random(seed)
    start = chance.randrange(1, 1000)
    ranges = ("", f"bytes={start}-", f"bytes={start}-{start + 100_000}", f"bytes=0-{start},{start + 5000}-")
    return [request(address, *([f"Range: {wanted}"] if wanted else [])) for wanted in ranges]
