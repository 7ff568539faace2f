"""Index pages of any registry behind a pin, over plain HTTP: links, forms, absences, and what was announced."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from hashlib import md5, sha256

import httpx
import pytest

from tests.support import http
from tests.support.index import (
    BROWSER,
    PIP,
    POETRY,
    UV,
    ask,
    document,
    hrefs,
    html_page,
    json_file,
    json_files,
    json_page,
)
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import HTML, JSON
from tests.support.upstream import NOT_FOUND, Request, Response, Upstream, redirect

DATA = b"the file\n"
DIGEST = sha256(DATA).hexdigest()
META = '<meta name="pypi:repository-version" content="1.0">'
LEGACY = "text/html"
INSTALLERS = [PIP, UV, LEGACY, JSON, HTML]


# --- links


@pytest.fixture
def other(upstreams: Callable[..., Upstream]) -> Upstream:
    """Another host."""
    return upstreams()


LINKS = [  # on /index/simple/thing/; {origin}, {host} of the upstream, {other} of another; what they lead to
    ("thing-1.tar.gz", "{origin}/index/simple/thing/thing-1.tar.gz"),
    ("./thing-1.tar.gz", "{origin}/index/simple/thing/thing-1.tar.gz"),
    ("../../files/thing-1.tar.gz", "{origin}/index/files/thing-1.tar.gz"),
    ("../../../../../thing-1.tar.gz", "{origin}/thing-1.tar.gz"),
    ("a/./b/../thing-1.tar.gz", "{origin}/index/simple/thing/a/thing-1.tar.gz"),
    ("/files/thing-1.tar.gz", "{origin}/files/thing-1.tar.gz"),
    ("//{host}/files/thing-1.tar.gz", "{origin}/files/thing-1.tar.gz"),
    ("{origin}/files/thing-1.tar.gz", "{origin}/files/thing-1.tar.gz"),
    ("{other}/files/thing-1.tar.gz", "{other}/files/thing-1.tar.gz"),
    ("HTTP://{host}/files/thing-1.tar.gz", "{origin}/files/thing-1.tar.gz"),
    ("/files/thing-1%2Bcu121.tar.gz", "{origin}/files/thing-1%2Bcu121.tar.gz"),
    ("/files/thing-1+cu121.tar.gz", "{origin}/files/thing-1+cu121.tar.gz"),
    ("/a b/thing-1.tar.gz", "{origin}/a%20b/thing-1.tar.gz"),
    ("/ü/thing-1.tar.gz", "{origin}/%C3%BC/thing-1.tar.gz"),
    ("/files/thing-1.tar.gz#sha256={digest}", "{origin}/files/thing-1.tar.gz#sha256={digest}"),
    ("/files/thing-1.tar.gz#md5=0123", "{origin}/files/thing-1.tar.gz#md5=0123"),
    ("/files/thing-1.tar.gz#egg=thing&sha256={digest}", "{origin}/files/thing-1.tar.gz#sha256={digest}"),
    ("/files/thing-1.tar.gz#sha256={DIGEST}", "{origin}/files/thing-1.tar.gz#sha256={digest}"),
    ("/thing-1.tar.gz?a=b&c=d%2Fe", "{origin}/thing-1.tar.gz?a=b&c=d%2Fe"),
    ("/thing-1.tar.gz?a=b+c#sha256={digest}", "{origin}/thing-1.tar.gz?a=b+c#sha256={digest}"),
    ("/dl/thing-1.tar.gz?url=https://h/x.whl", "{origin}/dl/thing-1.tar.gz?url=https://h/x.whl"),
    ("http://user:secret@{host}/thing-1.tar.gz", "{origin}/thing-1.tar.gz"),
    ("ftp://{host}/thing-1.tar.gz", None),
    ("file:///thing-1.tar.gz", None),
    ("javascript:thing-1.tar.gz", None),
    ("mailto:thing-1.tar.gz", None),
    ("../", None),
    ("readme.html", None),
    ("", None),
]


@pytest.mark.parametrize("form", ["HTML", "JSON"])
def test_links(form: str, upstream: Upstream, other: Upstream, server: Mirror, pin: str) -> None:
    """Every link is path-absolute, stays in the pin and leads where it led, and with its hash."""

    def fill(text: str) -> str:
        host = upstream.url.removeprefix("http://")
        return text.format(origin=upstream.url, host=host, other=other.url, digest=DIGEST, DIGEST=DIGEST.upper())

    table = [(fill(link), leads and fill(leads)) for link, leads in LINKS]
    if form == "JSON":
        table = [(link, leads) for link, leads in table if not link.endswith("html") and link != "../"]
        page = json_page(json_files(*({**json_file(link), "filename": "thing-1.tar.gz"} for link, _ in table)))
    else:
        page = html_page(*(link.replace("&", "&amp;") for link, _ in table), content_type="text/html; charset=utf-8")
    upstream.pages["/index/simple/thing/"] = page
    address = server.pin(pin, f"{upstream.url}/index/simple/thing/")
    expected = [f"/{pin}/{leads}" for _, leads in table if leads]
    assert hrefs(ask(address, LEGACY).content) == expected
    assert "secret" not in ask(address, LEGACY).text
    listed = document(address)["files"]
    assert [file["url"] for file in listed] == [link.partition("#")[0] for link in expected]
    hashes = [dict([link.partition("#")[2].split("=")]) if "#" in link else {} for link in expected]
    assert [file["hashes"] for file in listed] == hashes


@pytest.mark.parametrize("root", ["", "/prefix"])
def test_links_work(root: str, upstream: Upstream, other: Upstream, mirror: Callable[..., Mirror]) -> None:
    """What they lead to is the file; with a root path too."""
    server = mirror(*(["--root-path", root] if root else []))
    upstream.pages["/simple/thing/"] = html_page(
        "../../a/thing-1.zip", "/b/thing-2.zip", f"{other.url}/c/thing-3.zip?q=1"
    )
    upstream.pages |= {"/a/thing-1.zip": b"1", "/b/thing-2.zip": b"2"}
    other.pages["/c/thing-3.zip?q=1"] = b"3"
    page = ask(f"{server.url}{root}/pin-2024-01-02/{upstream.url}/simple/thing/", LEGACY)
    links = hrefs(page.content)
    assert all(link.startswith(f"{root}/pin-2024-01-02/http://127.0.0.1:") for link in links)
    assert [http.get(server.same(link)).content for link in links] == [b"1", b"2", b"3"]


@pytest.mark.parametrize(
    ("base", "leads"),
    [
        ("/elsewhere/", "{origin}/elsewhere/thing-1.zip"),
        ("../", "{origin}/simple/thing-1.zip"),
        ("{other}/files/", "{other}/files/thing-1.zip"),
        ("//{otherhost}/files/", "{other}/files/thing-1.zip"),
        ("", "{origin}/simple/thing/thing-1.zip"),
    ],
)
def test_base(base: str, leads: str, upstream: Upstream, other: Upstream, server: Mirror, pin: str) -> None:
    places = {"origin": upstream.url, "other": other.url, "otherhost": other.url.removeprefix("http://")}
    upstream.pages["/simple/thing/"] = html_page("thing-1.zip", head=f'<base href="{base.format(**places)}">')
    page = ask(server.pin(pin, f"{upstream.url}/simple/thing/"), HTML)
    assert hrefs(page.content) == [f"/{pin}/{leads.format(**places)}"]
    assert "<base" not in page.text


def test_links_are_relative_to_where_redirects_end(
    upstream: Upstream, other: Upstream, server: Mirror, pin: str
) -> None:
    """`/simple/Foo` to `/simple/foo/`, and to another host; also when it is frozen and the upstreams are gone."""
    upstream.pages["/simple/Foo"] = redirect("/simple/foo/", 301)
    upstream.pages["/simple/foo/"] = html_page("foo-1.zip")
    upstream.pages["/simple/bar/"] = redirect(f"{other.url}/deep/er/bar/", 307)
    other.pages["/deep/er/bar/"] = html_page("../bar-1.zip")
    expected = {
        "/simple/Foo": f"{upstream.url}/simple/foo/foo-1.zip",
        "/simple/bar/": f"{other.url}/deep/er/bar-1.zip",
    }
    for _ in range(2):
        for path, leads in expected.items():
            for accept in INSTALLERS:
                page = ask(server.pin(pin, upstream.url + path), accept)
                found = [file["url"] for file in page.json()["files"]] if "json" in accept else hrefs(page.content)
                assert found == [f"/{pin}/{leads}"], (path, accept)
        upstream.stop()
        other.stop()


def test_what_a_page_says_of_its_files_stays(upstream: Upstream, server: Mirror, pin: str) -> None:
    """Requires-Python, yanks, sizes, times, provenance and the project's status, in both forms."""
    said = {"requires-python": ">=3.8", "yanked": "broken", "size": 9, "upload-time": "2024-01-01T00:00:00Z"}
    more = {"project-status": {"status": "archived"}, "versions": ["1"], "meta": {"api-version": "1.4"}}
    provenance = f"{upstream.url}/provenance.json"
    file = json_file("thing-1.zip", hashes={"sha256": DIGEST}, **said, provenance=provenance)
    upstream.pages["/simple/thing/"] = json_page(json_files(file, **more))
    upstream.pages["/provenance.json"] = b"{}"
    address = server.pin(pin, f"{upstream.url}/simple/thing/")
    page = document(address)
    (shown,) = page["files"]
    assert {name: shown[name] for name in said} == said
    assert page["project-status"] == {"status": "archived"}
    assert page["versions"] == ["1"]
    assert http.get(server.same(shown["provenance"])).content == b"{}"
    text = ask(address, HTML).text
    for part in ('data-requires-python="&gt;=3.8"', 'data-yanked="broken"', 'content="archived"', "data-provenance"):
        assert part in text


