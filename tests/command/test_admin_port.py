"""`--admin-port`: pages and metrics have a port of their own, and the other one has nothing but builds need."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support import http
from tests.support.command import run, told
from tests.support.inside import until
from tests.support.mirror import Mirror, free_port
from tests.support.upstream import Response, Upstream

PIN = "tools-2024-01-02"
BODY = b"x" * 1000


@pytest.fixture
def admin() -> str:
    return f"{free_port()}"


def at(admin: str, path: str) -> httpx.Response:
    return http.get(f"http://127.0.0.1:{admin}{path}")


def test_each_port_has_its_own(admin: str, upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    upstream.pages["/file"] = Response(BODY)
    server = mirror("--admin-port", admin, "--workers", "2")
    pinned = f"/{PIN}/{upstream.url}/file"
    for path in ("/", "/-/health", "/-/ready"):
        assert http.get(server.url + path).status_code == at(admin, path).status_code == 200
    for path in ("/-/metrics", "/-/pins/"):
        elsewhere = http.get(server.url + path)
        assert (elsewhere.status_code, "--admin-port" in elsewhere.text) == (404, True)
        assert at(admin, path).status_code == 200
    assert at(admin, pinned).status_code == at(admin, "/live/thing/").status_code == 404
    assert upstream.requests == []

    for _ in range(20):
        assert http.get(server.url + pinned).content == BODY

    def counted() -> float:
        lines = at(admin, "/-/metrics").text.splitlines()
        return sum(
            float(line.split()[-1]) for line in lines if line.startswith('httpcache_requests_total{kind="pinned"')
        )

    until(lambda: counted() == 20, "what both workers count")


def test_it_is_at_the_same_addresses_below_a_root_path(admin: str, mirror: Callable[..., Mirror]) -> None:
    server = mirror("--admin-port", admin, "--root-path", "/mirror")
    assert at(admin, "/mirror/-/metrics").status_code == 200
    assert at(admin, "/-/metrics").status_code == 404
    assert http.get(f"{server.url}/mirror/-/metrics").status_code == 404


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGTERM])
def test_it_stays_over_a_reload_and_ends_with_the_server(
    how: signal.Signals, admin: str, mirror: Callable[..., Mirror]
) -> None:
    """Also while a client has a connection open, as Prometheus has."""
    server = mirror("--admin-port", admin, "--workers", "2")
    with httpx.Client(base_url=f"http://127.0.0.1:{admin}", trust_env=False) as client:
        assert client.get("/-/metrics").status_code == 200
        assert server.process is not None
        if how is signal.SIGHUP:
            server.process.send_signal(how)
            until(lambda: "the settings were read again" in server.log(), "the reload")
            assert client.get("/-/metrics").status_code == at(admin, "/-/metrics").status_code == 200
        server.stop()  # in time, with exit code 0


def test_a_port_that_is_taken(admin: str, upstream: Upstream, tmp_path: Path) -> None:
    port = f"{free_port()}"
    for ports, text in (
        (("--port", port, "--admin-port", port), "choose another port"),
        (("--port", port, "--admin-port", f"{upstream.port}"), "choose another port with --admin-port"),
    ):
        assert text in told(run("serve", *ports, "--data", tmp_path / "data"))
