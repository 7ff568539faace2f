"""An HTTP proxy in a thread: forwards requests in absolute form and tunnels CONNECT (RFC 9110 section 9.3.6)."""

from __future__ import annotations

import base64
import http.client
import selectors
import socket
import ssl
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

PATIENCE = 30.0  # seconds


class Proxy:
    """A proxy on 127.0.0.1 that wants `auth` (user and password) if there is one.

    `requests` has the method, the target and the headers of each request; `hosts` leads names elsewhere, as a proxy
    with a resolver of its own does. `tls` makes clients speak TLS to the proxy itself.
    """

    def __init__(self, auth: tuple[str, str] | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.auth = auth
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.hosts: dict[str, tuple[str, int]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, True)
        self.port = self._server.server_address[1]
        self._scheme = "https" if tls else "http"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        """The address without the user."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def admits(self, authorization: str | None) -> bool:
        """Whether a Proxy-Authorization opens it."""
        if self.auth is None:
            return True
        return authorization == "Basic " + base64.b64encode(":".join(self.auth).encode()).decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Print nothing."""

    def _is_admitted(self) -> bool:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.proxy.requests.append((self.command, self.path, headers))
        if self.proxy.admits(headers.get("proxy-authorization")):
            return True
        self.send_response_only(407)
        self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def _address(self, host: str, port: int) -> tuple[str, int]:
        """Where a host is: on 127.0.0.1, whatever a guard in front has let through."""
        return self.proxy.hosts.get(host, ("127.0.0.1", port))

    def do_GET(self) -> None:
        if not self._is_admitted():
            return
        url = urlsplit(self.path)
        upstream = http.client.HTTPConnection(*self._address(url.hostname or "", url.port or 80), timeout=PATIENCE)
        kept = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        upstream.request("GET", url._replace(scheme="", netloc="").geturl(), headers=kept)
        answer = upstream.getresponse()
        body = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        upstream.close()

    def do_CONNECT(self) -> None:
        if not self._is_admitted():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection(self._address(host, int(port)), PATIENCE) as upstream:
            self.send_response_only(200)
            self.end_headers()
            with suppress(OSError):
                _join(self.connection, upstream)
        self.close_connection = True


def _join(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until one side closes."""
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while ready := selector.select(PATIENCE):
            for key, _ in ready:
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if not data:
                    return
                key.data.sendall(data)
