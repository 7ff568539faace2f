"""How the mirror reaches upstreams: the authorities that it trusts, a proxy, more ports, how many at once."""

from __future__ import annotations

import os
import random
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import trustme

from httpcache.upstream.network_backend import READ
from tests.support import http
from tests.support.command import run, told
from tests.support.mirror import Mirror, free_port
from tests.support.proxy import Proxy
from tests.support.rawupstream import RawUpstream
from tests.support.registries import PyPI
from tests.support.upstream import CUT, Request, Response, Upstream

BODY = b"the bytes"
USER, PASSWORD = "proxy-user", "pr0xy p@ss:w0rd"
QUOTED = "proxy-user:pr0xy%20p%40ss%3Aw0rd"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that no system trusts."""
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> Path:
    """Its certificate as a file."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture
def secure(authority: trustme.CA, upstreams: Callable[..., Upstream]) -> Upstream:
    """An upstream that speaks HTTPS, with a certificate of that authority."""
    found = upstreams(tls=server_context(authority, "127.0.0.1", "registry.test"))
    found.pages["/file"] = BODY
    return found


# The authorities


def test_the_system_does_not_know_the_authority(secure: Upstream, server: Mirror, pin: str) -> None:
    answer = http.get(server.pin(pin, f"{secure.url}/file"))
    assert answer.status_code == 502
    assert "CERTIFICATE_VERIFY_FAILED" in answer.text


def test_a_bundle(secure: Upstream, bundle: Path, mirror: Callable[..., Mirror]) -> None:
    running: Mirror = mirror("--ca-bundle", str(bundle))
    assert http.get(running.pin("a", f"{secure.url}/file")).content == BODY


@pytest.mark.parametrize("size", [16 * 1024, 16 * 1024 + 1, 3_000_000])
def test_a_body_of_many_records(size: int, secure: Upstream, bundle: Path, mirror: Callable[..., Mirror]) -> None:
    """TLS comes in records of 16 KiB, several of which are read at once; also if the connection is broken off."""
    body = random.Random(size).randbytes(size)
    secure.pages |= {
        "/whole": body,
        "/chunks": Response([body[:1], body[1:20_000], body[20_000:]]),
        "/cut": Response([body, CUT], headers={"Content-Length": str(size + 1)}),
    }
    running: Mirror = mirror("--ca-bundle", str(bundle))
    for path in ("/whole", "/chunks"):
        assert http.get(running.pin("a", f"{secure.url}{path}")).content == body
    with pytest.raises(httpx.RemoteProtocolError):
        http.get(running.pin("a", f"{secure.url}/cut"))


