"""A host that is slow and ignores ranges: METADATA is not advertised there, and what is asked for begins in time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support import http
from tests.support.clients import PIP, UV, Clients
from tests.support.index import document, html_page, json_file, json_files, json_page
from tests.support.mirror import Mirror
from tests.support.packages import Dist, wheel
from tests.support.upstream import NOT_FOUND, Request, Response, Upstream

pytestmark = pytest.mark.alone

THING = wheel("thing", "1.0", padding=60_000)
PATH = f"/{THING.filename}"


def whole(dist: Dist, *steps: object) -> Callable[[Request], Response]:
    """A server that answers whatever range with the whole."""
    return lambda _: Response(list(steps) or [dist.data], 200, {"Content-Length": str(len(dist.data))})


def dripping(dist: Dist, seconds: float) -> Callable[[Request], Response]:
    """The same, and it takes its time; a piece comes every tenth of a second."""
    never, count = threading.Event(), round(seconds * 10)
    size = len(dist.data) // count + 1

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(dist.data), size):
            never.wait(0.1)
            yield dist.data[start : start + size]

    return lambda _: Response(pieces(), 200, {"Content-Length": str(len(dist.data))})


@pytest.fixture
def put(upstreams: Callable[..., Upstream]) -> Callable[..., Upstream]:
    """Put a page and a wheel on a host that has nothing else and knows no ranges."""

    def on(page: Callable[[Request], Response], **said: object) -> Upstream:
        host = upstreams()
        host.pages["/simple/thing/"] = json_page(json_files(json_file(host.url + PATH, **said)))
        host.pages[PATH] = page
        return host

    return on


def test_it_is_not_advertised(put: Callable[..., Upstream], server: Mirror, pin: str) -> None:
    """The host is asked once for a byte of a file, and then it is known, for all pins and forms."""
    host = put(whole(THING))
    for number in range(2):
        (file,) = document(server.pin(f"a{number}-{pin}", f"{host.url}/simple/thing/"))["files"]
        assert not file.get("core-metadata")
    host.pages["/simple/thing/"] = html_page(PATH)
    answer = http.get(server.pin(f"b-{pin}", f"{host.url}/simple/thing/"), headers={"Accept": "text/html"})
    assert PATH in answer.text
    assert "core-metadata" not in answer.text
    assert [seen.headers["range"] for seen in host.requests if seen.path == PATH] == ["bytes=-1"]
    assert http.get(f"{server.same(file['url'])}.metadata").content == THING.metadata


def test_it_is_not_advertised_at_a_date_once_it_is_known(
    put: Callable[..., Upstream], mirror: Callable[..., Mirror]
) -> None:
    """A page of a date asks no file host; from the first METADATA on it says what is known of it. Live pages too."""
    host = put(whole(THING), **{"upload-time": "2023-01-01T00:00:00Z"})
    running = mirror(pypi_upstream=f"{host.url}/simple/")
    pages = [f"{running.at(when)}thing/" for when in ("2024-01-02", "live")]
    files = [document(page)["files"][0] for page in pages]
    assert [file["core-metadata"] for file in files] == [True, True]
    assert not host.count(PATH)
    assert http.get(f"{running.same(files[0]['url'])}.metadata").content == THING.metadata
    for page in pages:
        (file,) = document(page)["files"]
        assert "core-metadata" not in file
        assert file["url"] == files[0]["url"]
        assert "immutable" not in http.get(page).headers["cache-control"]
        assert "core-metadata" not in http.get(page).text


def test_a_host_that_knows_ranges(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages |= {"/simple/thing/": json_page(json_files(json_file(upstream.url + PATH))), PATH: THING.data}
    (file,) = document(server.pin(pin, f"{upstream.url}/simple/thing/"))["files"]
    assert file["core-metadata"] is True


@pytest.mark.parametrize("answer", [NOT_FOUND, Response(b"", 403), Response(b"", 500), Response(b"", 416)])
def test_nothing_is_known_of_a_host_that_answers_neither_way(
    answer: Response, put: Callable[..., Upstream], server: Mirror, pin: str
) -> None:
    host = put(lambda _: answer)
    (file,) = document(server.pin(pin, f"{host.url}/simple/thing/"))["files"]
    assert file["core-metadata"] is True


def test_the_hosts_own_metadata_files_are_advertised(put: Callable[..., Upstream], server: Mirror, pin: str) -> None:
    """They do not take the wheel."""
    host = put(whole(THING), **{"core-metadata": {"sha256": THING.metadata_sha256}})
    host.pages[PATH + ".metadata"] = THING.metadata
    (file,) = document(server.pin(pin, f"{host.url}/simple/thing/"))["files"]
    assert file["core-metadata"] == {"sha256": THING.metadata_sha256}
    assert http.get(f"{server.same(file['url'])}.metadata").content == THING.metadata
    assert host.count(PATH) == 0


def test_what_was_advertised_stays_to_be_had(put: Callable[..., Upstream], server: Mirror, pin: str) -> None:
    """A host that no longer knows ranges: a 503 within the patience of installers, and then the metadata."""
    gate = threading.Event()
    host = put(lambda _: NOT_FOUND)
    (file,) = document(server.pin(pin, f"{host.url}/simple/thing/"))["files"]
    assert file["core-metadata"] is True
    host.pages[PATH] = whole(THING, THING.data[:-1], gate, THING.data[-1:])
    address = f"{server.same(file['url'])}.metadata"
    first = http.get(address, timeout=14)
    assert first.status_code == 503
    assert int(first.headers["retry-after"]) > 0
    assert "try again" in first.text
    gate.set()
    assert http.get(address).content == THING.metadata
    assert http.get(address).content == THING.metadata
    for name in (f"b{pin}", pin):
        (file,) = document(server.pin(name, f"{host.url}/simple/thing/"))["files"]
        assert not file.get("core-metadata")


@pytest.mark.parametrize(("client", "announced"), [("pip", True), ("uv", False)])
def test_installers_have_the_wheel(
    client: str, announced: bool, put: Callable[..., Upstream], server: Mirror, pin: str, clients: Clients
) -> None:
    """The wheel takes longer than they wait for an answer, and comes byte by byte."""
    host = put(dripping(THING, 11), **({"hashes": {"sha256": THING.sha256}} if announced else {}))
    index = server.pin(pin, f"{host.url}/simple/")
    home = clients.place()
    command: tuple[str | Path, ...]
    if client == "pip":
        command = (*PIP, "install", "--timeout", "8", "--target", home / "target", "-i", index, "thing")
    else:
        command = (UV, "pip", "install", "--target", home / "target", "--python", PIP[0], "-i", index, "thing")
    clients.run(*command, home=home, environment={"UV_HTTP_TIMEOUT": "8"}).checked()
    assert sha256(http.get(f"{server.pin(pin, host.url)}{PATH}").content).hexdigest() == THING.sha256


def test_a_part_that_comes_late(put: Callable[..., Upstream], server: Mirror, pin: str) -> None:
    """The whole instead, from its beginning (RFC 9110 section 14.2); a HEAD says that there are no parts yet."""
    gate = threading.Event()
    host = put(whole(THING, THING.data[:30_000], gate, THING.data[30_000:]))
    address = server.pin(pin, host.url + PATH)
    with http.stream("GET", address, headers={"Range": "bytes=-100"}, timeout=9) as late:
        assert late.status_code == 200
        assert http.head(address).headers["accept-ranges"] == "none"
        with http.stream("GET", address, headers={"Range": "bytes=100-199"}) as part:
            assert part.status_code == 206
            gate.set()
            assert part.read() == THING.data[100:200]
        assert late.read() == THING.data
    assert http.head(address).headers["accept-ranges"] == "bytes"
    part = http.get(address, headers={"Range": "bytes=-100"})
    assert (part.status_code, part.content) == (206, THING.data[-100:])


def test_credentials_stay_with_the_origin_of_the_page(
    put: Callable[..., Upstream], upstreams: Callable[..., Upstream], server: Mirror, pin: str
) -> None:
    """What a client sends for a page is not for the host of its files."""
    host = put(whole(THING))
    index = upstreams()
    index.pages["/simple/thing/"] = host.pages["/simple/thing/"]
    bearer = {"Authorization": "Bearer for-the-page"}
    for at in (index, host):
        document(server.pin(f"{at.port}-{pin}", f"{at.url}/simple/thing/"), **bearer)
    assert index.requests[0].headers["authorization"] == "Bearer for-the-page"
    (asked, *_) = [seen for seen in host.requests if seen.path == PATH]
    assert (asked.headers["range"], asked.headers.get("authorization")) == ("bytes=-1", None)
