"""A 200 that is not the thing: sign-in pages, other servers' pages, and logins that go first where they are known."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import http
from tests.support.clients import Clients
from tests.support.index import ask, filenames, html_page
from tests.support.inside import checked_records
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import JSON
from tests.support.upstream import Request, Response, Upstream, redirect

BODY = b"\x1f\x8b archive"
LOGIN = ("robot", "password")
BINARY = {"Content-Type": "application/gzip"}
PAGE = b"<html>sign in" + b"." * 100_000 + b"</html>"
SIGN_IN = Response(PAGE, headers={"Content-Type": "text/html"})
META = '<meta name="pypi:repository-version" content="1.0">'
FILE = "/dl/x-1.0.tar.gz"


def moved(upstream: Upstream) -> Response:
    return redirect("/login")


def moved_away(upstream: Upstream) -> Response:
    return redirect(upstream.url.replace("127.0.0.1", "localhost") + "/login?from=x")


def other_server(upstream: Upstream) -> Response:
    return Response(PAGE, 203, {"Content-Type": "text/html"})


def empty_203(upstream: Upstream) -> Response:
    return Response(b"", 203)


KINDS = [moved, moved_away, other_server, empty_203]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def site(request: pytest.FixtureRequest, upstreams: Callable[..., Upstream]) -> Upstream:
    """A site that shows strangers a page with 200 or 203, and the archive to who logs in."""
    upstream = upstreams()
    basic = "Basic cm9ib3Q6cGFzc3dvcmQ="

    def page(asked: Request) -> Response:
        if asked.headers.get("authorization") in (basic, "Bearer right"):
            return Response(BODY, headers=BINARY)
        return request.param(upstream)  # type: ignore[no-any-return]

    upstream.pages |= {FILE: page, "/login": SIGN_IN}
    return upstream


def test_a_stranger_does_not_poison_the_pin(site: Upstream, server: Mirror, pin: str) -> None:
    """What it gets is passed on whole, and says why it is not kept."""
    address = server.pin(pin, site.url + FILE)
    for _ in range(2):
        shown = http.get(address)
        assert shown.status_code in (200, 203)
        assert shown.content in (PAGE, b"")
        assert "detail=" in shown.headers["cache-status"]
        assert shown.headers["cache-control"] == "no-store"
        assert "etag" not in shown.headers
    assert [record for record in checked_records(server.data) if record.pin == pin] == []
    assert http.get(address, headers={"Authorization": "Bearer right"}).content == BODY
    assert http.get(address, auth=LOGIN).content == BODY
    site.stop()
    for sent in ({"Authorization": "Bearer right"}, {"Authorization": "Basic cm9ib3Q6cGFzc3dvcmQ="}):
        assert http.get(address, headers=sent).content == BODY


def test_basic_is_tried_before_anything_is_frozen(site: Upstream, server: Mirror, pin: str) -> None:
    address = server.pin(pin, site.url + FILE)
    assert http.get(address, auth=LOGIN).content == BODY
    wrong = http.get(address, auth=("robot", "wrong"))
    assert wrong.status_code == 403
    assert http.get(address).status_code == 401


def test_a_wrong_login_freezes_nothing(site: Upstream, server: Mirror, pin: str) -> None:
    address = server.pin(pin, site.url + FILE)
    assert http.get(address, auth=("robot", "wrong")).content in (PAGE, b"")
    assert [record for record in checked_records(server.data) if record.pin == pin] == []


def test_a_range_or_condition_gets_such_a_page_whole(site: Upstream, server: Mirror, pin: str) -> None:
    address = server.pin(pin, site.url + FILE)
    for headers in ({"Range": "bytes=0-3"}, {"If-None-Match": "*"}, {"If-Match": '"x"'}):
        shown = http.get(address, headers=headers)
        assert shown.status_code in (200, 203)
        assert shown.content in (PAGE, b"")
    assert http.head(address).status_code in (200, 203)


@pytest.fixture
def index(upstreams: Callable[..., Upstream]) -> Upstream:
    """A registry whose index leads strangers to a page to sign in."""
    upstream = upstreams()

    def page(asked: Request) -> Response:
        return html_page("/x-1.0.tar.gz") if "authorization" in asked.headers else redirect("/users/sign_in")

    upstream.pages |= {"/simple/x/": page, "/users/sign_in": html_page("/docs/", "/app.css")}
    return upstream


def test_an_index_that_leads_strangers_elsewhere(index: Upstream, server: Mirror, pin: str) -> None:
    """Nothing is frozen for a stranger, and Basic is tried where it is given."""
    address = server.pin(pin, f"{index.url}/simple/x/")
    refused = ask(address)
    assert refused.status_code == 502
    assert "/users/sign_in" in refused.text
    assert len(ask(address, JSON, Authorization="Bearer x").json()["files"]) == 1
    other = server.pin(f"other-{pin}", f"{index.url}/simple/x/")
    assert ask(other, JSON, Authorization="Basic eDp5").status_code == 200
    index.stop()
    assert ask(other, JSON, Authorization="Basic eDp5").status_code == 200


@pytest.mark.parametrize("client", ["pip", "uv"])
@pytest.mark.parametrize("kind", ["redirect", "203"])
def test_installers_whose_login_comes_with_the_index(
    kind: str, client: str, upstream: Upstream, server: Mirror, pin: str, clients: Clients
) -> None:
    """Strangers get a page to sign in for the index and for the wheel."""
    thing = wheel("thing", "1.0")
    basic = "Basic cm9ib3Q6cGFzc3dvcmQ="
    pages = {"/simple/thing/": html_page(f"/{thing.filename}"), f"/{thing.filename}": Response(thing.data)}
    sign_in = redirect("/users/sign_in") if kind == "redirect" else Response(PAGE, 203, {"Content-Type": "text/html"})

    def answer(asked: Request) -> Response:
        return pages[asked.path] if asked.headers.get("authorization") == basic else sign_in

    upstream.pages |= dict.fromkeys(pages, answer) | {"/users/sign_in": SIGN_IN}
    for _ in range(2):
        index = server.pin(pin, f"{upstream.url}/simple/", ":".join(LOGIN))
        assert clients.install(client, index, ["thing"])["thing"].version == "1.0"
    assert upstream.strangers == []


def test_an_empty_index_at_its_place_is_frozen(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages |= {"/simple/X_y/": redirect("/simple/x-y/"), "/simple/x-y/": html_page(head=META)}
    address = server.pin(pin, f"{upstream.url}/simple/X_y/")
    assert ask(address, JSON).json()["files"] == []
    upstream.stop()
    assert ask(address, JSON).status_code == 200


def test_an_error_with_200_is_no_index(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/simple/x/"] = Response(b'{"error": "sign in"}', headers={"Content-Type": "application/json"})
    address = server.pin(pin, f"{upstream.url}/simple/x/")
    assert ask(address).status_code == 502
    upstream.pages["/simple/x/"] = html_page("/x-1.0.tar.gz")
    assert filenames(address) == ["x-1.0.tar.gz"]


@pytest.mark.parametrize("path", ["pin", "registry"])
def test_an_index_that_shows_itself_to_installers_alone(
    path: str, upstream: Upstream, mirror: Callable[..., Mirror], tmp_path: Path
) -> None:
    """devpi tells them by their product, wherever in `User-Agent` it stands; ours stands before it."""

    def page(asked: Request) -> Response:
        agent = asked.headers["user-agent"]
        assert agent.startswith("httpcache/")
        return html_page("/x-1.0.tar.gz") if re.fullmatch(r"([^ ]* )*(pip|setuptools)/.*", agent) else Response(b"web")

    upstream.pages["/simple/x/"] = page
    running: Mirror = mirror(pypi_upstream=f"{upstream.url}/simple/")
    address = running.at("live") + "x/" if path == "registry" else running.pin("p", f"{upstream.url}/simple/x/")
    assert filenames(address) == ["x-1.0.tar.gz"]


@pytest.mark.parametrize("kind", ["less", "error", "page"])
def test_the_login_goes_first_where_it_is_known_whose_it_is(
    kind: str, upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]
) -> None:
    """An anonymous 200 with less in it cannot be told from the whole; so nobody asks for it."""
    upstream = upstreams()
    less = {"less": Response(b"less"), "error": Response(b'{"error": "login"}'), "page": SIGN_IN}[kind]

    def page(request: Request) -> Response:
        return Response(b"all") if "authorization" in request.headers else less

    upstream.pages["/thing"] = page
    running: Mirror = mirror("--bind", f"ours={upstream.url}")
    address = running.pin("ours-2024-01-02", f"{upstream.url}/thing")
    assert http.get(address, auth=LOGIN).content == b"all"
    assert upstream.count("/thing") == 1


def test_pages_and_files_at_their_place_freeze(upstream: Upstream, server: Mirror, pin: str) -> None:
    """What only looks alike: HTML that was asked for, a redirect to a slash (passed on as one), another host's."""
    html = Response(b"<html>page</html>", headers={"Content-Type": "text/html"})
    upstream.pages |= {
        "/a.html": redirect("/b.html"),
        "/b.html": html,
        "/docs.d": redirect("/docs.d/"),
        "/docs.d/": html,
        "/page.tar.gz": html,
        "/x.tar.gz": redirect("/blob"),
        "/blob": BODY,
    }
    for path in ("/a.html", "/docs.d", "/page.tar.gz", "/x.tar.gz"):
        http.get(server.pin(pin, upstream.url + path))
    upstream.stop()
    for path in ("/a.html", "/docs.d", "/page.tar.gz", "/x.tar.gz"):
        assert http.get(server.pin(pin, upstream.url + path)).status_code in (200, 307), path