# --- forms


BODIES = {
    "HTML": b'<!DOCTYPE html><html><body><a href="thing-1.zip#md5=ab">thing-1.zip</a></body></html>',
    "JSON": b'{"meta":{"api-version":"1.0"},"name":"thing","files":'
    b'[{"filename":"thing-1.zip","url":"thing-1.zip","hashes":{"md5":"ab"}}]}',
}
TYPES = [
    None,
    "text/html",
    "text/html; charset=utf-8",
    "TEXT/HTML",
    "text/plain",
    "application/octet-stream",
    "application/json",
    "application/xhtml+xml",
    JSON,
    HTML,
]


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("form", BODIES)
def test_every_installer_sees_the_same_index(
    form: str, content_type: str | None, upstream: Upstream, server: Mirror, pin: str
) -> None:
    """Whatever the upstream has and says that it has; the upstream's own bytes are beside it, from one request."""
    body = BODIES[form]
    upstream.pages["/simple/thing/"] = Response(body, 200, {"Content-Type": content_type} if content_type else {})
    address = server.pin(pin, f"{upstream.url}/simple/thing/")
    link = f"/{pin}/{upstream.url}/simple/thing/thing-1.zip"
    for accept in INSTALLERS:
        page = ask(address, accept)
        assert page.status_code == 200
        assert page.headers["vary"] == "Accept, Accept-Encoding"
        if "json" in accept:
            assert page.headers["content-type"] == JSON
            assert page.json()["files"] == [{"filename": "thing-1.zip", "url": link, "hashes": {"md5": "ab"}}]
        else:
            assert page.headers["content-type"].partition(";")[0] == (HTML if accept == HTML else LEGACY)
            assert hrefs(page.content) == [f"{link}#md5=ab"]
        assert page.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert ask(address, accept, **{"If-None-Match": page.headers["etag"]}).status_code == 304
        head = http.head(address, headers={"Accept": accept})
        assert (head.status_code, head.headers["etag"]) == (200, page.headers["etag"])
    raw = http.get(address.replace(f"/{pin}/", f"/{pin}/raw/"))
    assert raw.content == body
    assert raw.headers["content-type"] == (content_type or "application/octet-stream")
    assert raw.headers["etag"] == f'"{sha256(body).hexdigest()}"'
    assert ask(address, "application/vnd.pypi.simple.v2+json").status_code == 406
    assert upstream.count() == 1


