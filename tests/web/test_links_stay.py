"""Behind a pin no link leaves the pin: whoever asks for an index page, in whatever form the upstream sends it.

The wheels are on a second host, and links to it are absolute; whoever asks that host has left the pin.
"""

from __future__ import annotations

import codecs
import gzip
import json
import threading
import zlib
from collections.abc import Callable

import pytest

from tests.support import http
from tests.support.clients import INSTALLERS, ClientError, Clients, pins
from tests.support.clients import PIP as PYTHON_PIP
from tests.support.clients import UV as UV_COMMAND
from tests.support.index import BROWSER, PIP, UV, hrefs
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import HTML, JSON
from tests.support.upstream import Response, Upstream

TEXT = "text/html"
CHOOSY = {
    "pip": PIP,
    "pip of 2021": TEXT,
    "uv": UV,
    "Poetry 1.8, curl, wget": "*/*",
    "Poetry 2": f"{JSON}, */*;q=0.1",
    "Bazel": "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
    "a browser": BROWSER,
}
ACCEPTS = CHOOSY | {"a script": "application/json", "a downloader": "application/octet-stream"}


def html(links: list[str], head: str = "") -> str:
    """An index page without anything that says so, unless `head` does."""
    anchors = "".join(f"<a href={link}>f</a>" for link in links)
    return f"<!DOCTYPE html><html><head>{head}</head><body>{anchors}</body></html>"


def document(links: list[str], version: str = "1.0") -> str:
    """The same in JSON."""
    files = [
        {"filename": link.partition("#")[0].rpartition("/")[2], "url": link, "hashes": {"sha256": link[-64:]}}
        for link in links
    ]
    return json.dumps({"meta": {"api-version": version}, "name": "x", "files": files})


def sent(kind: str | None, coding: str | None = None, pack: Callable[[bytes], bytes] = bytes, charset: str = "utf-8"):  # type: ignore[no-untyped-def]
    """What sends a page in HTML, or in JSON if `kind` says so, in a coding and a charset."""

    def page(links: list[str]) -> Response:
        text = document(links) if kind and "json" in kind else html(links)
        headers = {name: value for name, value in {"Content-Type": kind, "Content-Encoding": coding}.items() if value}
        return Response(pack(text.encode(charset)), 200, headers)

    return page


def raw_deflate(body: bytes) -> bytes:
    """RFC 1951 without the frame of zlib, which is what some servers mean."""
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeeze.compress(body) + squeeze.flush()


META = '<meta name="pypi:repository-version" content="{}">'
FORMS = {
    "plain HTML": sent(TEXT),
    "HTML that says it is an index": lambda links: Response(
        html(links, META.format("1.0")).encode(), 200, {"Content-Type": TEXT}
    ),
    "PEP 691 HTML": sent(HTML),
    "PEP 691 JSON": sent(JSON),
    "JSON": sent("application/json"),
    "XHTML": sent("application/xhtml+xml; charset=utf-8"),
    "no type": sent(None),
    "gzip": sent(TEXT, "gzip", gzip.compress),
    "x-gzip": sent(JSON, "x-gzip", gzip.compress),
    "deflate": sent(TEXT, "deflate", zlib.compress),
    "bare deflate": sent(TEXT, "deflate", raw_deflate),
    "gzip twice": sent(TEXT, "gzip, gzip", lambda body: gzip.compress(gzip.compress(body))),
    "gzip with bytes behind it": sent(TEXT, "gzip", lambda body: gzip.compress(body) + b"behind it"),
    "aws-chunked": sent(TEXT, "aws-chunked"),
    "a coding called utf-8": sent(TEXT, "utf-8"),
    "identity": sent(JSON, "Identity"),
    "br that is none": sent(TEXT, "br"),
    "UTF-16": sent(TEXT, charset="utf-16"),
    "UTF-16 by its type": sent("text/html; charset=utf-16le", charset="utf-16-le"),
    "JSON in UTF-16": sent(JSON, charset="utf-16"),
    "UTF-32": sent(TEXT, charset="utf-32"),
    "a byte order mark": sent(TEXT, pack=lambda body: codecs.BOM_UTF8 + body),
}
REFUSED = {  # to everybody
    "HTML of version 2.0": lambda links: Response(
        html(links, META.format("2.0")).encode(), 200, {"Content-Type": TEXT}
    ),
    "JSON of version 2.0": lambda links: Response(document(links, "2.0").encode(), 200, {"Content-Type": JSON}),
    "JSON of version 2.0 by another type": lambda links: Response(
        document(links, "2.0").encode(), 200, {"Content-Type": "application/json"}
    ),
    "PEP 691 that is cut": lambda links: Response(document(links).encode()[:-9], 200, {"Content-Type": JSON}),
    "PEP 691 in br": lambda links: Response(
        b"\x1b" + document(links).encode()[9:], 200, {"Content-Type": JSON, "Content-Encoding": "br"}
    ),
    "gzip that is cut": lambda links: Response(
        gzip.compress(document(links).encode())[:-9], 200, {"Content-Type": HTML, "Content-Encoding": "gzip"}
    ),
}
REFUSED_TO_INSTALLERS = {  # to others they are what they are: some page of the web
    "HTML in br": Response(b"\x1b\x00", 200, {"Content-Type": TEXT, "Content-Encoding": "br"}),
    "a page without links": Response(b"<html><p>Sign in", 200, {"Content-Type": TEXT}),
    "an error in JSON": Response(b'{"error": "no"}', 200, {"Content-Type": "application/json"}),
    "JSON without a type": Response(b'{"error": "no"}'),
    "JSON that has an api-version": Response(
        b'{"api-version": "2.0", "meta": {"x": "y"}}', 200, {"Content-Type": "application/json"}
    ),
    "nothing": Response(b"", 200, {"Content-Type": "application/json"}),
    "gzip that is cut": Response(
        gzip.compress(b"<a href=x-1.zip>")[:-3], 200, {"Content-Type": TEXT, "Content-Encoding": "gzip"}
    ),
}