def test_a_certificate_of_another_host(
    authority: trustme.CA, bundle: Path, upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]
) -> None:
    other: Upstream = upstreams(tls=server_context(authority, "other.test"))
    running: Mirror = mirror("--ca-bundle", str(bundle))
    answer = http.get(running.pin("a", f"{other.url}/file"))
    assert answer.status_code == 502
    assert other.requests == []


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_bundle_that_is_none(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    text = told(run("serve", "--port", f"{free_port()}", "--data", tmp_path / "d", "--ca-bundle", tmp_path / "ca.pem"))
    assert "--ca-bundle" in text


# A proxy


@pytest.fixture(params=["http", "https"])
def proxy(request: pytest.FixtureRequest, authority: trustme.CA) -> Iterator[Proxy]:
    """A proxy with a password, which itself is spoken to in the clear or by TLS."""
    tls = server_context(authority, "127.0.0.1") if request.param == "https" else None
    with Proxy((USER, PASSWORD), tls) as found:
        yield found


def behind(proxy: Proxy, bundle: Path) -> list[str]:
    return ["--proxy", proxy.url.replace("://", f"://{QUOTED}@"), "--ca-bundle", str(bundle)]


def test_everything_goes_through_the_proxy(
    proxy: Proxy, secure: Upstream, upstream: Upstream, bundle: Path, mirror: Callable[..., Mirror]
) -> None:
    """In absolute form for http, in a tunnel for https; the upstream gets the address as it was asked for."""
    upstream.pages["/a%2Fb+c?q=%2b"] = BODY
    running: Mirror = mirror(*behind(proxy, bundle))
    assert http.get(running.pin("a", f"{upstream.url}/a%2Fb%2Bc?q=%2b")).status_code in (200, 404)
    assert http.get(running.pin("a", f"{secure.url}/file")).content == BODY
    assert [(method, target) for method, target, _ in proxy.requests] == [
        ("GET", f"{upstream.url}{upstream.requests[0].target}"),
        ("CONNECT", f"127.0.0.1:{secure.port}"),
    ]
    for request in (*upstream.requests, *secure.requests):
        assert "proxy-authorization" not in request.headers


def test_the_registry_too(proxy: Proxy, bundle: Path, pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    running: Mirror = mirror(pypi, *behind(proxy, bundle))
    assert http.get(f"{running.url}/live/nothing/").status_code == 404
    assert proxy.requests


def test_the_password_of_the_proxy_is_not_shown(
    proxy: Proxy, upstream: Upstream, bundle: Path, mirror: Callable[..., Mirror]
) -> None:
    """Neither where it works nor where the proxy refuses it or is not there."""
    running: Mirror = mirror("--log-level", "debug", *behind(proxy, bundle))
    texts = [http.get(running.pin("a", f"{upstream.url}/file")).text]
    proxy.auth = ("another", "password")
    refused = http.get(running.pin("a", f"{upstream.url}/other"))
    assert refused.status_code in (407, 502)
    texts += [refused.text, running.log()]
    for text in texts:
        assert "pr0xy" not in text


def test_a_proxy_that_is_not_there(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    running: Mirror = mirror("--proxy", f"http://{QUOTED}@127.0.0.1:{free_port()}")
    answer = http.get(running.pin("a", f"{upstream.url}/file"))
    assert answer.status_code == 502
    assert "pr0xy" not in answer.text + running.log()
    assert upstream.requests == []


@pytest.mark.parametrize(
    "url", ["10.0.0.1:3128", "socks5://127.0.0.1:1", "http://", "http://user:s3cret@[::1", "ftp://s3cret@127.0.0.1/"]
)
def test_an_address_that_is_no_proxy(url: str, tmp_path: Path) -> None:
    text = told(run("serve", "--port", f"{free_port()}", "--data", tmp_path / "d", "--proxy", url))
    assert "--proxy" in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://169.254.169.254/latest/", "--allow-network"),
        ("http://[fd00:ec2::254]/", "--allow-network"),
        ("http://0x0a000001/", "--allow-network"),
        ("http://8.8.8.8:6379/", "--allow-port 6379"),
        ("http://registry.test:6379/", "--allow-port 6379"),
    ],
)
def test_the_guard_in_front_of_a_proxy(url: str, says: str, upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """What can be told without a connection; nothing of it reaches the proxy."""
    with Proxy() as proxy:
        running: Mirror = mirror("--proxy", proxy.url)
        answer = http.get(running.pin("a", url))
        assert answer.status_code == 403
        assert says in answer.text
        upstream.pages["/away"] = Response(status=302, headers={"Location": url})
        assert http.get(running.pin("a", f"{upstream.url}/away")).status_code == 403
        assert [target for _, target, _ in proxy.requests] == [f"{upstream.url}/away"]


def test_a_name_that_only_the_proxy_knows(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    upstream.pages["/file"] = BODY
    with Proxy() as proxy:
        proxy.hosts["registry.test"] = ("127.0.0.1", upstream.port)
        running: Mirror = mirror("--proxy", proxy.url)
        assert http.get(running.pin("a", "http://registry.test/file")).content == BODY


# How many at once


@pytest.mark.parametrize(
    ("option", "origins"), [("--max-connections", 4), ("--max-connections-per-origin", 1)], ids=["in all", "per origin"]
)
def test_exchanges_at_once(
    option: str, origins: int, upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]
) -> None:
    """No more than three are under way; the others wait for their turn and are served."""
    lock, now, most = threading.Lock(), [0], [0]

    def page(request: object) -> Response:
        def body() -> Iterator[bytes]:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            yield b"x"
            threading.Event().wait(0.2)
            with lock:
                now[0] -= 1
            yield b"y"

        return Response(body())

    started: list[Upstream] = [upstreams() for _ in range(origins)]
    for each in started:
        each.otherwise = page
    running: Mirror = mirror(option, "3")
    addresses = [running.pin("a", f"{started[number % origins].url}/{number}") for number in range(12)]
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(http.get, addresses))
    assert [answer.content for answer in answers] == [b"xy"] * 12
    assert most[0] == 3


def test_a_slow_origin_keeps_no_other_waiting(
    upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]
) -> None:
    """All its turns are taken, and many wait; another origin is asked at once."""
    slow, quick = upstreams(), upstreams()
    release = threading.Event()
    slow.otherwise = lambda _: Response([b"x", release, b"y"])
    quick.pages["/file"] = BODY
    running: Mirror = mirror("--max-connections", "3", "--max-connections-per-origin", "2")
    with ThreadPoolExecutor(10) as threads:
        waiting = [threads.submit(http.get, running.pin("a", f"{slow.url}/{number}")) for number in range(10)]
        slow.wait(count=2)
        assert http.get(running.pin("a", f"{quick.url}/file")).content == BODY
        assert slow.count() == 2
        release.set()
        assert {each.result().content for each in waiting} == {b"xy"}