def test_whoever_asks_first(upstream: Upstream, server: Mirror) -> None:
    """curl, a browser, Poetry, pip: the answers do not depend on their order."""
    accepts = ["*/*", BROWSER, POETRY, PIP, LEGACY]
    upstream.pages["/simple/thing/"] = html_page("thing-1.zip", head=META)
    seen = set()
    for number, first in enumerate(accepts):
        pin = f"first{number}"
        address = server.pin(pin, f"{upstream.url}/simple/thing/")
        ask(address, first)
        answers = [ask(address, accept).text.replace(f"/{pin}/", "/pin/") for accept in accepts]
        seen.add(tuple(answers))
    assert len(seen) == 1
    assert upstream.count() == len(accepts)


def test_an_upstream_with_both_forms(upstream: Upstream, server: Mirror, pin: str) -> None:
    """One of them is frozen, and every form rendered from it."""

    def page(request: Request) -> Response:
        form = "JSON" if JSON in request.headers["accept"] else "HTML"
        return Response(BODIES[form], 200, {"Content-Type": JSON if form == "JSON" else LEGACY, "Vary": "Accept"})

    upstream.pages["/simple/thing/"] = page
    address = server.pin(pin, f"{upstream.url}/simple/thing/")
    links = {tuple(hrefs(ask(address, accept).content)) for accept in (LEGACY, HTML)}
    assert links == {(f"/{pin}/{upstream.url}/simple/thing/thing-1.zip#md5=ab",)}
    assert document(address)["files"][0]["hashes"] == {"md5": "ab"}
    assert upstream.count() == 1
    raw = address.replace(f"/{pin}/", f"/{pin}/raw/")
    assert http.get(raw).content == BODIES["JSON"]
    upstream.stop()
    for accept in INSTALLERS:
        assert ask(address, accept).status_code == 200
    assert {(link,) for link in hrefs(http.get(address).text)} == links
    assert http.get(raw).content == BODIES["JSON"]