@pytest.fixture
def files(upstreams: Callable[..., Upstream]) -> Upstream:
    """The second host."""
    return upstreams(ranges=True)


def links_of(answer) -> list[str]:  # type: ignore[no-untyped-def]
    """The links of a page in any form."""
    if "json" in answer.headers["content-type"]:
        return [file["url"] for file in answer.json()["files"]]
    return [link.partition("#")[0] for link in hrefs(answer.content)]


@pytest.mark.parametrize("form", FORMS)
def test_every_client_gets_links_that_stay(
    form: str, upstream: Upstream, files: Upstream, server: Mirror, pin: str
) -> None:
    """From one request; the upstream's own bytes are beside it."""
    upstream.pages["/simple/x/"] = FORMS[form]([f"{files.url}/x-1.zip#sha256={'a' * 64}"])
    address = server.pin(pin, f"{upstream.url}/simple/x/")
    for accept in ACCEPTS.values():
        answer = http.get(address, headers={"Accept": accept})
        assert (answer.status_code, links_of(answer)) == (200, [f"/{pin}/{files.url}/x-1.zip"]), accept
    with http.stream("GET", server.pin(pin, f"raw/{upstream.url}/simple/x/")) as raw:
        assert b"".join(raw.iter_raw()) == upstream.pages["/simple/x/"].body  # type: ignore[union-attr]
    assert upstream.count() == 1


@pytest.mark.parametrize("first", ACCEPTS)
def test_whoever_asks_first_all_see_that_page(
    first: str, upstream: Upstream, files: Upstream, server: Mirror, pin: str
) -> None:
    """Also where the upstream has another page for each `Accept`, and another at each request.

    Only who takes no form of an index page can have another one.
    """

    def varying(request):  # type: ignore[no-untyped-def]
        kind = JSON if JSON in request.headers["accept"] else TEXT
        page = sent(kind)([f"{files.url}/x-{upstream.count()}.zip"])
        return Response(page.body, 200, {"Content-Type": kind, "Vary": "Accept"})

    upstream.pages["/simple/x/"] = varying
    address = server.pin(pin, f"{upstream.url}/simple/x/")
    for accept in (ACCEPTS[first], *CHOOSY.values()):
        answer = http.get(address, headers={"Accept": accept})
        assert links_of(answer) == [f"/{pin}/{files.url}/x-1.zip"], accept


@pytest.mark.parametrize("form", REFUSED)
def test_what_says_that_it_is_an_index_and_cannot_be_read(
    form: str, upstream: Upstream, files: Upstream, server: Mirror, pin: str
) -> None:
    """It is a 502 to everybody, and not for ever."""
    link = f"{files.url}/x-1.zip#sha256={'a' * 64}"
    upstream.pages["/simple/x/"] = REFUSED[form]([link])
    address = server.pin(pin, f"{upstream.url}/simple/x/")
    for accept in ACCEPTS.values():
        answer = http.get(address, headers={"Accept": accept})
        assert (answer.status_code, "cannot be read as an index page" in answer.text) == (502, True), accept
        assert files.url not in answer.text
    upstream.pages["/simple/x/"] = FORMS["plain HTML"]([link])
    assert links_of(http.get(address)) == [f"/{pin}/{files.url}/x-1.zip"]


@pytest.mark.parametrize("form", REFUSED_TO_INSTALLERS)
def test_what_an_installer_cannot_use_is_an_error_for_it(
    form: str, upstream: Upstream, server: Mirror, pin: str
) -> None:
    """And is not kept for ever because an installer asked; others get it byte for byte."""
    page = REFUSED_TO_INSTALLERS[form]
    upstream.pages["/simple/x/"] = page
    address = server.pin(pin, f"{upstream.url}/simple/x/")
    for accept in (PIP, UV, TEXT):
        answer = http.get(address, headers={"Accept": accept})
        assert (answer.status_code, "cannot be read as an index page" in answer.text) == (502, True)
    assert upstream.count() == 3
    with http.stream("GET", address) as raw:
        assert (raw.status_code, b"".join(raw.iter_raw())) == (200, page.body)
    assert http.get(address, headers={"Accept": PIP}).status_code == 502
    assert upstream.count() == 4