# An idle connection


@pytest.fixture
def raw() -> Iterator[RawUpstream]:
    with RawUpstream() as found:
        yield found


def test_connections_are_used_again(upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]) -> None:
    """Also if many were in use at once, as when a resolver asks for the metadata of many versions."""
    many = 50
    upstream: Upstream = upstreams()
    running: Mirror = mirror("--max-connections-per-origin", str(many))
    together = threading.Barrier(many)

    def page(request: Request) -> Response:
        together.wait(10)
        return Response(request.path.encode())

    upstream.otherwise = page
    with ThreadPoolExecutor(many) as threads:
        for name in ("first", "second", "third"):
            paths = [f"/{name}-{number}" for number in range(many)]
            answers = threads.map(http.get, [running.pin("a", f"{upstream.url}{path}") for path in paths])
            assert [answer.content.decode() for answer in answers] == paths
    assert upstream.connections == many


def test_a_connection_that_was_closed_meanwhile(upstream: Upstream, server: Mirror, pin: str) -> None:
    """A connection that the upstream has closed since is no failure of the next request."""
    upstream.otherwise = lambda request: Response(request.path.encode())
    for number in range(3):
        assert http.get(server.pin(pin, f"{upstream.url}/{number}")).status_code == 200
        upstream.stop()
        upstream.start()


@pytest.mark.parametrize("size", [0, 1, READ, READ + 1, 3 * READ, 3 * READ + 1])
def test_a_connection_is_used_again_after_a_body_of_any_size(
    size: int, raw: RawUpstream, server: Mirror, pin: str
) -> None:
    """The bulk of a large one is read past httpcore, which has to know all the same that it has ended."""
    bodies = {f"/{number}": os.urandom(size) for number in range(3)}
    for path, body in bodies.items():
        raw.honest(path, body)
        assert http.get(server.pin(pin, raw.url + path)).content == body
    assert [request.connection for request in raw.requests] == [1, 1, 1]


def test_a_large_file_through_tls(secure: Upstream, bundle: Path, mirror: Callable[..., Mirror]) -> None:
    secure.pages["/large"] = body = os.urandom(5 * READ + 7)
    running: Mirror = mirror("--ca-bundle", str(bundle))
    assert http.get(running.pin("a", f"{secure.url}/large")).content == body
