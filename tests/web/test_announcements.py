"""What index pages announce of a file: any page can name any file, so that no page decides alone."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from hashlib import sha256

import pytest

from tests.support import http
from tests.support.command import run
from tests.support.index import PIP, ask, document, html_page, json_file, json_files, json_page
from tests.support.inside import checked_records
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import HTML, JSON, PyPI
from tests.support.upstream import Response, Upstream

THING = wheel("thing", "1.0")
WRONG = "0" * 64
FILE = f"/files/{THING.filename}"
INJECTED = "a\r\nset-cookie: x"


@pytest.fixture
def stranger(upstreams: Callable[..., Upstream]) -> Upstream:
    """Another origin."""
    return upstreams()


def _listing(form: str, url: str, digest: str, size: int | None = None) -> Response:
    if form == "HTML":
        return html_page(f"{url}#sha256={digest}")
    more = {} if size is None else {"size": size}
    return json_page(json_files(json_file(url, hashes={"sha256": digest}, **more)))


@pytest.mark.parametrize("wrong_first", [True, False])
@pytest.mark.parametrize("form", ["HTML", "JSON"])
def test_a_page_of_another_origin_does_not_spoil_a_file(
    form: str, wrong_first: bool, upstream: Upstream, stranger: Upstream, server: Mirror, pin: str
) -> None:
    upstream.pages |= {FILE: THING.data, "/simple/thing/": _listing(form, FILE, THING.sha256)}
    stranger.pages["/simple/thing/"] = _listing(form, upstream.url + FILE, WRONG, 1)
    pages = [f"{stranger.url}/simple/thing/", f"{upstream.url}/simple/thing/"]
    for page in pages if wrong_first else reversed(pages):
        assert ask(server.pin(pin, page)).status_code == 200
    address = server.pin(pin, upstream.url + FILE)
    first = http.get(address)
    assert (first.status_code, first.content) == (200, THING.data)
    assert http.get(f"{address}.metadata").content == THING.metadata
    upstream.stop()
    again = http.get(address)
    assert (again.status_code, again.content) == (200, THING.data)


def test_a_page_that_is_frozen_anew_under_another_name_announces_too(
    upstream: Upstream, server: Mirror, pin: str
) -> None:
    """The same bytes, which vary by `Accept` now: they are another entry of the store."""
    page, file = (server.pin(pin, upstream.url + path) for path in ("/simple/thing/", FILE))
    upstream.pages[FILE] = b"another"
    for headers in ({}, {"Vary": "Accept"}):
        listing = json_files(json_file(FILE, hashes={"sha256": THING.sha256}))
        upstream.pages["/simple/thing/"] = json_page(listing, **headers)
        assert ask(page).status_code == 200
        assert http.get(file).status_code == 502
        assert run("forget", pin, "--yes", "--data", server.data).returncode == 0


def test_the_same_bytes_said_to_be_something_else_are_another_page(
    upstream: Upstream, server: Mirror, pin: str
) -> None:
    packed = gzip.compress(b"<html><a href='/files/thing-1.0.tar.gz'>x</a></html>")
    for number, headers in enumerate(
        ({"Content-Type": "text/html", "Content-Encoding": "gzip"}, {"Content-Type": "application/gzip"})
    ):
        upstream.pages["/simple/thing/"] = Response(packed, headers=headers)
        address = server.pin(f"as{number}-{pin}", f"{upstream.url}/simple/thing/")
        answer = ask(address)
        assert (answer.status_code, b"thing-1.0" in answer.content) == (200, number == 0)


@pytest.mark.parametrize("form", ["HTML", "JSON"])
def test_with_the_wrong_announcement_alone_nothing_is_kept(
    form: str, upstream: Upstream, stranger: Upstream, mirror: Callable[..., Mirror]
) -> None:
    server, pin = mirror(), "one-2024-01-02"
    upstream.pages |= {FILE: THING.data, "/simple/thing/": _listing(form, FILE, THING.sha256)}
    stranger.pages["/simple/thing/"] = _listing(form, upstream.url + FILE, WRONG)
    assert ask(server.pin(pin, f"{stranger.url}/simple/thing/")).status_code == 200
    address = server.pin(pin, upstream.url + FILE)
    for asked in (1, 2):
        refused = http.get(address)
        assert refused.status_code == 502
        assert THING.data not in refused.content
        assert sum(seen.path == FILE and "range" not in seen.headers for seen in upstream.requests) == asked
    assert [record.url for record in checked_records(server.data) if record.url.endswith(".whl")] == []
    assert ask(server.pin(pin, f"{upstream.url}/simple/thing/")).status_code == 200
    assert http.get(address).content == THING.data


def test_bytes_that_no_page_announced(upstream: Upstream, stranger: Upstream, server: Mirror, pin: str) -> None:
    """Several announcements are several right answers, not none."""
    upstream.pages |= {FILE: b"neither", "/simple/thing/": _listing("JSON", FILE, THING.sha256)}
    stranger.pages["/simple/thing/"] = _listing("JSON", upstream.url + FILE, WRONG)
    for origin in (upstream, stranger):
        ask(server.pin(pin, f"{origin.url}/simple/thing/"))
    refused = http.get(server.pin(pin, upstream.url + FILE))
    assert refused.status_code == 502
    assert sha256(b"neither").hexdigest() in refused.text


# A hash that is none


def _hostile(url: str) -> Response:
    bad = {"sha256": INJECTED}
    return json_page(json_files(json_file(url, hashes=bad, **{"core-metadata": bad})))


def _served(server: Mirror, page: str) -> None:
    """The page in every form, the file and its metadata: as live download, from the store, in parts."""
    for accept in (PIP, JSON, HTML, "text/html"):
        shown = ask(page, accept)
        assert shown.status_code == 200
        assert "set-cookie" not in shown.headers
    address = server.same(document(page)["files"][0]["url"])
    for url, content in ((address, THING.data), (f"{address}.metadata", THING.metadata)):
        for more in ({}, {}, {"If-None-Match": '"a"'}):
            answer = http.get(url, headers=more)
            assert (answer.status_code, answer.content) == (200, content)
            assert "set-cookie" not in answer.headers
            assert "\n" not in answer.headers.get("etag", "")
        assert http.head(url).status_code == 200
        part = http.get(url, headers={"Range": "bytes=0-3"})
        assert (part.status_code, part.content) == (206, content[:4])


@pytest.mark.parametrize("steps", [False, True], ids=["length", "chunked"])
def test_a_hash_with_a_line_break_on_a_pinned_page(steps: bool, upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages[FILE] = Response([THING.data]) if steps else THING.data
    upstream.pages["/simple/thing/"] = _hostile(FILE)
    _served(server, server.pin(pin, f"{upstream.url}/simple/thing/"))


def test_a_hash_with_a_line_break_on_a_dated_page(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    pypi.files.pages[FILE] = THING.data
    pypi.index.pages["/simple/thing/"] = _hostile(pypi.files.url + FILE)
    server = mirror(pypi)
    _served(server, server.at("live") + "thing/")
