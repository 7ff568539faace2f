"""A real HTTP/1.1 upstream in a thread, whose content the test changes at any time."""

from __future__ import annotations

import base64
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, Self

PATIENCE: Final = 30.0
"""Seconds after which a stalled body or a wait gives up: a bound against hanging tests, never a pause."""

CUT: Final = object()
"""In a body of steps: break the connection here."""


@dataclass(frozen=True)
class Request:
    """One request that reached the upstream; `target` is the raw path with its query, as sent."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        """The raw path without the query."""
        return self.target.partition("?")[0]


@dataclass(frozen=True)
class Response:
    """What a path answers.

    `body` is bytes, or steps: bytes are sent as they are, a `threading.Event` is waited for, `CUT` breaks the
    connection. Steps go out chunked unless `headers` has a Content-Length; a Content-Length that the steps
    do not reach is a truncated answer.
    """

    body: bytes | Iterable[object] = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Page = bytes | Response | Callable[[Request], Response]
NOT_FOUND: Final = Response(b"not found\n", 404, {"Content-Type": "text/plain"})


def redirect(location: str, status: int = 302) -> Response:
    """A redirect to `location`."""
    return Response(b"", status, {"Location": location})


_ports: set[int] = set()
"""What upstreams of this process have had: a mirror that tests share knows something of each."""


class Upstream:
    """An upstream server on 127.0.0.1: `pages` maps a raw path, with or without query, to what it answers.

    `otherwise` answers what `pages` does not have. `auth` and `tokens` are the credentials of which any one
    opens it; a request without gets `refusal`. `tls` makes it speak HTTPS.
    `requests` is everything that arrived, refused or not.
    """

    def __init__(
        self,
        *,
        ranges: bool = False,
        auth: tuple[str, str] | None = None,
        tokens: Mapping[str, str] | None = None,
        refusal: int = 401,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Start listening on a free port."""
        self.pages: dict[str, Page] = {}
        self.otherwise: Callable[[Request], Response] = lambda _: NOT_FOUND
        self.ranges = ranges
        self.auth = auth
        self.tokens = dict(tokens or {})
        self.refusal = refusal
        self.tls = tls
        self.clock: Callable[[], float] | None = time.time
        """What its `Date` is of, in seconds since the epoch; None: it sends no `Date`."""
        self.requests: list[Request] = []
        self.connections = 0
        """How many were ever opened."""
        self.errors: list[BaseException] = []
        self.port = 0
        self._arrival = threading.Condition()
        self._server: _Server | None = None
        self._reserved: socket.socket | None = None
        self.start()

    @property
    def url(self) -> str:
        """The origin, without a slash at the end."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, the second time on the port of the first."""
        if self._server is not None:
            return
        if self._reserved is not None:
            self._reserved.close()
        self._server = _Server(self, self.port)
        while not self.port and self._server.server_address[1] in _ports:
            self._server.server_close()
            self._server = _Server(self, 0)
        self.port = self._server.server_address[1]
        _ports.add(self.port)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections and break the open ones; the port stays ours for `start`."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.close_connections()
        self._server.server_close()
        self._server = None
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", self.port))  # bound but not listening: connections are refused

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        if self._reserved is not None:
            self._reserved.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def empty(self) -> None:
        """From now on everything is 404, for those who may ask."""
        self.pages.clear()
        self.otherwise = lambda _: NOT_FOUND

    def count(self, path: str | None = None, method: str | None = None) -> int:
        """How many requests arrived for `path` (a query in it is compared too), by `method`."""
        return sum(
            (path is None or path in (seen.path, seen.target)) and (method is None or seen.method == method)
            for seen in list(self.requests)
        )

    def wait(self, path: str | None = None, count: int = 1) -> None:
        """Return when `count` requests for `path` have arrived."""
        with self._arrival:
            if not self._arrival.wait_for(lambda: self.count(path) >= count, PATIENCE):
                raise TimeoutError(f"{self.count(path)} of {count} requests for {path} in {PATIENCE} s")

    @property
    def strangers(self) -> list[Request]:
        """Requests that clients made past the mirror, told by their User-Agent."""
        clients = re.compile(r"(?i)(pip|uv|poetry|pdm|unearth|curl|wget)\b")
        return [seen for seen in self.requests if clients.match(seen.headers.get("user-agent", ""))]

    def basic(self) -> str:
        """The Authorization header that opens this upstream."""
        assert self.auth is not None
        return "Basic " + base64.b64encode(":".join(self.auth).encode()).decode()

    def _record(self, request: Request) -> None:
        with self._arrival:
            self.requests.append(request)
            self._arrival.notify_all()

    def _admits(self, request: Request) -> bool:
        if self.auth is None and not self.tokens:
            return True
        if self.auth is not None and request.headers.get("authorization") == self.basic():
            return True
        return any(request.headers.get(name.lower()) == value for name, value in self.tokens.items())

    def _answer(self, request: Request) -> Response:
        if not self._admits(request):
            challenge = {"WWW-Authenticate": 'Basic realm="upstream"'} if self.refusal == 401 else {}
            return Response(b"refused\n", self.refusal, {"Content-Type": "text/plain", **challenge})
        page = self.pages.get(request.target, self.pages.get(request.path))
        if page is None:
            page = self.otherwise
        response = page(request) if callable(page) else page
        if isinstance(response, bytes):
            response = Response(response)
        tag = next((value for name, value in response.headers.items() if name.lower() == "etag"), None)
        if tag is not None and request.headers.get("if-none-match") == tag:
            return Response(b"", 304, {**response.headers, "ETag": tag})
        if self.ranges and response.status == 200 and isinstance(response.body, bytes):
            return _ranged(request, response, response.body)
        return response