def test_what_is_no_page_is_streamed_at_once(upstream: Upstream, server: Mirror, pin: str) -> None:
    """Also where its type is one that pages have, once it is longer than a page may be."""
    for number, headers in enumerate(
        ({"Content-Type": "text/plain"}, {"Content-Type": TEXT, "Content-Length": str(2**30)})
    ):
        release = threading.Event()
        upstream.pages[f"/{number}"] = Response([b"x" * 100_000, release], headers=headers)
        with http.stream("GET", server.pin(pin, f"{upstream.url}/{number}")) as answer:
            assert next(answer.iter_raw())
            release.set()


@pytest.mark.parametrize("kind", ["image/png", "text/plain", "application/json", "application/octet-stream", None])
@pytest.mark.parametrize(
    "body", [b'"meta": {"api-version": "2.0"}', b"[1, 2]", META.encode()[1:], b"text " + META.encode()]
)
def test_what_does_not_begin_as_a_page_is_none(
    body: bytes, kind: str | None, upstream: Upstream, server: Mirror, pin: str
) -> None:
    """Whatever is in it: it goes to all byte for byte, and is frozen."""
    upstream.pages["/x"] = Response(body, 200, {"Content-Type": kind} if kind else {})
    for accept in ACCEPTS.values():
        answer = http.get(server.pin(pin, f"{upstream.url}/x"), headers={"Accept": accept})
        assert (answer.status_code, answer.content) == (200, body), accept
    assert upstream.count() == 1


# Real clients


APP = wheel("app", "1.0", [f"form-{number}" for number in range(len(FORMS))])


@pytest.mark.parametrize("client", INSTALLERS)
def test_real_clients_ask_the_mirror_alone(
    client: str, upstream: Upstream, files: Upstream, server: Mirror, pin: str, clients: Clients
) -> None:
    """One install has all forms: each project of it has its page in another."""
    dists = [APP, *(wheel(f"form-{number}", "1.0") for number in range(len(FORMS)))]
    for dist, form in zip(dists, ["plain HTML", *FORMS], strict=True):
        files.pages[f"/{dist.filename}"] = dist.data
        upstream.pages[f"/simple/{dist.name}/"] = FORMS[form]([f"{files.url}/{dist.filename}#sha256={dist.sha256}"])
    assert clients.install(client, server.pin(pin, f"{upstream.url}/simple/"), ["app"]) == pins(*dists)
    assert {request.headers["user-agent"].partition("/")[0] for request in (*upstream.requests, *files.requests)} == {
        "httpcache"
    }


@pytest.mark.parametrize("client", ["pip", "oldpip", "uv"])
def test_real_clients_fail_where_a_page_cannot_be_read(
    client: str, upstream: Upstream, files: Upstream, server: Mirror, pin: str, clients: Clients
) -> None:
    dist = wheel("app", "1.0")
    files.pages[f"/{dist.filename}"] = dist.data
    upstream.pages["/simple/app/"] = REFUSED["HTML of version 2.0"](
        [f"{files.url}/{dist.filename}#sha256={dist.sha256}"]
    )
    with pytest.raises(ClientError):
        clients.install(client, server.pin(pin, f"{upstream.url}/simple/"), ["app"])
    assert files.requests == []


@pytest.mark.parametrize("client", ["pip", "oldpip", "uv"])
def test_flat_pages(
    client: str, upstream: Upstream, files: Upstream, server: Mirror, pin: str, clients: Clients
) -> None:
    """One page that lists the files of many projects (`--find-links`)."""
    dists = [wheel("app", "1.0", ["lib"]), wheel("lib", "1.0"), *(wheel(f"other-{n}", "1") for n in range(30))]
    files.pages |= {f"/{dist.filename}": dist.data for dist in dists}
    upstream.pages["/flat.html"] = sent(TEXT)([f"{files.url}/{dist.filename}#sha256={dist.sha256}" for dist in dists])
    page = server.pin(pin, f"{upstream.url}/flat.html")
    empty = server.pin(pin, f"{upstream.url}/none/")
    if client == "uv":  # which writes no hashes of what is on a flat page
        options = ["--find-links", page, "--index-url", empty, "--python", PYTHON_PIP[0], "--target", "target"]
        clients.run(UV_COMMAND, "pip", "install", *options, "app", home=clients.place()).checked()
    else:
        install = clients.pip_install if client == "pip" else clients.old_pip_install
        assert install(empty, ["app"], None, "--find-links", page) == pins(*dists[:2])
    assert {request.path for request in files.requests} >= {f"/{dist.filename}" for dist in dists[:2]}
    assert {request.headers["user-agent"].partition("/")[0] for request in files.requests} == {"httpcache"}
