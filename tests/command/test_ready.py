"""`httpcache ready`: asks the server where the settings say that it listens."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from httpcache.command.ready import ask
from httpcache.errors import MirrorError
from tests.command.test_listening import Certificate
from tests.support.command import run, told
from tests.support.inside import until
from tests.support.mirror import Mirror, free_port
from tests.support.upstream import Response, Upstream

PROXY = {"HTTP_PROXY": "http://127.0.0.1:9/", "http_proxy": "http://127.0.0.1:9/"}
"""What an environment may name, and what is not for this."""


def test_a_server_that_is_ready(server: Mirror) -> None:
    ran = run("ready", "--port", str(server.port), environment=PROXY)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "ready\n", "")


def test_by_variables_and_at_every_address(mirror: Callable[..., Mirror]) -> None:
    server = mirror("--root-path", "/mirror")
    ran = run("ready", environment={"HTTPCACHE_PORT": str(server.port), "HTTPCACHE_HOST": "0.0.0.0"})
    assert (ran.returncode, ran.stdout) == (0, "ready\n")


def test_with_a_certificate_and_a_settings_file(mirror: Callable[..., Mirror], tmp_path: Path) -> None:
    """The certificate may be for any name."""
    certificate = Certificate(tmp_path)
    server = mirror(*certificate.options, ready=False)
    file = tmp_path / "mirror.toml"
    file.write_text(f'port = {server.port}\ntls-cert = "{certificate.cert}"\ntls-key = "{certificate.key}"\n')
    until(lambda: run("ready", "--config", file).stdout == "ready\n", "the server")
    assert "no mirror answers at 127.0.0.1" in told(run("ready", "--port", str(server.port)))


def test_a_unix_socket(mirror: Callable[..., Mirror], tmp_path: Path) -> None:
    path = tmp_path / "socket"
    mirror("--unix-socket", str(path), ready=False)
    until(lambda: run("ready", "--unix-socket", path).stdout == "ready\n", "the server")


def test_a_server_that_is_not_ready(upstream: Upstream) -> None:
    upstream.pages["/-/ready"] = Response(b"the index in PostgreSQL cannot be reached\n", 503)
    port = urlsplit(upstream.url).port
    assert told(run("ready", "--port", str(port))) == (
        f"httpcache: the mirror at 127.0.0.1 port {port} is not ready: the index in PostgreSQL cannot be reached"
    )


def test_nobody_listens(tmp_path: Path) -> None:
    port = free_port()
    assert f"no mirror answers at 127.0.0.1 port {port}: " in told(run("ready", "--port", str(port)))
    assert f"no mirror answers at {tmp_path}/none: " in told(run("ready", "--unix-socket", tmp_path / "none"))


def test_somebody_else_listens() -> None:
    """What takes a connection and says nothing, or something else, is no mirror."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(MirrorError, match="no mirror answers"):
            ask("127.0.0.1", port, None, None)
