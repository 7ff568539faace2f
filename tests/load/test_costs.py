"""What one request may cost the others: pages, wheels and downloads that strangers choose are bounded."""

from __future__ import annotations

import gzip
import hashlib
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from httpcache.freezing.mirror import FLIGHTS
from httpcache.upstream.limits import QUEUE
from pypi_adapter.registry.wheel_metadata import BUDGET
from tests.support import http
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.upstream import Request, Response, Upstream

pytestmark = pytest.mark.alone

HTML = {"Content-Type": "text/html"}
BROWSER = {"Accept": "text/html,*/*;q=0.8"}
INSTALLER = {"Accept": "application/vnd.pypi.simple.v1+json"}
WHEEL = "demo-1.0-py3-none-any.whl"


# Downloads


@contextmanager
def hanging(running: Mirror, upstream: Upstream, count: int) -> Iterator[None]:
    """So many downloads that do not end."""
    release = threading.Event()
    upstream.otherwise = lambda _: Response([b"x", release])

    def start(number: int) -> None:
        with http.stream("GET", running.pin("hanging", f"{upstream.url}/{number}")):
            pass  # the client leaves, the download stays

    with ThreadPoolExecutor(count) as threads:
        started = [threads.submit(start, number) for number in range(count)]
        try:
            yield
        finally:
            release.set()
            for each in started:
                each.result()


def refused(address: str) -> bool:
    answer = http.get(address)
    assert answer.status_code in (200, 503)
    if answer.status_code == 200:
        return False
    assert "too many downloads" in answer.text
    assert int(answer.headers["retry-after"]) > 0
    return True


def test_an_origin_that_hangs_keeps_no_other_waiting(
    upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]
) -> None:
    """So many wait for it, the next is told to come back; another origin is asked at once."""
    slow, quick = upstreams(), upstreams()
    quick.pages["/file"] = b"bytes"
    running: Mirror = mirror("--max-connections-per-origin", "1")
    with hanging(running, slow, QUEUE + 1), ThreadPoolExecutor(1) as one:
        # one of them has been refused: which, is a matter of chance
        assert http.get(running.pin("a", f"{quick.url}/file")).content == b"bytes"
        slow.wait(count=1)
        assert one.submit(refused, running.pin("a", f"{slow.url}/again")).result()
    assert http.get(running.pin("b", f"{quick.url}/file")).content == b"bytes"


def test_downloads_are_bounded_in_all(
    upstreams: Callable[..., Upstream], pypi: PyPI, mirror: Callable[..., Mirror]
) -> None:
    """What is frozen is served all the same, and the registry of the dated index has turns of its own."""
    slow, quick = upstreams(), upstreams()
    quick.pages["/file"] = quick.pages["/other"] = b"bytes"
    running: Mirror = mirror(pypi, "--max-connections", "2")
    frozen = running.pin("a", f"{quick.url}/file")
    http.get(frozen)
    with hanging(running, slow, 2 * FLIGHTS + 1):
        slow.wait(count=2)
        assert http.get(frozen).content == b"bytes"
        assert http.get(f"{running.url}/live/nothing/").status_code == 404
        assert refused(running.pin("a", f"{quick.url}/other"))
    assert not refused(running.pin("b", f"{quick.url}/other"))


def test_a_host_that_is_no_name(server: Mirror) -> None:
    for host in ("xn--a", "xn--", "xn--" + "a" * 70, "a.xn--9"):
        answer = http.get(server.pin("a", f"http://{host}/x"))
        assert answer.status_code in (400, 502), host
    assert "Traceback" not in server.log()


# Pages


@pytest.mark.parametrize("body", [b"<meta " * 200_000, b"<meta x='" * 100_000, b"<" * 1_000_000])
def test_a_page_that_is_searched_for_long(body: bytes, upstream: Upstream, server: Mirror, pin: str) -> None:
    """Whether a page is an index is found out in its head, in time that grows with its size alone."""
    upstream.pages["/page"] = Response(body, headers=HTML)
    answer = http.get(server.pin(pin, f"{upstream.url}/page"), headers=BROWSER, timeout=30)
    assert answer.content == body


