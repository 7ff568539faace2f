"""Behind a reverse proxy: who is believed, and a real nginx that speaks HTTP/2 and TLS, as in the examples."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from starlette.types import Receive, Scope, Send

from httpcache.settings import LOOPBACK
from httpcache.web.proxies import TrustedProxies
from tests.support.mirror import Mirror
from tests.support.nginx import EXAMPLE, NGINX, nginx
from tests.support.upstream import Response, Upstream

BIG = os.urandom(5_000_000)
NETWORKS = (*LOOPBACK, ip_network("10.0.0.0/8"))


def seen(
    client: tuple[str, int] | None, headers: dict[str, str], networks: tuple[IPv4Network | IPv6Network, ...] = NETWORKS
) -> tuple[Any, str]:
    """The client and the scheme of a request, as everything behind sees them."""
    found: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(scope)

    async def receive() -> dict[str, object]:
        return {}

    async def send(message: object) -> None:
        pass

    lines = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "http", "client": client, "scheme": "http", "headers": lines}
    anyio.run(TrustedProxies(app, networks), scope, receive, send)
    [one] = found
    return one["client"] and one["client"][0], one["scheme"]


FOR, PROTO = "X-Forwarded-For", "X-Forwarded-Proto"
TABLE = {
    "nothing said": ("127.0.0.1", {}, "127.0.0.1", "http"),
    "a proxy here": ("127.0.0.1", {FOR: "192.0.2.1", PROTO: "https"}, "192.0.2.1", "https"),
    "a proxy in a network": ("10.1.2.3", {FOR: "192.0.2.1", PROTO: "https"}, "192.0.2.1", "https"),
    "a proxy here, by IPv6": ("::1", {FOR: "2001:db8::1"}, "2001:db8::1", "http"),
    "IPv4 within IPv6": ("::ffff:10.1.2.3", {FOR: "192.0.2.1"}, "192.0.2.1", "http"),
    "a stranger": ("192.0.2.9", {FOR: "192.0.2.1", PROTO: "https"}, "192.0.2.9", "http"),
    "a chain": ("127.0.0.1", {FOR: "192.0.2.1, 10.0.0.1"}, "192.0.2.1", "http"),
    "a client that lies in front of a chain": ("127.0.0.1", {FOR: "127.0.0.9, 192.0.2.1"}, "192.0.2.1", "http"),
    "none but proxies": ("127.0.0.1", {FOR: "10.0.0.2, 10.0.0.1"}, "127.0.0.1", "http"),
    "no address": ("127.0.0.1", {FOR: "unknown"}, "127.0.0.1", "http"),
    "markup": ("127.0.0.1", {FOR: "<b>"}, "127.0.0.1", "http"),
    "another scheme": ("127.0.0.1", {PROTO: "gopher"}, "127.0.0.1", "http"),
    "large letters": ("127.0.0.1", {PROTO: "HTTPS"}, "127.0.0.1", "https"),
    "several schemes": ("127.0.0.1", {PROTO: "https, http"}, "127.0.0.1", "https"),
    "no letters": ("127.0.0.1", {FOR: "\xff", PROTO: "\xff"}, "127.0.0.1", "http"),
    "a Unix socket": ("", {FOR: "192.0.2.1", PROTO: "https"}, "192.0.2.1", "https"),
}


@pytest.mark.parametrize("case", TABLE)
def test_who_is_believed(case: str) -> None:
    client, headers, wanted_client, wanted_scheme = TABLE[case]
    assert seen((client, 1234), headers) == (wanted_client, wanted_scheme)


def test_no_client_at_all() -> None:
    assert seen(None, {FOR: "192.0.2.1"}) == ("192.0.2.1", "http")


@pytest.fixture
def front(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """nginx as in the example, with TLS; its address, and the authority of its certificate."""
    if NGINX is None:
        pytest.skip("nginx is not installed")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "tls.pem"))
    running = Mirror(tmp_path / "mirror").start("--root-path", "/mirror")
    block = EXAMPLE.read_text().replace("listen 443 ssl http2;", "listen 127.0.0.1:{port} ssl http2;")
    for name in ("fullchain", "key"):
        block = block.replace(f"/etc/ssl/mirror/{name}.pem", str(tmp_path / "tls.pem"))
    with nginx(tmp_path, running, block) as url:
        yield url.replace("http:", "https:"), tmp_path / "ca.pem"
    running.stop()
    assert "Traceback" not in running.log()


def test_nginx_with_http_2(front: tuple[str, Path], upstream: Upstream, tmp_path: Path) -> None:
    """Addresses however clients and proxies spell them, large files, ranges, HEAD, and links by https."""
    url, authority = front
    upstream.pages = {"/a/file": Response(BIG), "/a%2Fb/c%20d": Response(b"encoded"), "/a//b": Response(b"double")}

    def curl(version: str, path: str, *options: str) -> tuple[str, bytes]:
        got = tmp_path / "got"
        command = ["curl", "-q", "-sS", "--path-as-is", f"--http{version}", "--cacert", str(authority), *options]
        ran = subprocess.run(
            [*command, "-o", str(got), "-w", "%{http_version} %{http_code}", f"{url}/mirror{path}"],
            capture_output=True,
            text=True,
            check=True,
        )
        return ran.stdout, got.read_bytes()

    encoded = upstream.url.replace("://", "%3A%2F%2F")
    for version in ("1.1", "2"):
        for base in (upstream.url, encoded, upstream.url.replace("://", ":/")):
            pin = f"/nginx-{version.replace('.', '-')}"
            for _ in range(2):
                assert curl(version, f"{pin}/{base}/a/file") == (f"{version} 200", BIG)
                assert curl(version, f"{pin}/{base}/a%2Fb/c%20d") == (f"{version} 200", b"encoded")
                assert curl(version, f"{pin}/{base}/a//b") == (f"{version} 200", b"double")
            ranged = curl(version, f"{pin}/{base}/a/file", "-r", "4000000-4000099")
            assert ranged == (f"{version} 206", BIG[4_000_000:4_000_100])
        assert curl(version, f"{pin}/{upstream.url}/a/file", "-I")[0] == f"{version} 200"
        assert f"{url}/mirror/".encode() in curl(version, "/")[1]
    assert len(upstream.requests) == 6
