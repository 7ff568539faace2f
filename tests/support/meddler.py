"""An HTTP server that passes requests on to an object store, and does what networks and servers do on bad days."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self
from urllib.parse import urlsplit

PATIENCE: Final = 30.0  # seconds
ALL: Final = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE"})


class Meddler:
    """A server on 127.0.0.1 in front of the one at `url`.

    `requests` has the method and the path of each request. Requests with one of `methods` are meddled with: `status`
    is answered in place of the object store, and what it says then is `body`; `hangs` answers nothing; `pause` is so
    many seconds before each quarter of a body; `cut` ends the connection after so many bytes of it; `turned` changes a
    byte of it.
    """

    def __init__(self, url: str) -> None:
        self.requests: list[tuple[str, str]] = []
        self.reset()
        self.behind = urlsplit(url).netloc
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"meddler": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def reset(self) -> None:
        """Pass everything on as it is."""
        self.methods: Collection[str] = ALL
        self.status: int | None = None
        self.body = b""
        self.hangs = False
        self.pause = 0.0
        self.cut: int | None = None
        self.turned: int | None = None

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def count(self, method: str) -> int:
        """How many requests there were with a method."""
        return sum(each == method for each, _ in self.requests)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    meddler: Meddler

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Print nothing."""

    def _any(self) -> None:
        meddler = self.meddler
        meddler.requests.append((self.command, self.path))
        sent = self.rfile.read(int(self.headers.get("content-length", 0)))
        meddles = self.command in meddler.methods
        if meddles and meddler.hangs:
            meddler.closing.wait(PATIENCE)
            self.close_connection = True
        elif meddles and meddler.status:
            self._answer(meddler.status, [], meddler.body)
        else:
            status, headers, body = self._passed_on(sent)
            if meddles and meddler.turned is not None and meddler.turned < len(body):
                body[meddler.turned] ^= 1
            self._answer(status, headers, bytes(body), meddles=meddles)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _any  # noqa: N815

    def _passed_on(self, sent: bytes) -> tuple[int, list[tuple[str, str]], bytearray]:
        upstream = http.client.HTTPConnection(self.meddler.behind, timeout=PATIENCE)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():  # with the host, which is signed
            upstream.putheader(name, value)
        upstream.endheaders(sent)
        answer = upstream.getresponse()
        body = bytearray(answer.read())
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() != "transfer-encoding"]
        upstream.close()
        return answer.status, headers, body

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, meddles: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if not meddles:
            self.wfile.write(body)
            return
        self.close_connection = self.meddler.cut is not None
        body = body[: self.meddler.cut]
        for start in range(0, len(body), len(body) // 4 + 1):
            time.sleep(self.meddler.pause)
            self.wfile.write(body[start : start + len(body) // 4 + 1])
