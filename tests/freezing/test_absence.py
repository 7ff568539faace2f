"""What was not there stays so, what is private stays so, and no request of one kind changes what another kind gets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import http
from tests.support.index import BROWSER, PIP, UV, ask, filenames, html_page, instant, json_file, json_files, json_page
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.upstream import NOT_FOUND, Request, Response, Upstream, redirect

BODY = b"\x00private bytes"
BINARY = {"Content-Type": "application/octet-stream"}
SIGN_IN = Response(b"<html>sign in</html>", 200, {"Content-Type": "text/html; charset=utf-8"})
BEARER = {"Authorization": "Bearer alice"}
LINK = "/files/thing-1.0.tar.gz"


# An absence holds


@pytest.mark.parametrize("form", ["HTML", "JSON"])
def test_an_absence_holds_whoever_freezes_the_page_later(
    form: str, upstream: Upstream, server: Mirror, pin: str
) -> None:
    """A name that somebody registers later must not reach a pin by way of a client that accepts anything."""
    address = server.pin(pin, f"{upstream.url}/simple/evil/")
    assert ask(address).status_code == 404
    page = html_page(LINK) if form == "HTML" else json_page(json_files(json_file(LINK)))
    upstream.pages["/simple/evil/"] = page
    for _ in range(2):
        for accept in (PIP, UV, "text/html", "*/*", BROWSER):
            assert ask(address, accept).status_code == 404, accept
            assert http.head(address, headers={"Accept": accept}).status_code == 404, accept
    assert filenames(server.pin(f"other-{pin}", f"{upstream.url}/simple/evil/")) == ["thing-1.0.tar.gz"]


def test_a_page_that_was_frozen_first_is_not_absent(upstream: Upstream, server: Mirror, pin: str) -> None:
    """The other way round: the upstream takes the page away again, and installers get what was frozen."""
    address = server.pin(pin, f"{upstream.url}/simple/thing/")
    upstream.pages["/simple/thing/"] = html_page(LINK)
    assert http.get(address, headers={"Accept": "*/*"}).status_code == 200
    upstream.empty()
    assert filenames(address) == ["thing-1.0.tar.gz"]


# A private copy and an upstream that answers 200 to everybody


def _moved(request: Request) -> Response:
    if request.headers.get("authorization") == BEARER["Authorization"]:
        return Response(BODY, 200, BINARY)
    return redirect("/login")


def _in_place(request: Request) -> Response:
    return SIGN_IN if request.headers.get("authorization") != BEARER["Authorization"] else Response(BODY, 200, BINARY)


@pytest.mark.parametrize("page", [_moved, _in_place], ids=["redirect", "in place"])
def test_a_sign_in_page_gives_no_right_to_a_private_copy(
    page: Callable[[Request], Response], upstream: Upstream, server: Mirror, pin: str
) -> None:
    upstream.pages |= {"/secret": page, "/login": SIGN_IN}
    address = server.pin(pin, f"{upstream.url}/secret")
    mine = http.get(address, headers=BEARER)
    assert (mine.status_code, mine.content) == (200, BODY)
    assert mine.headers["cache-control"].startswith("private")
    others: list[dict[str, str]] = [{}, {"Authorization": "Bearer mallory"}, {"Private-Token": "alice"}]
    for _ in range(2):
        for headers in others:
            for more in ({}, {"Range": "bytes=0-3"}, {"Accept": "text/html"}):
                refused = http.get(address, headers=headers | more)
                assert refused.status_code == (403 if headers else 401)
                assert BODY not in refused.content
                assert "etag" not in refused.headers
    upstream.stop()
    assert http.get(address, headers=BEARER).content == BODY
    assert http.get(address).status_code == 401


def test_who_the_upstream_gives_the_file_to_reads_the_private_copy(
    upstream: Upstream, server: Mirror, pin: str
) -> None:
    """By its place, if strangers do not get it; what everybody gets opens it by the bytes alone."""
    upstream.pages |= {"/secret": _moved, "/login": SIGN_IN}
    address = server.pin(pin, f"{upstream.url}/secret")
    assert http.get(address, headers=BEARER).content == BODY
    assert http.get(address).status_code == 401
    upstream.pages["/secret"] = Response(b"changed", 200, BINARY)
    for headers in ({}, {"Authorization": "Bearer mallory"}):
        assert http.get(address, headers=headers).status_code == (403 if headers else 401)
    bob = "Bearer bob"
    upstream.pages["/secret"] = lambda request: (
        Response(b"changed", 200, BINARY) if request.headers.get("authorization") == bob else redirect("/login")
    )
    assert http.get(address, headers={"Authorization": bob}).content == BODY
    upstream.pages["/secret"] = Response(BODY, 200, BINARY)
    assert http.get(address).content == BODY


# Representations


@pytest.mark.parametrize("varies_first", [True, False])
def test_an_upstream_that_varies_now_and_then(varies_first: bool, upstream: Upstream, server: Mirror, pin: str) -> None:
    def page(request: Request) -> Response:
        accept = request.headers["accept"]
        varies = (accept == "a/a") is varies_first
        return Response(accept.encode() * 1000, 200, {"Content-Type": accept} | ({"Vary": "Accept"} if varies else {}))

    upstream.pages["/file"] = page
    address = server.pin(pin, f"{upstream.url}/file")
    got = {}
    for accept in ("a/a", "b/b"):
        answer = http.get(address, headers={"Accept": accept})
        assert answer.status_code == 200
        assert answer.content in (b"a/a" * 1000, b"b/b" * 1000)
        got[accept] = answer.content
    if varies_first:
        assert got == {"a/a": b"a/a" * 1000, "b/b": b"b/b" * 1000}
    for change in (None, lambda: upstream.pages.update({"/file": b"changed"}), upstream.empty, upstream.stop):
        if change:
            change()
        for accept, content in got.items():
            again = http.get(address, headers={"Accept": accept})
            assert (again.status_code, again.content) == (200, content)


# A project that is gone


def _failing(pypi: PyPI, times: int) -> Callable[[Request], Response]:
    """Answers 404 so many times, then what is there."""
    left = [NOT_FOUND] * times

    def page(request: Request) -> Response:
        return left.pop() if left else pypi.index.otherwise(request)

    return page


@pytest.mark.parametrize("times", [1, 2])
def test_one_404_does_not_end_a_project_and_two_do(times: int, pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    """Gone is gone at that time for ever, also when it is back."""
    thing = wheel("thing", "1.0")
    pypi.upload(thing, "2024-01-01T00:00:00Z")
    server = mirror(pypi)
    live = server.at("live") + "thing/"
    assert filenames(live) == [thing.filename]
    before, asked = instant(), pypi.index.count("/simple/thing/")
    pypi.index.pages["/simple/thing/"] = _failing(pypi, times)
    assert ask(live).status_code == (200 if times == 1 else 404)
    assert pypi.index.count("/simple/thing/") == asked + 2
    after = instant()
    assert filenames(live) == [thing.filename]
    assert filenames(server.at(before) + "thing/") == [thing.filename]
    assert filenames(server.at(after) + "thing/") == ([thing.filename] if times == 1 else [])