@pytest.mark.parametrize(
    "directive", ["no-store", "private", "max-age=0, Private", "no-cache, NO-STORE", 'private="x"']
)
def test_no_store_is_frozen_unless_it_is_respected(
    directive: str, upstream: Upstream, server: Mirror, pin: str
) -> None:
    upstream.pages["/file"] = Response(b"first", headers={"Cache-Control": directive})
    address = server.pin(pin, f"{upstream.url}/file")
    assert "immutable" in http.get(address).headers["cache-control"]
    upstream.pages["/file"] = b"second"
    assert http.get(address).content == b"first"


def test_no_store_is_respected(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    running: Mirror = mirror("--respect-no-store")
    for number, directive in enumerate(["no-store", "private", "max-age=0, Private", 'private="x"', "no-cache"]):
        upstream.pages["/file"] = Response(b"first", headers={"Cache-Control": directive})
        address = running.pin(f"pin{number}", f"{upstream.url}/file")
        first = http.get(address)
        assert first.content == b"first"
        upstream.pages["/file"] = b"second"
        page = running.pin(f"page{number}", f"{upstream.url}/simple/x/")
        for versions in (["1.0"], ["1.0", "2.0"]):
            links = [f"/x-{version}.tar.gz" for version in versions]
            upstream.pages["/simple/x/"] = html_page(*links, **{"Cache-Control": directive})
            shown = ask(page, JSON)
            assert shown.json()["files"][0]["url"].startswith(f"/page{number}/{upstream.url}/x-1.0")
        kept = directive == "no-cache"
        assert (len(shown.json()["files"]) == 1) is kept
        assert (shown.headers["cache-control"] == "no-store") is not kept
        assert ("detail=" in first.headers["cache-status"], http.get(address).content == b"first") == (not kept, kept)
