"""wget and curl on frozen files and pages, and a server killed in the middle of a first fetch."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.clients import Clients
from tests.support.index import ask, hrefs
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import SHAPES, PyPI, Registry
from tests.support.upstream import CUT, Response, Upstream, redirect

BODY = random.Random(7).randbytes(3_000_000)
HALF = len(BODY) // 2
PIN = "data-2024-01-02"


@pytest.mark.parametrize("client", ["curl", "wget"])
def test_the_first_answer_is_the_answer(
    client: str, upstream: Upstream, mirror: Callable[..., Mirror], clients: Clients, tmp_path: Path
) -> None:
    upstream.pages["/data.bin?v=1"] = BODY
    address = mirror().pin(PIN, f"{upstream.url}/data.bin?v=1")

    def fetch(name: str) -> bytes:
        run, flag = (clients.curl, "-fo") if client == "curl" else (clients.wget, "-O")
        run(flag, tmp_path / name, address).checked()
        return (tmp_path / name).read_bytes()

    assert fetch("first") == BODY
    upstream.pages["/data.bin?v=1"] = b"changed"
    assert fetch("changed") == BODY
    upstream.empty()
    assert fetch("emptied") == BODY
    upstream.stop()
    assert fetch("shut down") == BODY
    assert upstream.count() == 1


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "first request"])
@pytest.mark.parametrize("client", ["curl", "wget"])
def test_resume(
    client: str, frozen: bool, upstream: Upstream, mirror: Callable[..., Mirror], clients: Clients, tmp_path: Path
) -> None:
    """A download goes on where it stopped; a range as the very first request freezes the whole."""
    upstream.pages["/data.bin"] = BODY
    address = mirror().pin(PIN, f"{upstream.url}/data.bin")
    if frozen:
        clients.curl("-fo", "/dev/null", address).checked()
        upstream.stop()
    part = tmp_path / "data.bin"
    part.write_bytes(BODY[:HALF])
    if client == "curl":
        clients.curl("-f", "-C", "-", "-o", part, address).checked()
    else:
        clients.wget("-c", address, cwd=tmp_path).checked()
    assert part.read_bytes() == BODY
    if not frozen:
        upstream.stop()
        clients.curl("-fo", tmp_path / "whole", address).checked()
        assert (tmp_path / "whole").read_bytes() == BODY


def test_headers_curl_shows(upstream: Upstream, mirror: Callable[..., Mirror], clients: Clients) -> None:
    changed = "Tue, 02 Jan 2024 03:04:05 GMT"
    upstream.pages["/a.tar.gz"] = Response(BODY, headers={"Content-Type": "application/gzip", "Last-Modified": changed})
    address = mirror().pin(PIN, f"{upstream.url}/a.tar.gz")
    shown = [clients.curl("-f", "-D", "-", "-o", "/dev/null", address).checked().output.lower() for _ in range(2)]
    for headers in shown:
        assert "content-type: application/gzip" in headers
        assert f"last-modified: {changed.lower()}" in headers
    assert re.search(r"(?m)^cache-status: httpcache; fwd=uri-miss(; fwd-status=200)?; stored", shown[0])
    assert re.search(r"(?m)^cache-status: httpcache; hit", shown[1])
    assert re.search(r"(?m)^cache-control: .*immutable", shown[1])
    etag = re.search(r'(?m)^etag: ("\w.*")\r?$', shown[1])
    assert etag
    again = clients.curl("-w", "%{http_code}", "-H", f"If-None-Match: {etag[1]}", address).checked()
    assert again.output == "304"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_page_fetched_by_curl_is_the_upstreams(
    shape: str, registry: Callable[..., Registry], mirror: Callable[..., Mirror], clients: Clients
) -> None:
    """Byte for byte at its raw address, before and after an installer had the same page rewritten; there it goes on."""
    index = registry(shape)
    index.upload(thing := wheel("some-thing", "1.0"))
    original = httpx.get(index.url + "some-thing/").text
    server = mirror()
    page, raw = server.pin(PIN, index.url), server.pin(PIN, f"raw/{index.url}some-thing/")
    assert clients.curl("-f", raw).checked().output == original
    assert clients.pip_install(page, ["some-thing"])["some-thing"].hashes == {thing.sha256}
    index.upstream.stop()
    assert clients.curl("-f", raw).checked().output == original
    assert set(hrefs(clients.curl("-f", page + "some-thing/").checked().output)) == set(
        hrefs(ask(page + "some-thing/", "text/html").text)
    )


def test_a_pinned_pypi_page_by_curl(pypi: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """It is the page that uv got, in HTML: one moment for all."""
    pypi.upload(wheel("some-thing", "1.0"), "2024-01-01T00:00:00Z")
    page = mirror().pin(PIN, pypi.url)
    clients.uv_compile(page, ["some-thing"])
    pypi.upload(wheel("some-thing", "2.0"), "2024-01-02T00:00:00Z")
    shown = clients.curl("-f", page + "some-thing/").checked().output
    assert [link.partition("#")[0].rpartition("/")[2] for link in hrefs(shown)] == ["some_thing-1.0-py3-none-any.whl"]


def test_redirects_are_followed_here(
    upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror], clients: Clients
) -> None:
    """Also to another origin; the client sees the file and no redirect."""
    first, second = upstreams(), upstreams()
    first.pages["/file"] = redirect(f"{second.url}/there")
    second.pages["/there"] = BODY
    address = mirror().pin(PIN, f"{first.url}/file")
    for _ in range(2):
        assert httpx.get(address).content == BODY
        first.stop()
        second.stop()


@pytest.mark.parametrize("spelling", ["{url}", "{merged}", "{quoted}"])
def test_a_mangled_address_is_the_same_address(
    spelling: str, upstream: Upstream, mirror: Callable[..., Mirror], clients: Clients
) -> None:
    upstream.pages["/a%2Bb.whl"] = upstream.pages["/a+b.whl"] = b"content"
    server = mirror()
    assert clients.curl("-f", server.pin(PIN, f"{upstream.url}/a+b.whl")).checked().output == "content"
    upstream.stop()
    url = f"{upstream.url}/a%2bb.whl"
    forms = {"url": url, "merged": url.replace("//", "/"), "quoted": url.replace("://", "%3A/")}
    assert clients.curl("-f", server.pin(PIN, spelling.format(**forms))).checked().output == "content"


@pytest.mark.parametrize("failure", ["cut", "short"])
def test_half_a_file_is_never_kept(
    failure: str, upstream: Upstream, mirror: Callable[..., Mirror], clients: Clients
) -> None:
    """A first fetch that broke is an error at the client and nothing at the next."""
    announced = {"Content-Length": str(len(BODY))} if failure == "short" else {}
    upstream.pages["/data.bin"] = Response([BODY[:HALF], CUT], headers=announced)
    address = mirror().pin(PIN, f"{upstream.url}/data.bin")
    assert clients.curl("-f", "-o", "body", address).code != 0
    upstream.pages["/data.bin"] = BODY
    assert httpx.get(address).content == BODY


def test_a_kill_in_the_middle_leaves_nothing(
    upstream: Upstream, mirror: Callable[..., Mirror], clients: Clients
) -> None:
    """SIGKILL during a first fetch: what was there of it is not served, the next fetch is whole."""
    never = threading.Event()
    upstream.pages["/data.bin"] = Response(
        [BODY[:HALF], never, BODY[HALF:]], headers={"Content-Length": str(len(BODY))}
    )
    server = mirror()
    address = server.pin(PIN, f"{upstream.url}/data.bin")
    received = b""
    with httpx.stream("GET", address, timeout=30) as response:
        chunks = response.iter_raw()
        while len(received) < HALF:
            received += next(chunks)
        server.kill()
        with pytest.raises(httpx.TransportError):
            next(chunks)
    assert received == BODY[:HALF]
    never.set()
    server.start("--offline")
    assert httpx.get(address).status_code == 504
    server.stop()
    upstream.pages["/data.bin"] = other = bytes(reversed(BODY))
    server.arguments = ()
    server.start()
    assert httpx.get(address).content == other


def test_sigterm_finishes_what_is_in_flight(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """The client gets its whole file, the copy is kept, and the end comes with the download's and not later."""
    release = threading.Event()
    upstream.pages["/data.bin"] = Response(
        [BODY[:HALF], release, BODY[HALF:]], headers={"Content-Length": str(len(BODY))}
    )
    server = mirror()
    address = server.pin(PIN, f"{upstream.url}/data.bin")
    with httpx.stream("GET", address, timeout=30) as response:
        chunks = response.iter_raw()
        received = next(chunks)
        server.terminate()
        release.set()
        received += b"".join(chunks)
    assert received == BODY
    assert server.wait(5) == 0, server.log()
    server.restart("--offline")
    assert httpx.get(address).content == BODY


def test_sigterm_finishes_what_nobody_waits_for(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """The download goes on after its client has left, and the server ends when it is kept."""
    release = threading.Event()
    upstream.pages["/data.bin"] = Response(
        [BODY[:HALF], release, BODY[HALF:]], headers={"Content-Length": str(len(BODY))}
    )
    server = mirror()
    address = server.pin(PIN, f"{upstream.url}/data.bin")
    with httpx.stream("GET", address, timeout=30) as response:
        next(response.iter_raw())
    server.terminate()
    assert server.wait(1) is None
    release.set()
    assert server.wait(5) == 0, server.log()
    server.restart("--offline")
    assert httpx.get(address).content == BODY
