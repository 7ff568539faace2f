"""HTTP byte by byte on both sides of a mirror: an origin that sends what scripts say, a client that keeps it all."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import h11

PATIENCE: Final = 30.0
"""Seconds after which a wait or a connection gives up: a bound against hanging tests, never a pause."""


class End(Enum):
    """How a script leaves its connection; one that does not say closes it."""

    FIN = "closed"
    RST = "reset"
    STALL = "nothing more until the other side leaves"
    KEEP = "open for the next request"


@dataclass(frozen=True)
class Drip:
    """Pieces with a pause before each: the one step that takes its time."""

    pieces: Iterable[bytes]
    pause: float


Step = bytes | threading.Event | Drip | End
Script = Sequence[Step] | Callable[[], Iterable[Step]]


@dataclass(frozen=True)
class RawRequest:
    """A request that arrived: its target as sent, its headers by lower-case name, the number of its connection."""

    target: str
    headers: dict[str, str]
    connection: int


def answer(body: bytes = b"", *lines: str | bytes, status: str = "200 OK", version: str = "HTTP/1.1") -> bytes:
    """An answer with a Content-Length and more header lines."""
    return head(f"Content-Length: {len(body)}", *lines, status=status, version=version) + body


def head(*lines: str | bytes, status: str = "200 OK", version: str = "HTTP/1.1") -> bytes:
    """The head of an answer with exactly these header lines."""
    encoded = [line if isinstance(line, bytes) else line.encode("latin-1") for line in lines]
    return b"\r\n".join([f"{version} {status}".encode(), *encoded, b"", b""])


def chunks(*pieces: bytes) -> bytes:
    """A body in the chunked coding, whole."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"


class RawUpstream:
    """An origin on 127.0.0.1. `play` says what a path answers; `requests` is what arrived."""

    def __init__(self) -> None:
        """Start listening on a free port."""
        self.requests: list[RawRequest] = []
        self._scripts: dict[str, list[Script]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._open: set[socket.socket] = set()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The origin, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def play(self, target: str, *scripts: Script) -> None:
        """Answer requests for a target with these scripts in turn, and with the last one from then on."""
        with self._lock:
            self._scripts[target] = list(scripts)

    def honest(self, target: str, body: bytes, *lines: str) -> None:
        """Answer requests for a target as one should."""
        self.play(target, [answer(body, *lines), End.KEEP])

    def count(self, target: str) -> int:
        """How many requests arrived for a target."""
        return sum(seen.target == target for seen in list(self.requests))

    def close(self) -> None:
        """Listen no more, and break what is open."""
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        number = 0
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            number += 1
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, connection.makefile("rb") as lines, suppress(OSError):
            connection.settimeout(PATIENCE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open.add(connection)
            try:
                while script := self._next(list(iter(lambda: lines.readline().rstrip(b"\r\n"), b"")), number):
                    if not self._perform(connection, script):
                        return
            finally:
                with self._lock:
                    self._open.discard(connection)

    def _next(self, lines: list[bytes], number: int) -> Script | None:
        if not lines:
            return None
        target = lines[0].split()[1].decode("latin-1")
        pairs = (line.decode("latin-1").partition(":") for line in lines[1:])
        request = RawRequest(target, {name.lower(): value.strip() for name, _, value in pairs}, number)
        with self._lock:
            self.requests.append(request)
            scripts = self._scripts.get(target) or [[answer(b"no such page\n", status="404 Not Found"), End.KEEP]]
            return scripts.pop(0) if len(scripts) > 1 else scripts[0]

    def _perform(self, connection: socket.socket, script: Script) -> bool:
        """Send what a script says; return whether the connection stays open."""
        for step in script() if callable(script) else script:
            match step:
                case bytes():
                    connection.sendall(step)
                case threading.Event():
                    step.wait(PATIENCE)
                case Drip(pieces, pause):
                    for piece in pieces:
                        if self._closing.wait(pause):
                            return False
                        connection.sendall(piece)
                case End.KEEP:
                    return True
                case End.STALL:
                    connection.recv(1)
                case End.RST:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False


@dataclass(frozen=True)
class Got:
    """What a client got: the lines of the head, and the body as far as it came. `whole`: by its own framing."""

    lines: tuple[bytes, ...]
    body: bytes
    whole: bool

    @property
    def status(self) -> int:
        """The status; 0 where none came."""
        return int(self.lines[0].split()[1]) if self.lines else 0

    @property
    def headers(self) -> dict[str, bytes]:
        """The headers by lower-case name, after checking that they are such a head as this mirror may send."""
        assert self.lines[0].startswith(b"HTTP/1.1 "), self.lines
        found: dict[str, bytes] = {}
        for line in self.lines[1:]:
            field = _FIELD.fullmatch(line)
            assert field, f"no clean header line: {line!r}"
            name = field[1].decode().lower()
            assert name in _NAMES, f"a header that is not the mirror's: {line!r}"
            assert name not in found, f"a header twice: {line!r}"
            found[name] = field[2]
        return found

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")


# RFC 9110 section 5.5: no control characters in a value; the bytes from 0x80 are opaque.
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\x20-\x7e\x80-\xff]*)")
_NAMES: Final = frozenset({
    "accept-ranges", "allow", "cache-control", "cache-status", "connection", "content-disposition",
    "content-encoding", "content-language", "content-length", "content-range", "content-security-policy",
    "content-type", "cross-origin-resource-policy", "date", "etag", "last-modified", "location", "referrer-policy",
    "retry-after", "server", "transfer-encoding", "vary", "www-authenticate", "x-content-type-options",
    "x-frame-options",
})  # fmt: skip


def get(address: str, method: str = "GET", **headers: str) -> Got:
    """Ask an address, whose path is sent just as it stands here, and read until the other side closes."""
    parts = urlsplit(address)
    target = address.partition("://")[2].partition("/")[2]
    sent = {"Host": parts.netloc, "Connection": "close", "Accept": "*/*", **headers}
    lines = [f"{method} /{target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items()), "", ""]
    return ask(int(parts.port or 80), "\r\n".join(lines).encode("latin-1"), method)


def ask(port: int, request: bytes, method: str = "GET") -> Got:
    """Send the bytes of a request to 127.0.0.1, and read until the other side closes."""
    received = bytearray()
    reset = suppress(ConnectionError)  # what came until then is what the client has
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection, reset:
        connection.sendall(request)
        while block := connection.recv(65536):
            received += block
    return _parsed(bytes(received), method)


def _parsed(received: bytes, method: str) -> Got:
    lines = tuple(received.partition(b"\r\n\r\n")[0].split(b"\r\n")) if b"\r\n\r\n" in received else ()
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    reader.send(h11.Request(method=method, target="/", headers=[("Host", "mirror")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(received)
    reader.receive_data(b"")
    body = bytearray()
    framed = False
    try:
        while not isinstance(event := reader.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                names = {name for name, _ in event.headers}
                framed = method == "HEAD" or event.status_code in (204, 304)
                framed |= bool(names & {b"content-length", b"transfer-encoding"})
            elif isinstance(event, h11.Data):
                body += event.data
            elif not isinstance(event, h11.InformationalResponse):
                return Got(lines, bytes(body), whole=False)
    except h11.RemoteProtocolError:
        return Got(lines, bytes(body), whole=False)
    return Got(lines, bytes(body), whole=framed)