def test_a_large_page_of_the_web_is_given_to_browsers(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """Only what is read as an index is bounded by --max-page."""
    body = b"<meta name='pypi:repository-version'>" + b" " * 70_000
    upstream.pages["/page"] = Response(body, headers=HTML)
    running: Mirror = mirror("--max-page", "64K")
    assert http.get(running.pin("a", f"{upstream.url}/page"), headers=BROWSER).content == body
    assert http.get(running.pin("b", f"{upstream.url}/page"), headers=INSTALLER).status_code == 502


def test_a_page_in_two_members(upstream: Upstream, server: Mirror, pin: str) -> None:
    """gzip may come in several members; half a page would look like files that are gone."""
    first, second = (f"<a href=demo-{version}.tar.gz>x</a>".encode() for version in "12")
    body = gzip.compress(first) + gzip.compress(second)
    upstream.pages["/simple/demo/"] = Response(body, headers=HTML | {"Content-Encoding": "gzip"})
    answer = http.get(server.pin(pin, f"{upstream.url}/simple/demo/"), headers=INSTALLER)
    assert [file["filename"] for file in answer.json()["files"]] == ["demo-1.tar.gz", "demo-2.tar.gz"]


def test_a_page_of_many_projects(upstream: Upstream, server: Mirror, pin: str) -> None:
    """It is noted once, not for each; what it announces is held to all the same."""
    body = wheel("demo", "1.0").data
    digest = hashlib.sha256(body[::-1]).hexdigest()
    links = [f"<a href=p{number}-1.0.tar.gz>p</a>" for number in range(3000)]
    page = "".join([*links, f"<a href={WHEEL}#sha256={digest}>demo</a>"]).encode()
    upstream.pages |= {"/flat": Response(page, headers=HTML), f"/{WHEEL}": body}
    assert len(http.get(server.pin(pin, f"{upstream.url}/flat"), headers=INSTALLER).json()["files"]) == 3001
    answer = http.get(server.pin(pin, f"{upstream.url}/{WHEEL}"))
    assert answer.status_code == 502
    assert digest in answer.text


def test_a_stranger_speaks_against_no_file_of_another_origin(
    upstreams: Callable[..., Upstream], server: Mirror, pin: str
) -> None:
    """A page of the file's own origin counts before any other one, also where it announces no digest."""
    good, evil = upstreams(), upstreams()
    body = wheel("demo", "1.0").data
    good.pages |= {"/simple/demo/": Response(f"<a href=/{WHEEL}>x</a>".encode(), headers=HTML), f"/{WHEEL}": body}
    lie = f"<a href={good.url}/{WHEEL}#sha256={'0' * 64}>x</a>".encode()
    evil.pages["/demo/"] = Response(lie, headers=HTML)
    assert http.get(server.pin(pin, f"{evil.url}/demo/"), headers=INSTALLER).status_code == 200
    assert http.get(server.pin(pin, f"{good.url}/simple/demo/"), headers=INSTALLER).status_code == 200
    assert http.get(server.pin(pin, f"{good.url}/{WHEEL}")).content == body


# Wheels


def endless(size: int) -> bytes:
    """A wheel whose METADATA is made of deflate blocks with nothing in them."""
    name, data = b"demo-1.0.dist-info/METADATA", b"\x00\x00\x00\xff\xff" * (size // 5) + b"\x01\x00\x00\xff\xff"
    fields = (20, 0, 8, 0, 0, zlib.crc32(b""), len(data), 1000, len(name), 0)
    local = b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", *fields) + name
    central = b"PK\x01\x02" + struct.pack("<H", 20) + struct.pack("<HHHHHIIIHH", *fields)
    central += struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, len(central), len(local) + len(data), 0)
    return local + data + central + end


@pytest.mark.parametrize("ranges", [True, False])
def test_a_wheel_that_is_read_without_end(
    ranges: bool, upstreams: Callable[..., Upstream], server: Mirror, pin: str
) -> None:
    upstream = upstreams(ranges=ranges)
    upstream.pages[f"/{WHEEL}"] = endless(3 * BUDGET)
    answer = http.get(server.pin(pin, f"{upstream.url}/{WHEEL}.metadata"))
    assert answer.status_code == 502
    assert f"{BUDGET} bytes" in answer.text
    assert upstream.count() < BUDGET // 1024


def test_ranges_that_are_longer_than_asked(upstreams: Callable[..., Upstream], server: Mirror, pin: str) -> None:
    upstream = upstreams()
    whole = endless(3 * BUDGET)

    def page(request: Request) -> Response:
        if "range" not in request.headers:
            return Response(status=404)
        return Response(whole, 206, {"Content-Range": f"bytes 0-{len(whole) - 1}/{len(whole)}"})

    upstream.otherwise = page
    answer = http.get(server.pin(pin, f"{upstream.url}/{WHEEL}.metadata"))
    assert answer.status_code == 502
    assert "longer than" in answer.text
