"""What freezes, when and for whom: the real server in front of upstreams that stall, break, change and lie."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.support import http
from tests.support.inside import checked_records, memory
from tests.support.mirror import Mirror
from tests.support.upstream import CUT, Request, Response, Upstream, redirect

BODY = bytes(range(256)) * 1000
HALF = len(BODY) // 2
CLIENTS = 12
MEGABYTE = 1_000_000


def opened(stack: ExitStack, address: str) -> httpx.Response:
    """An answer whose head has come, its body still to be read."""
    return stack.enter_context(http.stream("GET", address))


def stalled(release: threading.Event, headers: dict[str, str] | None = None) -> Response:
    """An answer that comes to its middle, and goes on when it is released."""
    return Response([BODY[:HALF], release, BODY[HALF:]], headers=headers or {})


# Streaming and sharing


@pytest.mark.parametrize("headers", [{}, {"Content-Length": str(len(BODY))}], ids=["chunked", "length"])
def test_the_first_bytes_come_before_the_upstream_has_finished(
    headers: dict[str, str], upstream: Upstream, server: Mirror, pin: str
) -> None:
    release = threading.Event()
    upstream.pages["/file"] = stalled(release, headers)
    with http.stream("GET", server.pin(pin, f"{upstream.url}/file")) as response:
        chunks = response.iter_raw()
        received = next(chunks)
        assert not release.is_set()
        release.set()
        assert received + b"".join(chunks) == BODY


@pytest.mark.parametrize("workers", [1, 2])
def test_all_who_ask_at_once_share_one_request(workers: int, upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """In one process and across processes; all of them stream before the end."""
    release = threading.Event()
    upstream.pages["/file"] = stalled(release)
    running = mirror("--workers", f"{workers}")
    address = running.pin("shared", f"{upstream.url}/file")
    with ExitStack() as stack, ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda _: opened(stack, address), range(CLIENTS)))
        bodies = [answer.iter_raw() for answer in answers]
        starts = [next(body) for body in bodies]
        release.set()
        rests = list(pool.map(b"".join, bodies))
    assert [start + rest for start, rest in zip(starts, rests, strict=True)] == [BODY] * CLIENTS
    assert upstream.count("/file") == 1
    running.stop()
    assert len(checked_records(running.data)) == 1


def test_a_storm_of_first_requests_on_two_workers(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """Small files that come at once: every client has all of its file, every file was asked for once."""
    running = mirror("--workers", "2")
    names = [f"/file-{number}" for number in range(10)]
    upstream.pages |= {name: name.encode() * 1000 for name in names}

    def fetch(name: str) -> bool:
        answer = http.get(running.pin("storm", upstream.url + name))
        return (answer.status_code, answer.content) == (200, name.encode() * 1000)

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert all(pool.map(fetch, names * 8))
    assert [upstream.count(name) for name in names] == [1] * len(names)


def test_files_with_the_same_bytes_freeze_at_once(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """Many addresses, one blob, two workers: nobody is cut off because another has written the same blob."""
    running = mirror("--workers", "2")
    upstream.otherwise = lambda _: Response(BODY)

    def fetch(number: int) -> bytes:
        return http.get(running.pin("same", f"{upstream.url}/copy-{number}")).content

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert set(pool.map(fetch, [number for number in range(40) for _ in range(4)])) == {BODY}


def test_a_download_goes_on_when_its_first_client_leaves(upstream: Upstream, server: Mirror, pin: str) -> None:
    release, sent = threading.Event(), threading.Event()

    def steps() -> Iterator[object]:
        yield BODY[:HALF]
        yield release
        yield BODY[HALF:]
        sent.set()

    upstream.pages["/file"] = Response(steps())
    address = server.pin(pin, f"{upstream.url}/file")
    with http.stream("GET", address) as response:
        next(response.iter_raw())
    release.set()
    assert sent.wait(30), "the mirror left when its client did"
    upstream.empty()
    assert http.get(address).content == BODY
    assert upstream.count("/file") == 1


@pytest.mark.parametrize("method", ["HEAD", "range", "unsatisfiable range"])
def test_whatever_asks_first_the_whole_is_frozen(method: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/file"] = BODY
    address = server.pin(pin, f"{upstream.url}/file")
    if method == "HEAD":
        first = http.head(address)
        assert (first.status_code, first.content) == (200, b"")
        assert first.headers["content-length"] == str(len(BODY))
    elif method == "range":
        first = http.get(address, headers={"Range": "bytes=10-19"})
        assert (first.status_code, first.content) == (206, BODY[10:20])
        assert first.headers["content-range"] == f"bytes 10-19/{len(BODY)}"
    else:
        first = http.get(address, headers={"Range": f"bytes={len(BODY)}-"})
        assert (first.status_code, first.headers["content-range"]) == (416, f"bytes */{len(BODY)}")
    assert http.get(address).content == BODY
    upstream.stop()
    assert http.get(address).content == BODY
    assert upstream.count() == upstream.count("/file", "GET") == 1


@pytest.mark.parametrize("asked", ["bytes=10-19", "bytes=-10", "bytes=0-9,20-29", "bytes=999999999-"])
def test_a_range_first_where_the_length_is_not_announced(
    asked: str, upstream: Upstream, server: Mirror, pin: str
) -> None:
    upstream.pages["/file"] = Response([BODY])
    address = server.pin(pin, f"{upstream.url}/file")
    first = http.get(address, headers={"Range": asked})
    again = http.get(address, headers={"Range": asked})
    assert first.status_code == again.status_code == (416 if asked == "bytes=999999999-" else 206)
    if "," not in asked:
        assert first.content == again.content
        assert first.headers["content-range"] == again.headers["content-range"]


def _change(upstream: Upstream) -> None:
    upstream.pages["/file"] = b"other bytes"


@pytest.mark.parametrize("happens", [_change, Upstream.empty, Upstream.stop])
def test_later_the_bytes_are_the_same(
    happens: Callable[[Upstream], None], upstream: Upstream, server: Mirror, pin: str
) -> None:
    upstream.pages["/file"] = BODY
    address = server.pin(pin, f"{upstream.url}/file")
    first = http.get(address)
    happens(upstream)
    assert http.get(address).content == first.content == BODY
    assert upstream.count() == 1


def test_a_pin_is_frozen_by_itself(upstream: Upstream, server: Mirror, pin: str) -> None:
    for body in (b"old", b"new"):
        upstream.pages["/file"] = body
        assert http.get(server.pin(f"{body.decode()}-{pin}", f"{upstream.url}/file")).content == body


def test_frozen_survives_a_restart(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    upstream.pages["/file"] = BODY
    running = mirror()
    address = running.pin("kept", f"{upstream.url}/file")
    http.get(address)
    upstream.stop()
    running.restart()
    assert http.get(address).content == BODY


@pytest.mark.parametrize("body", [b"", []], ids=["length", "chunked"])
def test_an_empty_file(body: object, upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/empty"] = Response(body)  # type: ignore[arg-type]
    address = server.pin(pin, f"{upstream.url}/empty")
    for hit in (False, True):
        answer = http.get(address)
        assert (answer.status_code, answer.content) == (200, b"")
        assert ("hit" in answer.headers["cache-status"]) is hit
        upstream.stop()
    ranged = http.get(address, headers={"Range": "bytes=0-"})
    assert (ranged.status_code, ranged.headers["content-range"]) == (416, "bytes */0")
    assert http.head(address).headers["content-length"] == "0"


# What is not whole


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("headers", [{}, {"Content-Length": str(len(BODY))}], ids=["chunked", "length"])
def test_what_broke_off_breaks_at_every_client_and_is_not_kept(
    headers: dict[str, str], workers: int, upstream: Upstream, mirror: Callable[..., Mirror]
) -> None:
    """Also at those who share the download; the next honest answer is frozen."""
    release = threading.Event()
    upstream.pages["/file"] = Response([BODY[:HALF], release, CUT], headers=headers)
    running = mirror("--workers", f"{workers}")
    address = running.pin("cut", f"{upstream.url}/file")

    def ends(response: httpx.Response) -> str:
        try:
            return f"whole, {len(response.read())} bytes"
        except httpx.RemoteProtocolError:
            return "broken"

    with ExitStack() as stack, ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda _: opened(stack, address), range(CLIENTS)))
        release.set()
        assert set(pool.map(ends, answers)) == {"broken"}
    upstream.pages["/file"] = BODY
    assert http.get(address).content == BODY
    running.stop()
    assert [record.size for record in checked_records(running.data)] == [len(BODY)]
    assert list((running.data / "spool").iterdir()) == []


BROKEN = {
    "short": Response([BODY[:HALF]], headers={"Content-Length": str(len(BODY))}),
    "last byte missing": Response([BODY[:-1]], headers={"Content-Length": str(len(BODY))}),
    "cut": Response([BODY[:HALF], CUT]),
    "cut before the end of the chunks": Response([BODY, CUT]),
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("asked", ["", "bytes=-1", "bytes=0-9,-1"])
def test_half_an_answer_is_no_answer(broken: str, asked: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    """However fast it comes; also where just a part of it is asked for."""
    upstream.pages["/file"] = BROKEN[broken]
    address = server.pin(pin, f"{upstream.url}/file")
    try:
        answer = http.get(address, headers={"Range": asked} if asked else {})
    except httpx.RemoteProtocolError:
        pass
    else:
        assert answer.status_code >= 500
    upstream.pages["/file"] = BODY
    assert http.get(address).content == BODY


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "10"}], ids=["chunked", "length"])
def test_an_answer_that_is_only_a_head(headers: dict[str, str], upstream: Upstream, server: Mirror, pin: str) -> None:
    """Nothing has been sent to the client yet: it gets an error that names target and cause."""
    upstream.pages["/file"] = Response([CUT], headers=headers)
    answer = http.get(server.pin(pin, f"{upstream.url}/file"))
    assert answer.status_code == 502
    assert f"{upstream.url}/file" in answer.text


@pytest.mark.parametrize(
    ("status", "passed"),
    [
        (400, 400), (401, 401), (403, 403), (429, 429), (500, 500), (503, 503),
        (204, 502), (206, 502), (304, 502),  # no answers to a plain GET: they must not look like one to a client
    ],
)  # fmt: skip
def test_what_never_freezes(status: int, passed: int, upstream: Upstream, server: Mirror, pin: str) -> None:
    bodiless = status in (204, 304)
    headers = {"Retry-After": "7", "WWW-Authenticate": 'Basic realm="upstream"', "Content-Range": "bytes 0-3/100"}
    upstream.pages["/file"] = Response(b"" if bodiless else b"said", status, headers)
    address = server.pin(pin, f"{upstream.url}/file")
    answer = http.get(address)
    assert answer.status_code == passed
    assert answer.headers["cache-control"] == "no-store"
    if status == passed:
        assert answer.content == b"said"
        assert answer.headers["retry-after"] == "7"
        assert answer.headers["www-authenticate"] == 'Basic realm="upstream"'
    upstream.pages["/file"] = BODY
    assert http.get(address).content == BODY


def test_what_freezes(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/file"] = Response(BODY, 200)
    address = server.pin(pin, f"{upstream.url}/file")
    assert http.get(address).content == BODY
    upstream.stop()
    assert http.get(address).content == BODY


@pytest.mark.parametrize("status", [404, 410])
def test_an_absent_file_is_remembered_for_a_moment_only(
    status: int, upstream: Upstream, mirror: Callable[..., Mirror]
) -> None:
    upstream.pages["/file"] = Response(b"gone", status)
    running = mirror()
    address = running.pin("absent", f"{upstream.url}/file")
    answers = [http.get(address) for _ in range(3)]
    assert [(answer.status_code, answer.content) for answer in answers] == [(status, b"gone")] * 3
    assert upstream.count("/file") == 1
    assert "hit" in answers[2].headers["cache-status"]
    upstream.pages["/file"] = BODY
    running.restart()
    assert http.get(address).content == BODY


# Redirects, representations, queries


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["{url}/b/end", "/b/end", "../b/end", "//{host}/b/end"])
def test_redirects_are_followed(status: int, location: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    host = upstream.url.removeprefix("http://")
    upstream.pages["/a/start"] = redirect(location.format(url=upstream.url, host=host), status)
    upstream.pages["/b/end"] = BODY
    address = server.pin(pin, f"{upstream.url}/a/start")
    assert http.get(address).content == BODY
    upstream.stop()
    assert http.get(address).content == BODY


@pytest.mark.parametrize("location", ["/start", "ftp://127.0.0.1/file", "http://[nonsense", "https://", "file:///etc"])
def test_redirects_that_lead_nowhere(location: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/start"] = redirect(location)
    address = server.pin(pin, f"{upstream.url}/start")
    answer = http.get(address)
    assert answer.status_code == 502
    assert f"{upstream.url}/start" in answer.text
    upstream.pages["/start"] = BODY
    assert http.get(address).content == BODY


def _by_accept(request: Request) -> Response:
    kind = "b" if "application/b" in request.headers["accept"] else "a"
    return Response(kind.encode(), headers={"Vary": "Accept", "Content-Type": f"application/{kind}"})


def test_what_varies_by_accept_is_kept_apart(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/file"] = _by_accept
    address = server.pin(pin, f"{upstream.url}/file")
    for _ in range(2):
        for kind in ("a", "b"):
            answer = http.get(address, headers={"Accept": f"application/{kind}"})
            assert (answer.text, answer.headers["content-type"]) == (kind, f"application/{kind}")
            assert answer.headers["vary"] == "Accept"
    assert upstream.count("/file") == 2
    upstream.stop()
    assert http.get(address, headers={"Accept": "Application/B"}).text == "b"


def test_a_query_is_part_of_the_target(upstream: Upstream, server: Mirror, pin: str) -> None:
    queries = ["", "?v=1", "?v=2", "?v=1&w=", "?w=&v=1", "?a=1+2", "?a=1%2B2", "?a=/&b=?"]
    upstream.otherwise = lambda request: Response(request.target.encode())
    for query in queries * 2:
        assert http.get(server.pin(pin, f"{upstream.url}/file{query}")).text == f"/file{query}"
    assert upstream.count() == len(queries)


# Memory


def _large(megabytes: int) -> Response:
    block = bytes(range(250)) * 4000
    return Response((block for _ in range(megabytes)), headers={"Content-Length": str(megabytes * MEGABYTE)})


def _length(address: str, **headers: str) -> int:
    with http.stream("GET", address, headers=headers) as response:
        return sum(map(len, response.iter_raw()))


def test_memory_does_not_grow_with_the_file(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """Nor with clients that ask for a large file and do not read it, at the first fetch and later."""
    size = 300 * MEGABYTE
    upstream.pages["/warm"], upstream.pages["/large"] = _large(2), _large(300)
    running = mirror()
    for _ in range(2):
        _length(running.pin("memory", f"{upstream.url}/warm"), Range="bytes=1-")
    before = memory(running)
    address = running.pin("memory", f"{upstream.url}/large")
    with ExitStack() as stack:
        next(opened(stack, address).iter_raw())
        assert _length(address) == size
        first = memory(running)
        stack.enter_context(http.stream("GET", address, headers={"Range": "bytes=1-"}))
        assert _length(address, Range="bytes=1-") == size - 1
        later = memory(running)
    assert upstream.count("/large") == 1
    running.stop()
    shutil.rmtree(running.data)
    assert first - before < 60 * MEGABYTE
    assert later - before < 60 * MEGABYTE


# The spool


def test_what_a_dead_process_left_is_removed_at_start(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    upstream.pages["/file"] = BODY
    running = mirror()
    address = running.pin("spool", f"{upstream.url}/file")
    running.stop()
    spool: Path = running.data / "spool"
    for name in ("key.lock", "key.head", "key.0123456789abcdef.part", "other.head.new"):
        (spool / name).write_bytes(b"left")
    running.start()
    assert list(spool.iterdir()) == []
    assert http.get(address).content == BODY
