"""How a frozen file, and what cannot be had, is answered: ranges, validators, headers, methods and errors."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from email.parser import BytesParser
from ipaddress import ip_network
from pathlib import Path

import anyio
import pytest

from httpcache.errors import BadUpstream, MirrorError, TimedOut, Unreachable
from httpcache.settings import Settings
from tests.support import http
from tests.support.inprocess import asking
from tests.support.mirror import Mirror
from tests.support.upstream import Page, Response, Upstream

BODY = bytes(range(100))
MODIFIED = "Tue, 02 Jan 2024 03:04:05 GMT"
ETAG = f'"{hashlib.sha256(BODY).hexdigest()}"'
KEPT = {
    "Content-Type": "application/x-thing; a=b",
    "Content-Disposition": 'attachment; filename="thing.bin"',
    "Content-Language": "de",
    "Content-Encoding": "x-thing",
    "Last-Modified": MODIFIED,
}


@pytest.fixture
def frozen(upstream: Upstream, server: Mirror, pin: str) -> str:
    """The address of a frozen file whose upstream is gone."""
    upstream.pages["/file"] = Response(BODY, headers={"Content-Type": "text/x-thing", "Last-Modified": MODIFIED})
    address = server.pin(pin, f"{upstream.url}/file")
    assert http.get(address).content == BODY
    upstream.stop()
    return address


# RFC 9110 section 14: ranges


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("0-0", 0, 1), ("0-9", 0, 10), ("90-", 90, 100), ("-10", 90, 100), ("-1000", 0, 100), ("95-1000", 95, 100)],
)
def test_one_range(asked: str, start: int, stop: int, frozen: str) -> None:
    answer = http.get(frozen, headers={"Range": f"bytes={asked}"})
    assert (answer.status_code, answer.content) == (206, BODY[start:stop])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/100"
    assert answer.headers["content-length"] == str(stop - start)
    assert answer.headers["etag"] == ETAG


@pytest.mark.parametrize("asked", ["0-0,99-99", "10-19, 30-39,50-", "-1,0-0"])
def test_several_ranges(asked: str, frozen: str) -> None:
    answer = http.get(frozen, headers={"Range": f"bytes={asked}"})
    assert answer.status_code == 206
    kind = answer.headers["content-type"].encode()
    assert kind.startswith(b"multipart/byteranges; boundary=")
    assert "content-range" not in answer.headers
    message = BytesParser().parsebytes(b"Content-Type: " + kind + b"\r\n\r\n" + answer.content)
    for part, spec in zip(message.get_payload(), asked.split(","), strict=True):
        assert part["content-type"] == "text/x-thing"
        start, stop = map(int, re.findall(r"\d+", part["content-range"])[:2])
        assert part["content-range"] == f"bytes {start}-{stop}/100"
        assert http.get(frozen, headers={"Range": f"bytes={spec.strip()}"}).content == BODY[start : stop + 1]
        assert BODY[start : stop + 1] in answer.content


@pytest.mark.parametrize("asked", ["100-", "100-200", "-0"])
def test_no_range_of_the_file(asked: str, frozen: str) -> None:
    answer = http.get(frozen, headers={"Range": f"bytes={asked}"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */100")


@pytest.mark.parametrize(
    "asked", ["lines=0-9", "bytes=9-0", "bytes=x", "bytes=", "0-9", "bytes=-", "bytes=" + ",".join(["0-"] * 200)]
)
def test_a_range_to_ignore(asked: str, frozen: str) -> None:
    answer = http.get(frozen, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, BODY)


def test_a_range_of_a_head_is_ignored(frozen: str) -> None:
    """RFC 9110 section 14.2: "A server MUST ignore a Range header field received with a request method that is
    unrecognized or for which range handling is not defined. For this specification, GET is the only method".
    """
    for asked in ("bytes=0-9", "bytes=1000-"):
        answer = http.head(frozen, headers={"Range": asked})
        assert (answer.status_code, answer.headers["content-length"]) == (200, "100")


# RFC 9110 section 13: validators


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": ETAG}, 304),
        ({"If-None-Match": f'"other", W/{ETAG}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-None-Match": '"other"', "If-Modified-Since": MODIFIED}, 200),
        ({"If-Modified-Since": MODIFIED}, 304),
        ({"If-Modified-Since": "Tue, 02 Jan 2024 03:04:04 GMT"}, 200),
        ({"If-Match": ETAG}, 200),
        ({"If-Match": '"other"'}, 412),
        ({"If-Unmodified-Since": "Tue, 02 Jan 2024 03:04:04 GMT"}, 412),
        ({"Range": "bytes=0-9", "If-Range": ETAG}, 206),
        ({"Range": "bytes=0-9", "If-Range": MODIFIED}, 206),
        ({"Range": "bytes=0-9", "If-Range": '"other"'}, 200),
        ({"Range": "bytes=0-9", "If-Range": f"W/{ETAG}"}, 200),
        ({"Range": "bytes=0-9", "If-None-Match": ETAG}, 304),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions(method: str, headers: dict[str, str], status: int, frozen: str) -> None:
    if method == "HEAD" and status == 206:
        return
    answer = http.request(method, frozen, headers=headers)
    assert answer.status_code == status
    assert answer.content == {200: BODY, 206: BODY[:10], 304: b"", 412: answer.content}[status] * (method == "GET")
    if status in (200, 304):
        assert answer.headers["etag"] == ETAG
        assert "immutable" in answer.headers["cache-control"]
    if status == 304:
        assert "content-length" not in answer.headers


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 01 Jan 0000 00:00:00 GMT", "01 Jan 2024 00:00:00 +9999999999"])
def test_a_condition_that_is_no_date_is_ignored(date: str, frozen: str) -> None:
    """RFC 9110 section 13.1.3: "A recipient MUST ignore ... if the received field value is not a valid HTTP-date"."""
    assert http.get(frozen, headers={"If-Modified-Since": date}).status_code == 200


def test_the_headers_of_a_frozen_file(upstream: Upstream, server: Mirror, pin: str) -> None:
    others = {"Set-Cookie": "a=b", "X-Secret": "c", "ETag": '"theirs"', "Cache-Control": "no-store", "Expires": "0"}
    upstream.pages["/file"] = Response(BODY, headers=KEPT | others)
    address = server.pin(pin, f"{upstream.url}/file")
    with http.stream("GET", address) as first:
        assert b"".join(first.iter_raw()) == BODY
    for _ in range(2):
        with http.stream("GET", address) as answer:
            assert b"".join(answer.iter_raw()) == BODY
        for name, value in KEPT.items():
            assert answer.headers[name] == first.headers[name] == value
        for name in ("set-cookie", "x-secret", "expires"):
            assert name not in answer.headers
            assert name not in first.headers
        assert (
            answer.headers["cache-control"] == first.headers["cache-control"] == "public, max-age=31536000, immutable"
        )
        assert (answer.headers["etag"], answer.headers["accept-ranges"]) == (ETAG, "bytes")
    head = http.head(address)
    assert {name: head.headers[name] for name in (*KEPT, "etag")} == {**KEPT, "etag": ETAG}
    assert head.headers["content-length"] == "100"


def test_a_file_without_a_type_has_one_that_no_browser_runs(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/file"] = BODY
    assert http.get(server.pin(pin, f"{upstream.url}/file")).headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    "begin", [b"<\x89", b"{\x02", b" \n<a \x00", b"\xef\xbb\xbf{\x1f", b"<" + b"text" * 14 + b"\x01", b"PK"]
)
def test_a_file_without_a_type_is_streamed_also_if_it_begins_as_pages_do(
    begin: bytes, upstream: Upstream, server: Mirror, pin: str
) -> None:
    """Index pages are only sent when they are there whole, and binary files are none, whatever they begin with."""
    release = threading.Event()
    upstream.pages["/file"] = Response([begin + BODY, release, BODY], headers={"Content-Length": f"{len(begin) + 200}"})
    with http.stream("GET", server.pin(pin, f"{upstream.url}/file")) as answer:
        chunks = answer.iter_raw()
        assert next(chunks).startswith(begin)
        release.set()
        assert sum(map(len, chunks)) > 0


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_page_without_a_type_is_a_page_in_any_encoding(
    codec: str, upstream: Upstream, server: Mirror, pin: str
) -> None:
    upstream.pages["/simple/thing/"] = Response('<a href="thing-1.zip">thing-1.zip</a>'.encode(codec))
    page = http.get(server.pin(pin, f"{upstream.url}/simple/thing/"), headers={"Accept": "text/html"})
    assert f'"/{pin}/{upstream.url}/simple/thing/thing-1.zip"' in page.text


def test_what_the_mirror_did(upstream: Upstream, server: Mirror, pin: str) -> None:
    """RFC 9211."""
    release = threading.Event()
    upstream.pages["/file"] = Response([BODY, release, BODY])
    address = server.pin(pin, f"{upstream.url}/file")
    with http.stream("GET", address) as first:
        with http.stream("GET", address) as second:
            release.set()
            second.read()
        first.read()
    hit = http.get(address)
    upstream.pages["/broken"] = Response(b"", 500)
    passed = http.get(server.pin(pin, f"{upstream.url}/broken"))
    assert [answer.headers["cache-status"] for answer in (first, second, hit, passed)] == [
        "httpcache; fwd=uri-miss; fwd-status=200; stored",
        "httpcache; fwd=uri-miss; fwd-status=200; stored; collapsed",
        "httpcache; hit",
        "httpcache; fwd=uri-miss; fwd-status=500",
    ]


# Methods


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
@pytest.mark.parametrize("where", ["pin", "date", "/", "/-/health"])
def test_other_methods(method: str, where: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    addresses = {"pin": server.pin(pin, f"{upstream.url}/file"), "date": server.at("2024-01-02") + "thing/"}
    answer = http.request(method, addresses.get(where, server.url + where), content=b"x" if method == "POST" else None)
    assert answer.status_code == 405
    assert set(re.split(r",\s*", answer.headers["allow"])) == {"GET", "HEAD"}
    assert upstream.count() == 0


# What cannot be had


@pytest.fixture
def babbler() -> Iterator[int]:
    """The port of a server that answers everything with something that is no HTTP."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # closed
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 hello, this is mail\r\n" * 3)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize("why", ["refused", "no TLS", "no HTTP"])
def test_an_upstream_that_cannot_be_asked(why: str, upstream: Upstream, server: Mirror, pin: str, babbler: int) -> None:
    """502, and a text with the target and the cause, but without the query's secret."""
    url = {
        "refused": upstream.url,
        "no TLS": upstream.url.replace("http:", "https:"),
        "no HTTP": f"http://127.0.0.1:{babbler}",
    }[why]
    if why == "refused":
        upstream.stop()
    answer = http.get(server.pin(pin, f"{url}/file?token=secret123"))
    assert answer.status_code == 502
    assert f"{url}/file?token=" in answer.text
    assert "secret123" not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_after_an_outage_the_next_request_freezes(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/file"] = BODY
    address = server.pin(pin, f"{upstream.url}/file")
    upstream.stop()
    assert http.get(address).status_code == 502
    upstream.start()
    assert http.get(address).content == BODY


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ("stalls before the head", TimedOut),
        ("stalls in the body", TimedOut),
        ("is cut", BadUpstream),
        ("refuses", Unreachable),
    ],
)
def test_every_failure_is_one_of_ours(steps: str, error: type[MirrorError], upstream: Upstream, tmp_path: Path) -> None:
    """The upstream client by itself, with a patience of a moment."""
    settings = Settings(tmp_path / "data", allow_networks=(ip_network("127.0.0.0/8"),), stall_timeout=0.1)
    release = threading.Event()

    def late(_: object) -> Response:
        release.wait(30)
        return Response(b"late")

    pages: dict[str, Page] = {
        "stalls before the head": late,
        "stalls in the body": Response([b"first", release]),
        "is cut": Response([b"first"], headers={"Content-Length": "100"}),
        "refuses": b"",
    }
    upstream.pages["/file"] = pages[steps]
    if steps == "refuses":
        upstream.stop()

    async def ask() -> None:
        async with asking(settings) as asker, asker.ask(f"{upstream.url}/file") as answer:
            async for _ in answer.body:
                pass

    with pytest.raises(error) as raised:
        anyio.run(ask)
    release.set()
    assert f"{upstream.url}/file" in raised.value.text
    assert raised.value.status == (504 if error is TimedOut else 502)


def test_offline(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """What is frozen is there; what is not is a 504 at once, and nothing is asked."""
    upstream.pages |= {"/file": BODY, "/other": BODY}
    running = mirror()
    address = running.pin("offline", f"{upstream.url}/file")
    http.get(address)
    running.restart("--offline")
    assert http.get(address).content == BODY
    assert http.get(address, headers={"Range": "bytes=-1"}).status_code == 206
    for other in (running.pin("offline", f"{upstream.url}/other"), running.pin("another", f"{upstream.url}/file")):
        answer = http.get(other)
        assert answer.status_code == 504
        assert "offline" in answer.text
    assert upstream.count() == 1