@pytest.mark.parametrize("content_type", ["text/html", "text/html; charset=utf-8", "Text/HTML"])
@pytest.mark.parametrize(
    ("links", "head", "rewritten"),
    [(["thing-1.zip"], META, True), (["thing-1.zip"], "", True), ([], META, True), (["other/"], "", False)],
    ids=["index", "flat page", "index without files", "any page"],
)
def test_a_browser(
    links: list[str], head: str, rewritten: bool, content_type: str, upstream: Upstream, server: Mirror, pin: str
) -> None:
    """An index that says so, or lists files, has links that stay in the pin; every other page is as it is."""
    page = html_page(*links, head=head, content_type=content_type)
    upstream.pages["/page"] = page
    address = server.pin(pin, f"{upstream.url}/page")
    for accept in (BROWSER, "*/*", BROWSER):
        shown = ask(address, accept)
        assert shown.headers["content-type"].lower().startswith("text/html")
        if rewritten:
            assert hrefs(shown.content) == [f"/{pin}/{upstream.url}/{link}" for link in links]
        else:
            assert shown.content == page.body
    assert http.get(server.pin(pin, f"raw/{upstream.url}/page")).content == page.body


def test_a_browser_on_other_things(upstream: Upstream, server: Mirror, pin: str) -> None:
    for path, body, content_type in [
        ("/a.png", b"\x89PNG", "image/png"),
        ("/a.txt", b'<a href="thing-1.zip">', "text/plain"),
        ("/large", b"<html>" + META.encode() * 3 + b"x" * 500_000, "application/octet-stream"),
        ("/empty", b"", "text/html"),
    ]:
        upstream.pages[path] = Response(body, 200, {"Content-Type": content_type})
        answer = ask(server.pin(pin, upstream.url + path), BROWSER)
        assert (answer.content, answer.headers["content-type"]) == (body, content_type)