def _ranged(request: Request, response: Response, body: bytes) -> Response:
    """The single range that was asked for, as RFC 9110 section 14 has it."""
    headers = {**response.headers, "Accept-Ranges": "bytes"}
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if match is None or not any(match.groups()):
        return Response(body, 200, headers)
    first, last = match.groups()
    start = int(first) if first else max(0, len(body) - int(last))
    stop = min(len(body), int(last) + 1) if first and last else len(body)
    if start >= stop:
        return Response(b"", 416, {**headers, "Content-Range": f"bytes */{len(body)}"})
    part = {"Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"}
    return Response(body[start:stop], 206, {**headers, **part})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, upstream: Upstream, port: int) -> None:
        self.upstream = upstream
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def get_request(self) -> tuple[socket.socket, object]:
        connection, peer = super().get_request()
        self.upstream.connections += 1
        tls = self.upstream.tls  # the handshake is made by the first read, in the thread of the connection
        return (tls.wrap_socket(connection, True, do_handshake_on_connect=False) if tls else connection), peer

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        with self._lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the other side was faster

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError | TimeoutError):
            self.upstream.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Print nothing; `requests` is the log."""

    def _serve(self) -> None:
        upstream = self.server.upstream
        target = self.requestline.split()[1]  # self.path has merged leading slashes
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, target, headers)
        length = int(headers.get("content-length", 0))
        if length:
            self.rfile.read(length)
        upstream._record(request)
        self._send(upstream._answer(request))

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = _serve  # noqa: N815

    def _send(self, response: Response) -> None:
        names = {name.lower(): value for name, value in response.headers.items()}
        self.send_response_only(response.status)
        if clock := self.server.upstream.clock:
            self.send_header("Date", self.date_time_string(clock()))
        for name, value in response.headers.items():
            self.send_header(name, value)
        bodiless = self.command == "HEAD" or response.status in (204, 304)
        if isinstance(response.body, bytes):
            if "content-length" not in names and response.status not in (204, 304):
                self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            if not bodiless:
                self.wfile.write(response.body)
                self._check_length(names, len(response.body))
            return
        announced = "content-length" in names
        if not announced:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if not bodiless:
            self._send_steps(response.body, names, chunked=not announced)

    def _send_steps(self, steps: Iterable[object], names: Mapping[str, str], *, chunked: bool) -> None:
        sent = 0
        for step in steps:
            if step is CUT:
                self.close_connection = True
                return
            if isinstance(step, threading.Event):
                if not step.wait(PATIENCE):
                    raise AssertionError(f"a stalled body was not released in {PATIENCE} s")
                continue
            assert isinstance(step, bytes)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(step), step) if chunked else step)
            sent += len(step)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")
        self._check_length(names, sent)

    def _check_length(self, names: Mapping[str, str], sent: int) -> None:
        """An answer that did not keep its announced length ends the connection, as a broken server does."""
        if "content-length" in names and int(names["content-length"]) != sent:
            self.close_connection = True
