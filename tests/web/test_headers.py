"""Headers that clients need: `Link` led through the pin, those that an operator has kept, CORS for web pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpcache.fields import MAX_LINKS, absolute_links, map_links, why_not
from tests.support import http
from tests.support.command import run
from tests.support.mirror import Mirror, free_port
from tests.support.upstream import Request, Response, Upstream, redirect

BASE = "https://h/api/list?page=1"

# Links, as rules: what an upstream sends at BASE, and what is kept of it

LINKS = [
    ('<https://h/api/list?page=2>; rel="next"', '<https://h/api/list?page=2>; rel="next"'),
    ("<?page=2>; rel=next", "<https://h/api/list?page=2>; rel=next"),
    ("<list?page=2>;rel=next", "<https://h/api/list?page=2>;rel=next"),
    ('</v2/_catalog?last=a%2Fb&n=1>; rel="next"', '<https://h/v2/_catalog?last=a%2Fb&n=1>; rel="next"'),
    ("<//other/x>; rel=next", "<https://other/x>; rel=next"),
    ("<>; rel=self", f"<{BASE}>; rel=self"),
    (
        "<a>; rel=next, <b>; rel=last , <c>;rel=first",
        "<https://h/api/a>; rel=next, <https://h/api/b>; rel=last, <https://h/api/c>;rel=first",
    ),
    ('<a>; title="b, <c>; d"; rel=next, <e>', '<https://h/api/a>; title="b, <c>; d"; rel=next, <https://h/api/e>'),
    (r'<a>; title="say \"hi\", all"; rel=next', r'<https://h/api/a>; title="say \"hi\", all"; rel=next'),
    (
        "<a>; title*=UTF-8''x%20y; results=true; rel=\"next last\"",
        "<https://h/api/a>; title*=UTF-8''x%20y; results=true; rel=\"next last\"",
    ),
    ("<a,b>; rel=next", "<https://h/api/a,b>; rel=next"),
    ("<a;b>; rel=next", "<https://h/api/a;b>; rel=next"),
    (", ,<a>; rel=next,,", "<https://h/api/a>; rel=next"),
    ("<a>", "<https://h/api/a>"),
    ("< a >; rel=next", "<https://h/api/a>; rel=next"),
    ("<a>; rel", "<https://h/api/a>; rel"),
    ("<%7Ea+b%2B[c]|>; rel=next", "<https://h/api/%7Ea+b%2B[c]|>; rel=next"),
    ("<a b>; rel=next", "<https://h/api/a%20b>; rel=next"),
    ("<../../../x#f>; rel=next", "<https://h/x>; rel=next"),
    ("<\u00c3\u00a9>; rel=next", "<https://h/api/%C3%A9>; rel=next"),
    ("", ""),
    ("a; rel=next", ""),
    ("<a; rel=next", ""),
    ("<mailto:a@b>; rel=author", ""),
    ("<javascript:x>; rel=next", ""),
    ("<https://user:pw@h/x>; rel=next", ""),
    ("<http:///x>; rel=next", ""),
    ("<a>; rel=next\x00", ""),
    ("<a> rel=next, <b>", "<https://h/api/b>"),
    ('<a>; rel="next, <b>', "<https://h/api/b>"),
    ('<a>; rel=nex"t, <b>; rel=last', "<https://h/api/b>; rel=last"),
    ("<x.css>; rel=stylesheet, <b>; rel=next", "<https://h/api/b>; rel=next"),
    ('<x>; rel="next PRELOAD"; as=script', ""),
    ("<https://h>; rel=preconnect", ""),
    ("<//h>; REL=dns-prefetch", ""),
]


@pytest.mark.parametrize(("sent", "kept"), LINKS)
def test_links(sent: str, kept: str) -> None:
    assert absolute_links(sent, BASE) == kept
    assert absolute_links(kept, "https://elsewhere/") == kept


def test_so_many_links_that_the_head_would_grow_without_bound() -> None:
    kept = absolute_links(",".join(["<a>"] * 10_000), BASE)
    assert kept.count("<") == MAX_LINKS


@given(st.text('<>;,"\\=ar el/:?\t\xe9\x00*', max_size=40) | st.text(max_size=20))
def test_every_link_that_is_kept_stays_in_the_pin(sent: str) -> None:
    led = map_links(absolute_links(sent, BASE), lambda url: "/pin/" + url)
    assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", led)
    targets: list[str] = []
    map_links(led, lambda url: targets.append(url))
    assert len(targets) <= MAX_LINKS
    for target in targets:
        assert re.fullmatch(r"/pin/https?://[!-~]+", target)


# Links, over the wire


def pages(upstream: Upstream, count: int = 4, **headers: str) -> None:
    """An API that gives a list in pages, and names the next one relative to where it has been redirected."""

    def page(request: Request) -> Response:
        number = int(request.target.partition("page=")[2] or 1)
        links = ['<https://elsewhere.invalid/docs>; rel="help"', '<?page=1>; rel="first"']
        if number < count:
            links.insert(0, f'<?page={number + 1}>; rel="next"; title="the next one"')
        return Response(str(number).encode(), headers={"Link": ", ".join(links), **headers})

    upstream.otherwise = page


def walk(address: str, server: Mirror, **headers: str) -> list[tuple[str, str, str]]:
    """Follow `next` as a client does: body, cache status and the targets of each page."""
    found = []
    while True:
        got = http.get(address, headers=headers)
        targets = [link["url"] for link in got.links.values()]
        found.append((got.text, got.headers["cache-status"].split(";")[1].strip(), " ".join(targets)))
        if "next" not in got.links:
            return found
        address = server.same(got.links["next"]["url"])


@pytest.mark.parametrize("raw", ["", "raw/"])
def test_a_list_in_pages(raw: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    pages(upstream)
    upstream.pages["/start"] = redirect("/api/list")
    address = f"{server.url}/{pin}/{raw}{upstream.url}/start"
    first = walk(address, server)
    assert [body for body, _, _ in first] == ["1", "2", "3", "4"]
    upstream.stop()
    again = walk(address, server)
    assert [status for _, status, _ in again] == ["hit"] * 4
    assert [(body, targets) for body, _, targets in again] == [(body, targets) for body, _, targets in first]
    beginning = f"/{pin}/{raw}"
    assert again[0][2] == " ".join([
        f"{beginning}{upstream.url}/api/list?page=2",
        f"{beginning}https://elsewhere.invalid/docs",
        f"{beginning}{upstream.url}/api/list?page=1",
    ])  # fmt: skip


def test_an_answer_that_is_passed_on_has_its_links(upstream: Upstream, server: Mirror, pin: str) -> None:
    headers = {"Link": '</docs>; rel="help"', "X-Repo-Commit": "abc"}
    upstream.pages["/x"] = Response(b"gone", 410, headers)
    got = http.get(server.pin(pin, f"{upstream.url}/x"))
    assert got.status_code == 410
    assert got.headers["link"] == f'</{pin}/{upstream.url}/docs>; rel="help"'
    assert "x-repo-commit" not in got.headers


# What an operator has kept

NEVER = [
    "Set-Cookie", "set-cookie2", "Cookie", "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "TE",
    "Trailer", "Transfer-Encoding", "Upgrade", "Authorization", "WWW-Authenticate", "Authentication-Info",
    "X-Api-Key", "Private-Token", "X-Auth-Token", "X-Csrf-Token", "Content-Length", "Content-Range", "Accept-Ranges",
    "ETag", "Cache-Control", "CDN-Cache-Control", "Age", "Date", "Expires", "Vary", "Location", "Cache-Status",
    "Server", "Via", "Content-Security-Policy", "Content-Security-Policy-Report-Only", "X-Content-Type-Options",
    "Referrer-Policy", "Access-Control-Allow-Origin", "Cross-Origin-Opener-Policy", "Clear-Site-Data",
    "Strict-Transport-Security", "Alt-Svc", "Refresh", "NEL", "Report-To", "X-Accel-Redirect", "X-Accel-Buffering",
    "X-Sendfile", "Surrogate-Control", "Link", "Content-Type", "no name", "", "a:b", "x\r\ny",
]  # fmt: skip


@pytest.mark.parametrize("name", NEVER)
def test_names_that_are_never_kept(name: str) -> None:
    assert why_not(name.lower()) or name == "X-Api-Key"  # which is a setting


@pytest.mark.parametrize("name", ["X-Repo-Commit,Transfer-Encoding", "X-Api-Key"])
def test_a_name_that_is_never_kept_stops_the_start(name: str, tmp_path: Path) -> None:
    ran = run("serve", "--port", f"{free_port()}", "--data", tmp_path / "d", "--keep-header", name)
    assert ran.returncode in (1, 2)
    last = ran.stderr.splitlines()[-1].lower()
    assert "--keep-header" in last
    assert name.split(",")[-1].lower() in last
    assert "kept" in last


@pytest.mark.parametrize(
    "name", ["X-Repo-Commit", "X-Linked-Etag", "X-Linked-Size", "Repr-Digest", "X-Checksum-Sha256", "X-Total-Count"]
)
def test_names_that_can_be_kept(name: str) -> None:
    assert why_not(name.lower()) is None


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    """A mirror under a root path, with kept headers and CORS."""
    options = ["--keep-header", "X-Repo-Commit, x-linked-etag", "--keep-header", "X-Linked-Size", "--cors"]
    with_all = Mirror(tmp_path_factory.mktemp("served"), arguments=[*options, "--root-path", "/mirror"])
    yield with_all.start()
    with_all.stop()


def at(served: Mirror, pin: str, url: str) -> str:
    return f"{served.url}/mirror/{pin}/{url}"


def test_a_model_hub(upstream: Upstream, served: Mirror, pin: str) -> None:
    """What huggingface_hub asks: HEAD of the file, whose redirect says what it is, then GET; then all of it again."""
    hub = {"X-Repo-Commit": "c0ffee", "X-Linked-Etag": '"feed"', "X-Linked-Size": "7", "Set-Cookie": "a=b"}
    place = "/cdn/feed?Signature=a%2Fb%3D&x=~"
    upstream.pages["/org/model/resolve/main/config.json"] = Response(b"{}", headers=hub | {"ETag": '"cafe"'})
    upstream.pages["/org/model/resolve/main/weights"] = Response(b"", 302, hub | {"Location": place})
    upstream.pages[place] = Response(b"weights", headers={"X-Linked-Size": "07", "X-Other": "1"})
    upstream.pages["/api/models/org/model/tree"] = Response(b"[]", headers={"Link": '<?cursor=x>; rel="next"'})
    for _ in range(2):
        for path, size in (("config.json", "7"), ("weights", "07")):
            address = at(served, pin, f"{upstream.url}/org/model/resolve/main/{path}")
            for got in (http.head(address), http.get(address)):
                assert got.status_code == 200
                assert got.headers["x-repo-commit"] == "c0ffee"
                assert got.headers["x-linked-etag"] == '"feed"'
                assert got.headers["x-linked-size"] == size  # the last answer's own
                assert not {"set-cookie", "x-other"} & set(got.headers)
        listed = http.get(at(served, pin, f"{upstream.url}/api/models/org/model/tree"))
        next_page = f"/mirror/{pin}/{upstream.url}/api/models/org/model/tree?cursor=x"
        assert listed.links["next"]["url"] == next_page
        upstream.stop()


# CORS

ORIGIN = {"Origin": "https://app.example"}
EXPOSED = {"etag", "content-length", "content-range", "accept-ranges", "link", "cache-status", "x-repo-commit"}


def readable(got: httpx.Response) -> bool:
    """Whether a browser lets a page of another origin read it, after checking that no credentials are allowed."""
    assert "access-control-allow-credentials" not in got.headers
    if "access-control-allow-origin" not in got.headers:
        return False
    assert got.headers.get_list("access-control-allow-origin") == ["*"]
    exposed = got.headers["access-control-expose-headers"].lower().split(", ")
    assert set(exposed) >= EXPOSED
    return True


def test_off_by_default(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/x"] = b"here"
    address = server.pin(pin, f"{upstream.url}/x")
    assert not readable(http.get(address, headers=ORIGIN))
    ask = {**ORIGIN, "Access-Control-Request-Method": "GET"}
    assert http.request("OPTIONS", address, headers=ask).status_code == 405


def test_what_is_public_is_read_by_any_page(upstream: Upstream, served: Mirror, pin: str) -> None:
    upstream.pages["/x"] = Response(b"0123456789", headers={"Access-Control-Allow-Origin": "https://other.example"})
    address = at(served, pin, f"{upstream.url}/x")
    answers = [
        http.get(address, headers=ORIGIN | more) for more in ({}, {}, {"Range": "bytes=0-3"}, {"Range": "bytes=99-"})
    ]
    answers.append(http.get(address, headers={**ORIGIN, "If-None-Match": answers[1].headers["etag"]}))
    answers.append(http.head(address, headers=ORIGIN))
    assert [got.status_code for got in answers] == [200, 200, 206, 416, 304, 200]
    assert all(map(readable, answers))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/mirror/", 200),
        ("/mirror/-/health", 200),
        ("/mirror/p/nothing", 400),
        ("/mirror/p/http://169.254.169.254/", 403),
        ("/mirror/p/{url}/missing", 404),
        ("/mirror/p/http://127.0.0.1:1/", 502),
    ],
)
def test_the_mirrors_own_answers_and_errors(path: str, status: int, upstream: Upstream, served: Mirror) -> None:
    got = http.get(served.url + path.replace("{url}", upstream.url), headers=ORIGIN)
    assert got.status_code == status
    assert readable(got) == (path != "/mirror/")  # pages for people are for no other site


def test_what_a_browser_asks_before(served: Mirror, upstream: Upstream, pin: str) -> None:
    """Ranges and conditions are allowed, headers that carry credentials are not."""
    address = at(served, pin, f"{upstream.url}/x")
    for wanted in ("range", "authorization", "private-token"):
        ask = {**ORIGIN, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": wanted}
        got = http.request("OPTIONS", address, headers=ask)
        assert got.status_code == 204
        assert got.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in got.headers
        assert "access-control-allow-private-network" not in got.headers
        assert got.headers["access-control-allow-methods"] == "GET, HEAD"
        allowed = {name.strip().lower() for name in got.headers["access-control-allow-headers"].split(",")}
        assert (wanted in allowed) is (wanted == "range")
        assert "*" not in allowed
    assert http.request("OPTIONS", address, headers=ORIGIN).status_code == 405  # no question of a browser
    assert upstream.requests == []


def test_what_is_private_is_read_by_no_page(upstreams: Callable[..., Upstream], served: Mirror, pin: str) -> None:
    """Neither the answer to a request with credentials, nor a private copy: a browser could have it in its cache."""
    upstream: Upstream = upstreams(auth=("user", "pw"))
    upstream.pages["/x"] = b"secret"
    address = at(served, pin, f"{upstream.url}/x")
    for _ in range(2):
        got = httpx.get(address, headers=ORIGIN, auth=("user", "pw"), trust_env=False)
        assert (got.content, readable(got)) == (b"secret", False)
    refused = http.get(address, headers=ORIGIN)
    assert refused.status_code == 401
    assert b"secret" not in refused.content
