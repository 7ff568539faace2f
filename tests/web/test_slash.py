"""A directory asked for without its slash: the client is redirected, so that relative links mean what they did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import http
from tests.support.clients import Clients
from tests.support.index import html_page
from tests.support.mirror import Mirror
from tests.support.upstream import Request, Response, Upstream, redirect

LISTING = html_page("sub", "readme.txt")


@pytest.mark.parametrize("before", ["", "raw/"])
@pytest.mark.parametrize(
    ("asked", "leads", "location"),
    [
        ("/dir", "/dir/", "/dir/"),
        ("/a+b%20c", "/a+b%20c/", "/a+b%20c/"),
        ("/a%2Bb", "/a+b/", "/a%2Bb/"),  # the spelling of the client
        ("/dir?a=b%2F", "/dir/?a=b%2F", "/dir/?a=b%2F"),
        ("/dir?a=b", "/dir/", "/dir/?a=b"),
        ("/dir", "/dir/index.html", None),
        ("/dir", "/other/", None),
        ("/dir/", "/dir/x/", None),
        ("/dir", "http://{host}/dir/", "/dir/"),
        ("/dir", "http://localhost:{port}/dir/", None),
    ],
)
def test_where_it_leads(
    asked: str, leads: str, location: str | None, before: str, upstream: Upstream, server: Mirror, pin: str
) -> None:
    to = leads.format(host=f"127.0.0.1:{upstream.port}", port=upstream.port)
    upstream.otherwise = lambda request: LISTING if request.target != asked else redirect(to, 301)
    for _ in range(2):
        answer = http.get(server.pin(pin, f"{before}{upstream.url}{asked}"))
        if location:
            assert (answer.status_code, answer.headers["location"]) == (307, f"/{pin}/{before}{upstream.url}{location}")
        else:
            assert (answer.status_code, answer.content) == (200, LISTING.body)


def test_a_root_path(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    upstream.pages |= {"/dir": redirect("/dir/"), "/dir/": LISTING}
    answer = http.get(f"{mirror('--root-path', '/prefix').url}/prefix/pin/{upstream.url}/dir")
    assert answer.headers["location"] == f"/prefix/pin/{upstream.url}/dir/"


def test_what_has_no_links_is_served_where_it_was_asked_for(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages |= {"/api": redirect("/api/"), "/api/": Response(b"{}", 200, {"Content-Type": "application/json"})}
    assert http.get(server.pin(pin, f"{upstream.url}/api")).content == b"{}"


@pytest.mark.parametrize("before", ["", "raw/"])
def test_wget_r(before: str, upstream: Upstream, server: Mirror, pin: str, clients: Clients, tmp_path: Path) -> None:
    """It gets a tree of plain listings whole, also where these link directories without a slash."""
    tree = {"/dir/": LISTING, "/dir/sub/": html_page("deep.txt", "../readme.txt")}
    tree |= {"/dir/readme.txt": Response(b"read"), "/dir/sub/deep.txt": Response(b"deep")}

    def page(request: Request) -> Response:
        found = tree.get(request.path)
        return found or (redirect(f"{request.path}/") if f"{request.path}/" in tree else Response(b"", 404))

    upstream.otherwise = page
    address = server.pin(pin, f"{before}{upstream.url}/dir")
    for place in (tmp_path / "first", tmp_path / "again"):
        place.mkdir()
        clients.wget("-r", "-nH", "-e", "robots=off", address, cwd=place).checked()
        upstream.stop()
        found = {path.name: path.read_bytes() for path in place.rglob("*.txt")}
        assert found == {"readme.txt": b"read", "deep.txt": b"deep"}
