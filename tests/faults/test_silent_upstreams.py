"""Hundreds of upstreams that accept a connection and never answer: others are served, and each of these ends."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from tests.support import http
from tests.support.mirror import Mirror
from tests.support.upstream import Response, Upstream

SILENT: Final = 300
PIN: Final = "silent-2024-01-02"
HEADERS: Final = {"Content-Type": "application/octet-stream"}


def test_others_are_served_and_all_end(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """More than there may be connections: hits at once, first fetches when it is their turn, then 504 for the rest."""
    upstream.otherwise = lambda request: Response(request.path.encode(), 200, HEADERS)
    running = mirror("--stall-timeout", "5")
    hit = running.pin(PIN, f"{upstream.url}/hit")
    assert http.get(hit).content == b"/hit"
    with ExitStack() as stack:
        clients = []
        for _ in range(SILENT):
            silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))  # the kernel accepts
            client = stack.enter_context(socket.create_connection(("127.0.0.1", running.port), 120))
            address = f"/{PIN}/http://127.0.0.1:{silent.getsockname()[1]}/file"
            client.sendall(f"GET {address} HTTP/1.1\r\nHost: mirror\r\nConnection: close\r\n\r\n".encode())
            clients.append(client)
        assert http.get(hit).content == b"/hit"
        assert http.get(running.pin(PIN, f"{upstream.url}/other")).content == b"/other"
        assert http.get(hit).content == b"/hit"
        answers = [stack.enter_context(client.makefile("rb")).read() for client in clients]
    assert {answer.split(b" ", 2)[1] for answer in answers} == {b"504"}
    assert all(b"--stall-timeout" in answer for answer in answers)
    assert http.get(running.pin(PIN, f"{upstream.url}/after")).content == b"/after"
    assert "Traceback" not in running.log()
