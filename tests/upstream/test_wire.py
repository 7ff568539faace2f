"""What goes over the wire is spelled as the client, the page or the `Location` spelled it; keys are of the one form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpcache.errors import BadAddress
from httpcache.target import parse_target, read_url, resolve
from tests.support import http
from tests.support.clients import Clients, pins
from tests.support.index import ask, document, html_page, json_file, json_files, json_page
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.rawupstream import End, RawUpstream, answer
from tests.support.registries import PyPI
from tests.support.upstream import Request, Response, Upstream, redirect

BODY = b"here"


@pytest.fixture
def raw() -> Iterator[RawUpstream]:
    """An origin that takes targets byte by byte."""
    with RawUpstream() as found:
        yield found


# Redirects

SIGNED = [
    "/f?X-Amz-Credential=AKIA%2F20240102%2Feu&X-Amz-Signature=ab%3D%3D", "/f?sig=a%2fb%2Bc%3d&se=2024-01-02T00%3A00Z",
    "/me%40host/f", "/a@b", "/a+b", "/a%2Bb", "/a%2bb", "/%7Euser/f", "/~user/f", "/f?k=%7E", "/a[1]/f?x[]=1",
    "/a|b?c|d",
    "/f?a=b%3D", "/f?a=%28x%29", "/a%21b!c", "/a%27b'c", "/a;b%3Bc", "/a,b%2Cc", "/a=b%3Dc", "/a:b%3Ac", "/a%2Fb",
    "/a//b", "/b//", "/f?", "/f?a&b=&=c", "/f?a=%E2%82%AC", "/%c3%a9", "/%41", "/f?%41", "/a{b}?{c}", '/a"b?"c',
    "/a^b`c<d>", "/100%", "/f?100%", "/%00", "/f?u=https://h/%2F?x",
]  # fmt: skip


@pytest.mark.parametrize("place", SIGNED)
@pytest.mark.parametrize("form", ["path", "whole"])
def test_a_location_is_asked_for_as_it_is_spelled(
    form: str, place: str, raw: RawUpstream, server: Mirror, pin: str
) -> None:
    before = {"path": "", "whole": raw.url}[form]
    raw.play("/start", [answer(b"", f"Location: {before}{place}", status="302 Found"), End.KEEP])
    raw.honest(place, BODY)
    assert http.get(server.pin(pin, f"{raw.url}/start")).content == BODY
    assert [request.target for request in raw.requests] == ["/start", place]


@pytest.mark.parametrize(
    ("location", "leads"),
    [
        ("x%2By", "/dir/x%2By"), ("./x+y", "/dir/x+y"), ("../%7Ex", "/%7Ex"), ("?q=%2b", "/dir/start?q=%2b"),
        ("/a/../%7Eb#frag", "/%7Eb"), ("/a b?c d", "/a%20b?c%20d"), ("/\u00e9?\u00e9", "/%C3%A9?%C3%A9"),
        ("//{host}/%7Ex", "/%7Ex"), ("HTTP://{host}/%7Ex", "/%7Ex"), ("/a\\b", "/a%5Cb"),
        ("/%0d%0aX:1", "/%0d%0aX:1"), ("/a%20b", "/a%20b"),
    ],
)  # fmt: skip
def test_only_what_http_demands_is_changed(
    location: str, leads: str, raw: RawUpstream, server: Mirror, pin: str
) -> None:
    place = b"Location: " + location.replace("{host}", f"127.0.0.1:{raw.port}").encode()
    raw.play("/dir/start", [answer(b"", place, status="302 Found"), End.KEEP])
    raw.honest(leads, BODY)
    assert http.get(server.pin(pin, f"{raw.url}/dir/start")).content == BODY
    assert raw.requests[-1].target == leads


@pytest.mark.parametrize(
    ("asked", "own"),
    [("/a+b", "/a%2Bb"), ("/a%2Bb", "/a+b"), ("/a%2bb", "/a%2Bb"), ("/%7Ea", "/~a"), ("/a|b", "/a%7Cb"),
     ("/a?x[]", "/a?x%5B%5D")],
)  # fmt: skip
def test_a_server_that_redirects_to_its_own_spelling(
    asked: str, own: str, raw: RawUpstream, server: Mirror, pin: str
) -> None:
    raw.play(asked, [answer(b"", f"Location: {own}", status="301 Moved"), End.KEEP])
    raw.honest(own, BODY)
    for spelling in (asked, own):
        assert http.get(server.pin(pin, raw.url) + spelling).content == BODY
    assert [request.target for request in raw.requests] == [asked, own]


def test_two_spellings_in_a_circle(raw: RawUpstream, server: Mirror, pin: str) -> None:
    for here, there in (("/a+b", "/a%2Bb"), ("/a%2Bb", "/a%2bb"), ("/a%2bb", "/a+b")):
        raw.play(here, [answer(b"", f"Location: {there}", status="302 Found"), End.KEEP])
    got = http.get(server.pin(pin, f"{raw.url}/a+b"))
    assert got.status_code == 502
    assert "redirects in a loop" in got.text
    assert len(raw.requests) == 3


# Links on pages: pip and uv quote them their own way, and the upstream's own spelling is asked for

SPELLINGS = [
    "/f+g/",
    "/f%2Bg/",
    "/f%2bg/",
    "/(f)!/",
    "/%28f%29%21/",
    "/~f/",
    "/%7ef/",
    "/a=b;c/",
    "/a%3Db%3Bc/",
    "/a@b/",
]
QUERIES = ["", "?sig=a%2Fb%3D%2B+", "?x[]=%5b"]


@pytest.mark.parametrize("client", ["pip", "uv"])
@pytest.mark.parametrize("form", ["html", "json"])
def test_a_page_leads_to_its_own_spelling(
    form: str, client: str, upstream: Upstream, server: Mirror, pin: str, clients: Clients
) -> None:
    """The host knows each file by that spelling alone: a project for each, all installed at once."""
    dists = [wheel(f"thing{number}", "1.0+cu1") for number in range(len(SPELLINGS))]
    for number, (dist, folder) in enumerate(zip(dists, SPELLINGS, strict=True)):
        name = dist.filename.replace("+", ["+", "%2B", "%2b"][number % 3])
        link = f"{folder}{name}{QUERIES[number % 3]}"
        upstream.pages[link] = dist.data
        url = f"{upstream.url}{link}"
        listed = json_page(json_files({**json_file(url), "filename": dist.filename}))
        upstream.pages[f"/simple/{dist.name}/"] = listed if form == "json" else html_page(url.replace("&", "&amp;"))
    found = clients.install(client, server.pin(pin, f"{upstream.url}/simple/"), [dist.name for dist in dists])
    assert found == pins(*dists)
    asked = {request.target for request in upstream.requests if not request.target.startswith("/simple/")}
    known = {link.replace(".whl", ".whl.metadata") for link in upstream.pages} | set(upstream.pages)
    assert asked <= known


def test_the_dated_index_asks_for_the_spelling_of_the_page(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    """And its pages for that of the operator."""
    folder = "/a%40b/c+d/simple"
    places = {"s": "/f+g/s-1.0+a-py3-none-any.whl", "t": "/f%2bg/t-1.0%2ba-py3-none-any.whl?s=%7E[]"}
    for name, place in places.items():
        dist = wheel(name, "1.0+a")
        listed = {**json_file(pypi.files.url + place, hashes={"sha256": dist.sha256}), "filename": dist.filename}
        pypi.index.pages[f"{folder}/{name}/"] = json_page(json_files(listed))
        pypi.files.pages[place] = dist.data
    running: Mirror = mirror(pypi_upstream=f"{pypi.index.url}{folder}/")
    for name in places:
        (file,) = document(running.at("live") + f"{name}/")["files"]
        assert http.get(running.same(file["url"])).content == wheel(name, "1.0+a").data
    assert [request.target for request in pypi.files.requests] == list(places.values())


def test_links_are_relative_to_the_spelling_of_the_page(upstream: Upstream, server: Mirror, pin: str) -> None:
    """Also behind a redirect."""
    upstream.pages["/start/t/"] = redirect("/r%7E+x/t/")
    upstream.pages["/r%7E+x/t/"] = html_page("t-1.tar.gz")
    upstream.pages["/r%7E+x/t/t-1.tar.gz"] = BODY
    page = ask(server.pin(pin, f"{upstream.url}/start/t/"))
    (link,) = re.findall(r'href="([^"]+)"', page.text) or [file["url"] for file in page.json()["files"]]
    assert http.get(server.same(link)).content == BODY


# What a host gets to see of an address that is wrong or hostile


@pytest.mark.parametrize(
    "rest",
    ["/a%0d%0aX-Evil: 1", "/a\tb", "/a\x7fb", "/a\\..\\b", "/a?b\\c", "/%2e%2e/%2E%2e/b",
     "/a/%2e./b", "/a%00b", "/a?b%0d%0ac"],
)  # fmt: skip
def test_nothing_is_smuggled_by_a_location(
    rest: str, raw: RawUpstream, upstream: Upstream, server: Mirror, pin: str
) -> None:
    """A request line has three parts, whatever a `Location` has in it."""
    targets: list[str] = []

    def note(request: Request) -> Response:
        targets.append(request.target)
        return Response(BODY)

    upstream.otherwise = note
    raw.play("/start", [answer(b"", f"Location: {upstream.url}{rest}", status="302 Found"), End.KEEP])
    got = http.get(server.pin(pin, f"{raw.url}/start"))
    assert got.status_code in (200, 502)
    for target in targets:
        assert re.fullmatch(r"/[!-~]*", target)
        assert not {".", ".."} & set(map(unquote, target.partition("?")[0].split("/")))
    assert all("x-evil" not in request.headers for request in upstream.requests)


@pytest.mark.parametrize(
    "location",
    ["http:///x", "http:/x", "///x", "http:x", "https://", "ftp://h/x", "file:///etc/passwd",
     "javascript:1", "http://h\\@127.0.0.1/", "http://h:99999/", "http://[::1", "http://a b/"],
)  # fmt: skip
def test_where_a_location_must_not_lead(location: str, raw: RawUpstream, server: Mirror, pin: str) -> None:
    raw.play("/start", [answer(b"", f"Location: {location}", status="302 Found"), End.KEEP])
    got = http.get(server.pin(pin, f"{raw.url}/start"))
    assert got.status_code == 502
    assert "cannot be followed" in got.text
    assert "pw" not in got.text
    assert len(raw.requests) == 1


# The rules

texts = st.text(st.characters(codec="utf-8", exclude_characters="?#"), max_size=12)
anything = st.text(st.characters(exclude_categories=()), max_size=12)
SENT = re.compile(r"https?://[^/?#\\@\s]+/[!-~]*")


def same_place(one: str, other: str) -> bool:
    return parse_target(f"/p/{one}") == parse_target(f"/p/{other}")


@given(st.lists(texts, max_size=4), st.data())
def test_the_key_is_the_same_for_all_spellings(parts: list[str], data: st.DataObject) -> None:
    def spelled(part: str) -> str:
        ways: list[Callable[[str], str]] = [
            str,
            lambda c: "".join(f"%{b:02x}" for b in c.encode()),
            lambda c: quote(c, safe=""),
        ]
        pick = st.sampled_from(ways)
        return "".join(data.draw(pick)(char) if char not in "/%" else quote(char, safe="") for char in part)

    plain = "https://h/" + "/".join(quote(part, safe="") for part in parts)
    other = "https://h/" + "/".join(map(spelled, parts))
    assert same_place(plain, other)


@given(st.sampled_from(["https://h", "http://H:80", "https:/h", "https%3A/h"]), anything, anything)
def test_the_wire_is_what_was_given_but_for_what_http_demands(server: str, path: str, query: str) -> None:
    try:
        target = parse_target(f"/p/{server}/{path}", query)
    except BadAddress:
        return
    except UnicodeEncodeError:  # no text that a request can be read as
        return
    assert SENT.fullmatch(target.wire)
    assert "#" not in target.wire
    assert "\\" not in target.wire
    assert read_url(target.wire).url == target.url  # the guard, the key and the wire mean one place
    assert read_url(target.wire).wire == target.wire
    if re.fullmatch(r"[!\"$-\[\]-~]*", path + query) and not re.search(r"(^|/)(\.|%2e){1,2}(/|$)", path, re.IGNORECASE):
        assert target.wire.endswith(f"/{path}?{query}" if query else f"/{path}")


@given(st.sampled_from(["https://h/", "https://h/a/b?c", "http://h:81/%7E//"]), anything)
def test_a_reference_leads_where_it_can_be_sent(base: str, reference: str) -> None:
    try:
        found = resolve(base, reference)
    except (BadAddress, UnicodeEncodeError):
        return
    assert SENT.fullmatch(found.wire)
    assert read_url(found.wire) == found