@pytest.mark.parametrize("accept", INSTALLERS)
def test_a_plain_file_asked_for_as_an_index(accept: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    for path, body, content_type in [
        ("/readme.txt", b"read me", "text/plain"),
        ("/data.bin", bytes(range(256)), "application/octet-stream"),
        ("/data.json", b"[1, 2]", "text/plain"),
        ("/thing-1.tar.gz", b'<a href="thing-2.tar.gz">', "application/octet-stream"),
        ("/thing-1-py3-none-any.whl", b'{"files": []}', "application/octet-stream"),
    ]:
        upstream.pages[path] = Response(body, 200, {"Content-Type": content_type})
        answer = ask(server.pin(pin, upstream.url + path), accept)
        assert (answer.status_code, answer.content) == (200, body)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip"])
def test_a_compressed_page(coding: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    """Understood, and to be had as it is."""
    packed = gzip.compress(BODIES["HTML"])
    upstream.pages["/simple/thing/"] = Response(packed, 200, {"Content-Type": LEGACY, "Content-Encoding": coding})
    address = server.pin(pin, f"{upstream.url}/simple/thing/")
    for accept in (*INSTALLERS, "*/*"):
        page = ask(address, accept, **{"Accept-Encoding": "identity"})
        assert "content-encoding" not in page.headers
        assert b"thing-1.zip" in page.content
    with http.stream("GET", server.pin(pin, f"raw/{upstream.url}/simple/thing/")) as raw:
        assert raw.headers["content-encoding"] == coding
        assert b"".join(raw.iter_raw()) == packed


def test_a_bomb_of_a_page(upstream: Upstream, server: Mirror, pin: str) -> None:
    """What unpacks to more than a page can be is no page: it is refused."""
    packed = gzip.compress(gzip.compress(bytes(50_000_000)))
    headers = {"Content-Type": LEGACY, "Content-Encoding": "gzip"}
    upstream.pages["/simple/thing/"] = Response(packed, 200, headers)
    with http.stream("GET", server.pin(pin, f"{upstream.url}/simple/thing/"), headers={"Accept": PIP}) as answer:
        assert answer.status_code == 502


def test_a_project_list(upstream: Upstream, server: Mirror, pin: str) -> None:
    """The root of an index: names, and links that stay in the pin."""
    upstream.pages["/simple/"] = Response(
        f'<html><head>{META}</head><body><a href="/simple/foo/">Foo</a> <a href="bar/">bar</a></body></html>'.encode(),
        200,
        {"Content-Type": LEGACY},
    )
    address = server.pin(pin, f"{upstream.url}/simple/")
    index = f"/{pin}/{upstream.url}/simple/"
    assert [project["name"] for project in document(address)["projects"]] == ["Foo", "bar"]
    for accept in (HTML, LEGACY, BROWSER):
        assert hrefs(ask(address, accept).content) == [f"{index}foo/", f"{index}bar/"]


# --- what was announced is held to


def lines(digest: str | None, size: int | None, form: str) -> Response:
    if form == "HTML":
        return html_page("/files/thing-1.zip" + (f"#sha256={digest}" if digest else ""))
    more = {"hashes": {"sha256": digest} if digest else {}} | ({} if size is None else {"size": size})
    return json_page(json_files(json_file("/files/thing-1.zip", **more)))


@pytest.mark.parametrize(
    ("form", "digest", "size"),
    [("HTML", "0" * 64, None), ("JSON", "0" * 64, None), ("JSON", None, 8), ("JSON", None, 10), ("JSON", DIGEST, 8)],
)
def test_bytes_that_are_not_the_announced_ones(
    form: str, digest: str | None, size: int | None, upstream: Upstream, server: Mirror, pin: str
) -> None:
    """502 and not frozen; in another pin, where nobody announced anything, they are what they are."""
    upstream.pages["/simple/thing/"] = lines(digest, size, form)
    upstream.pages["/files/thing-1.zip"] = DATA
    address = server.pin(pin, f"{upstream.url}/files/thing-1.zip")
    assert ask(server.pin(pin, f"{upstream.url}/simple/thing/")).status_code == 200
    for _ in range(2):
        try:
            answer = http.get(address)
        except httpx.RemoteProtocolError:
            assert digest is None, "a small file whose digest is known is checked before it begins"
            continue
        assert answer.status_code == 502
        assert "announced" in answer.text
    assert upstream.count("/files/thing-1.zip") == 2
    assert http.get(server.pin(f"another-{pin}", f"{upstream.url}/files/thing-1.zip")).content == DATA


@pytest.mark.parametrize("form", ["HTML", "JSON"])
def test_the_next_honest_answer_is_frozen(form: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/simple/thing/"] = lines(DIGEST, None, form)
    upstream.pages["/files/thing-1.zip"] = b"tampered\n"
    ask(server.pin(pin, f"{upstream.url}/simple/thing/"))
    address = server.pin(pin, f"{upstream.url}/files/thing-1.zip")
    assert http.get(address).status_code == 502
    upstream.pages["/files/thing-1.zip"] = DATA
    assert http.get(address).content == DATA
    upstream.stop()
    assert http.get(address).content == DATA


@pytest.mark.parametrize("named", ["sha512", "md5"])
def test_every_digest_that_is_announced_is_checked(named: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    """Design, "Freezing" 2: "digest as the index announced where one did"; old registries have only MD5."""
    honest = {"md5": md5(DATA).hexdigest(), "sha512": "0" * 128}[named]
    upstream.pages["/simple/thing/"] = html_page(f"/files/thing-1.zip#{named}={honest}")
    upstream.pages["/files/thing-1.zip"] = b"tampered\n"
    ask(server.pin(pin, f"{upstream.url}/simple/thing/"))
    try:
        answer = http.get(server.pin(pin, f"{upstream.url}/files/thing-1.zip"))
    except httpx.RemoteProtocolError:
        return
    assert answer.status_code == 502


def test_a_digest_in_upper_case(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/simple/thing/"] = lines(DIGEST.upper(), None, "JSON")
    upstream.pages["/files/thing-1.zip"] = DATA
    ask(server.pin(pin, f"{upstream.url}/simple/thing/"))
    answer = http.get(server.pin(pin, f"{upstream.url}/files/thing-1.zip"))
    assert (answer.status_code, answer.content) == (200, DATA)


# --- what is not there


@pytest.mark.parametrize("status", [404, 410])
def test_no_such_project_is_frozen_for_that_pin(
    status: int, upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]
) -> None:
    """Nobody can slip a package into a pinned build later; another pin sees it, and other credentials do."""
    upstream = upstreams()
    server = mirror()
    upstream.pages["/simple/thing/"] = replace(NOT_FOUND, status=status)
    url = f"{upstream.url}/simple/thing/"
    assert ask(server.pin("old-2024-01-02", url)).status_code == status
    upstream.pages["/simple/thing/"] = html_page("thing-1.zip")
    for accept in INSTALLERS:
        assert ask(server.pin("old-2024-01-02", url), accept).status_code == status
        assert ask(server.pin("new-2024-01-02", url), accept).status_code == 200
    upstream.stop()
    server.restart()
    assert ask(server.pin("old-2024-01-02", url)).status_code == status
    assert ask(server.pin("never-2024-01-02", url)).status_code == 502


def test_an_absence_is_for_the_credentials_it_was_asked_with(upstream: Upstream, server: Mirror, pin: str) -> None:
    """Others see what is there; and that they have, and that it is frozen, takes nothing back for the first."""
    address = server.pin(pin, f"{upstream.url}/simple/thing/")
    assert ask(address).status_code == 404
    upstream.pages["/simple/thing/"] = html_page("thing-1.zip")
    assert ask(address, **{"Private-Token": "t"}).status_code == 200
    assert ask(address).status_code == 404
    upstream.stop()
    assert ask(address).status_code == 404
    assert ask(address, **{"Private-Token": "t"}).status_code == 200


@pytest.mark.parametrize("status", [400, 401, 403, 408, 429, 500, 502, 503, 504])
def test_what_is_no_answer_is_not_frozen(status: int, upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/simple/thing/"] = Response(b"no", status, {"Retry-After": "9", "Content-Type": LEGACY})
    address = server.pin(pin, f"{upstream.url}/simple/thing/")
    for accept in INSTALLERS:
        answer = ask(address, accept)
        assert answer.status_code == status
        assert answer.headers["retry-after"] == "9"
        assert answer.headers["cache-control"] == "no-store"
    upstream.pages["/simple/thing/"] = html_page("thing-1.zip")
    for accept in INSTALLERS:
        assert ask(address, accept).status_code == 200


def test_a_broken_page_of_pep_691(upstream: Upstream, server: Mirror, pin: str) -> None:
    """An answer that says that it is one and is not: 502, and not for ever."""
    address = server.pin(pin, f"{upstream.url}/simple/thing/")
    for body in (b'{"meta": {"api-ver', b'{"message": "maintenance"}', b""):
        upstream.pages["/simple/thing/"] = Response(body, 200, {"Content-Type": JSON})
        assert ask(address).status_code == 502, body
    upstream.pages["/simple/thing/"] = html_page("thing-1.zip")
    assert ask(address).status_code == 200


def test_a_page_frozen_by_one_worker_is_the_page_of_all(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """And what it announced is known to all."""
    server = mirror("--workers", "2")
    for number in range(8):
        dist = wheel(f"thing-{number}", "1.0")
        upstream.pages[f"/simple/thing-{number}/"] = html_page(f"/files/{dist.filename}#sha256={dist.sha256}")
        upstream.pages[f"/files/{dist.filename}"] = b"tampered"
        ask(server.pin("pin", f"{upstream.url}/simple/thing-{number}/"))
        assert http.get(server.pin("pin", f"{upstream.url}/files/{dist.filename}")).status_code == 502
        upstream.pages[f"/simple/thing-{number}/"] = NOT_FOUND
        assert [ask(server.pin("pin", f"{upstream.url}/simple/thing-{number}/")).status_code for _ in range(4)] == [
            200
        ] * 4
