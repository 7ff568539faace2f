"""A pin holds one moment of an address, whoever asks for it in whatever representation."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.support import http
from tests.support.inside import damage_body
from tests.support.mirror import Mirror
from tests.support.upstream import Request, Response, Upstream

ACCEPTS = {
    "curl": "*/*",
    "Bazel": "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
    "browser": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "JSON": "application/json",
    "JSON and more": "application/json, text/plain;q=0.5",
    "text": "text/*",
}


def moments(vary: str | None, kind: str | None = None) -> Callable[[Request], Response]:
    """Each request sees another body; it is of the type that was asked for first, or always of `kind`."""
    numbers = itertools.count()

    def page(request: Request) -> Response:
        first = request.headers["accept"].partition(",")[0].partition(";")[0]
        named = kind or ("text/html" if "*" in first else first)
        headers = {"Content-Type": named} if named != "none" else {}
        return Response(f"{next(numbers)}".encode(), headers=headers | ({"Vary": vary} if vary else {}))

    return page


@pytest.mark.parametrize(
    ("vary", "kind", "apart"),
    [
        (None, None, set()),
        ("Accept-Encoding", None, set()),
        ("Cookie, User-Agent", None, set()),
        ("Accept", "application/json", {"text"}),
        ("Accept", "text/html", {"JSON", "JSON and more"}),
        ("accept , X", "text/plain; charset=utf-8", {"JSON"}),
        ("Accept", "none", set()),
        ("*", "application/json", {"text"}),
        ("Accept-Encoding, *", "none", set()),
    ],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_who_accepts_what_is_frozen_gets_that(
    backwards: bool, vary: str | None, kind: str | None, apart: set[str], upstream: Upstream, server: Mirror, pin: str
) -> None:
    """The first of those who accept it freezes it; the others (`apart`) freeze one more, and keep that."""
    upstream.pages["/file"] = moments(vary, kind)
    address = server.pin(pin, f"{upstream.url}/file")
    order = [name for name in ACCEPTS if name not in apart] + [name for name in ACCEPTS if name in apart]
    got = {name: http.get(address, headers={"Accept": ACCEPTS[name]}).content for name in order}
    assert {got[name] for name in ACCEPTS if name not in apart} == {b"0"}
    assert b"0" not in {got[name] for name in apart}
    assert upstream.count("/file") == len(set(got.values()))
    upstream.stop()
    for name in reversed(order) if backwards else order:
        again = http.get(address, headers={"Accept": ACCEPTS[name].upper()})
        assert (again.status_code, again.content) == (200, got[name])


def test_there_are_no_more_than_there_are_types(upstream: Upstream, server: Mirror, pin: str) -> None:
    """Who does not accept the first takes the second, before a third is frozen."""
    upstream.pages["/file"] = moments("Accept")
    address = server.pin(pin, f"{upstream.url}/file")
    asked = ["a/a", "b/b", "b/b;q=0.5, a/b", "c/c, b/b;q=0.1", "a/*", "c/c", "d/d, c/c", "e/e", "f/f", "g/g", "h/h"]
    got = [http.get(address, headers={"Accept": accept}).text for accept in asked]
    assert got == ["0", "1", "1", "1", "0", "2", "2", "3", "4", "5", "6"]
    upstream.stop()
    assert [http.get(address, headers={"Accept": accept}).text for accept in asked] == got


def test_who_gets_what_was_not_asked_for_keeps_it(upstream: Upstream, server: Mirror, pin: str) -> None:
    """A server may disregard `Accept` (RFC 9110 section 12.4.1), and say all the same that it varies."""
    upstream.pages["/file"] = moments("Accept", "text/html")
    address = server.pin(pin, f"{upstream.url}/file")
    for _ in range(3):
        assert http.get(address, headers={"Accept": "application/json"}).content == b"0"
        assert http.get(address).content == b"0"
    assert http.get(address, headers={"Accept": "application/xml"}).content == b"1"


@pytest.mark.parametrize("vary", ["Accept", "*"])
def test_all_who_accept_a_download_share_it(vary: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    """Who does not waits for its end and has one more fetched."""
    end = threading.Event()

    def page(request: Request) -> Response:
        kind = "application/json" if upstream.count("/file") == 1 else "text/plain"
        body: list[object] = [b"the ", end, b"first"] if kind == "application/json" else [b"the second"]
        return Response(body, headers={"Vary": vary, "Content-Type": kind})

    upstream.pages["/file"] = page
    address = server.pin(pin, f"{upstream.url}/file")
    with ExitStack() as stack, ThreadPoolExecutor(1) as threads:
        first = stack.enter_context(http.stream("GET", address, headers={"Accept": "application/json"}))
        second = stack.enter_context(http.stream("GET", address, headers={"Accept": "*/*"}))
        other = threads.submit(http.get, address, headers={"Accept": "text/plain"})
        assert "collapsed" in second.headers["cache-status"]
        end.set()
        assert (first.read(), second.read()) == (b"the first", b"the first")
        assert other.result().content == b"the second"
    assert upstream.count("/file") == 2


def test_a_refusal_of_one_representation_is_no_answer_to_who_asks_for_another(
    upstream: Upstream, server: Mirror, pin: str
) -> None:
    end = threading.Event()

    def page(request: Request) -> Response:
        if request.headers["accept"] == "application/json":
            end.wait(30)
            return Response(b"no such form", 406)
        return Response(b"text")

    upstream.pages["/file"] = page
    address = server.pin(pin, f"{upstream.url}/file")
    with ThreadPoolExecutor(2) as threads:
        refused = threads.submit(http.get, address, headers={"Accept": "application/json"})
        upstream.wait("/file")
        other = threads.submit(http.get, address, headers={"Accept": "text/plain"})
        end.set()
        assert refused.result().status_code == 406
        assert other.result().content == b"text"


def test_a_damaged_copy_is_asked_for_as_it_was_at_first(upstream: Upstream, server: Mirror, pin: str) -> None:
    def page(request: Request) -> Response:
        kind = request.headers["accept"]
        return Response(f"{pin} {kind}".encode(), headers={"Vary": "Accept", "Content-Type": "text/plain"})

    upstream.pages["/file"] = page
    address = server.pin(pin, f"{upstream.url}/file")
    first = http.get(address, headers={"Accept": "text/plain"}).content
    damage_body(server.data, first, lambda path: path.write_bytes(b"damaged"))
    assert http.get(address, headers={"Accept": "*/*"}).content == first
