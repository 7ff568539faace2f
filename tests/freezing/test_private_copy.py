"""A private copy is given to nobody: whatever an upstream shows to strangers, and whatever is made from the copy.

And it asks for a login, so that clients that wait to be asked can send theirs.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.support import http
from tests.support.clients import Clients
from tests.support.index import PIP, UV, ask, html_page, json_file, json_files, json_page
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.upstream import Request, Response, Upstream, redirect

SECRET = b"the secret bytes"
ALICE = {"Authorization": "Bearer alice"}
OTHERS: list[dict[str, str]] = [
    {},
    {"Authorization": "Bearer mallory"},
    {"Authorization": "Basic bWFsbG9yeTp4"},
    {"X-Api-Key": "x"},
    {"Authorization": "Bearer mallory", "X-Api-Key": "x"},
]
INSTALLERS = (PIP, UV, "text/html")
HTML, JSON, BINARY = "text/html", "application/json", "application/octet-stream"


def page(body: bytes, kind: str, status: int = 200) -> Response:
    return Response(body, status, {"Content-Type": kind})


@dataclass(frozen=True)
class Site:
    """What `path` is for alice, and what strangers get there; `more` are other addresses."""

    path: str
    mine: Response
    strangers: Response
    more: dict[str, Response]


LOGIN = page(b"<html>sign in", HTML)
SITES = {
    "a redirect to an error, told apart by its query": Site(
        "/dl?id=7", page(SECRET, BINARY), redirect("/dl?error=login"), {"/dl?error=login": page(b"{}", JSON)}
    ),
    "a page, and sign-in at the same path": Site(
        "/index.php?title=secret",
        page(b"<html>secret", HTML),
        redirect("/index.php?title=login"),
        {"/index.php?title=login": LOGIN},
    ),
    "a page, and sign-in at the same address": Site("/wiki", page(b"<html>secret", HTML), LOGIN, {}),
    "a file, and an error at the same address": Site("/f.bin", page(SECRET, BINARY), page(b'{"error":1}', JSON), {}),
    "a document, and an error of its type": Site("/d", page(b'{"a":1}', JSON), page(b'{"error":1}', JSON), {}),
    "XML, and an error of its type": Site("/d", page(b"<a/>", "text/xml"), page(b"<error/>", "application/xml"), {}),
    "a file, and text": Site("/f.bin", page(SECRET, BINARY), page(b"sign in", "text/plain"), {}),
    "a file behind a redirect, and another one": Site(
        "/f.bin",
        redirect("/blob?sig=1"),
        redirect("/blob?sig=2"),
        {"/blob?sig=1": page(SECRET, BINARY), "/blob?sig=2": page(b"demo", BINARY)},
    ),
    "a file, and a demo of it elsewhere": Site(
        "/f.bin", page(SECRET, BINARY), redirect("/demo.bin"), {"/demo.bin": page(b"demo", BINARY)}
    ),
    "a file, and 203": Site("/f.bin", page(SECRET, BINARY), page(SECRET, BINARY, 203), {}),
    "a file, and nothing": Site("/f.bin", page(SECRET, BINARY), page(b"", BINARY, 204), {}),
    "a file, and a part of it": Site("/f.bin", page(SECRET, BINARY), page(SECRET, BINARY, 206), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", SITES)
def test_what_strangers_get_opens_no_private_copy(name: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    site = SITES[name]

    def answer(request: Request) -> Response:
        return site.mine if request.headers.get("authorization") == ALICE["Authorization"] else site.strangers

    upstream.pages |= {**site.more, site.path: answer}
    address = server.pin(pin, upstream.url + site.path)
    secret = http.get(address, headers=ALICE).content
    for headers, more in itertools.product(OTHERS, ({}, {"Range": "bytes=0-3"}, {"Accept": "text/html"})):
        refused = http.get(address, headers=headers | more)
        assert refused.status_code in (401, 403, 502), headers
        assert "etag" not in refused.headers
        assert secret not in refused.content
    upstream.stop()
    for headers in OTHERS:
        assert http.get(address, headers=headers).status_code == (502 if headers else 401)
    assert http.get(address, headers=ALICE).content == secret


def test_no_credentials_open_no_private_copy_for_good(upstream: Upstream, server: Mirror, pin: str) -> None:
    """What the upstream shows everybody is compared byte for byte, also with junk that it does not look at."""
    upstream.pages["/f.bin"] = page(SECRET, BINARY)
    address = server.pin(pin, f"{upstream.url}/f.bin")
    assert http.get(address, headers=ALICE).headers["cache-control"].startswith("private")
    for _ in range(2):
        shown = http.get(address)
        assert (shown.content, shown.headers["cache-control"].partition(",")[0]) == (SECRET, "private")
    upstream.pages["/f.bin"] = page(SECRET[:-1] + b"?", BINARY)
    for headers in OTHERS:
        assert http.get(address, headers=headers).status_code == (403 if headers else 401)
    upstream.pages["/f.bin"] = page(SECRET, BINARY)
    assert http.get(address, headers={"X-Api-Key": "as needless as the first one"}).content == SECRET
    upstream.stop()
    assert http.get(address).status_code == 401


@pytest.mark.parametrize("signed", [False, True])
def test_a_rotated_token_reads_what_the_old_one_froze(
    signed: bool, upstream: Upstream, server: Mirror, pin: str
) -> None:
    """Also where a file comes from an address that is signed anew for each: then its bytes are compared."""
    numbers, right = itertools.count(), {"Bearer alice"}

    def answer(request: Request) -> Response:
        if request.headers.get("authorization") not in right:
            return Response(status=401)
        return redirect(f"/blob?signature={next(numbers)}") if signed else page(SECRET, BINARY)

    upstream.pages |= {"/f.bin": answer, "/blob": page(SECRET, BINARY)}
    address = server.pin(pin, f"{upstream.url}/f.bin")
    http.get(address, headers=ALICE)
    right.clear()
    right.add("Bearer alice-2")
    new = {"Authorization": "Bearer alice-2"}
    assert http.get(address, headers=new).content == SECRET
    asked = upstream.count()
    assert http.get(address, headers=new).content == SECRET
    assert upstream.count() == asked


# Index pages


def gitlab(tokens: set[str], *versions: str) -> Callable[[Request], Response]:
    """Its HTML index for those with a token, and for the others its sign-in page at the same address."""
    links = [f"/files/thing-{version}.tar.gz#sha256={version[0] * 64}" for version in versions]

    def answer(request: Request) -> Response:
        return html_page(*links) if request.headers.get("authorization") in tokens else LOGIN

    return answer


def test_a_rotated_token_reads_an_index_that_has_grown(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/simple/thing/"] = gitlab({"Bearer alice"}, "1.0", "1.1")
    address = server.pin(pin, f"{upstream.url}/simple/thing/")
    mine = ask(address, INSTALLERS[0], **ALICE)
    assert mine.status_code == 200
    upstream.pages["/simple/thing/"] = gitlab({"Bearer alice-2"}, "1.0", "1.1", "2.0")
    for headers in OTHERS:
        for accept in INSTALLERS:
            assert ask(address, accept, **headers).status_code in (401, 403)
    assert ask(address, INSTALLERS[0], Authorization="Bearer alice-2").content == mine.content
    upstream.pages["/simple/thing/"] = html_page("/files/thing-1.0.tar.gz#sha256=" + "1" * 64)  # less, for everybody
    for headers in OTHERS:
        assert ask(address, INSTALLERS[0], **headers).status_code == (403 if headers else 401), headers
    upstream.pages["/simple/thing/"] = gitlab({"Bearer bob"}, "3.0")
    assert ask(address, INSTALLERS[0], Authorization="Bearer bob").status_code == 403


# What is made from a private copy


@pytest.mark.parametrize("announced", [False, True])
def test_metadata_has_the_scope_of_its_wheel(
    announced: bool, upstream: Upstream, mirror: Callable[..., Mirror]
) -> None:
    """Under a shared pin others ask for it first; when the pin is shared no more, it is the owner's alone."""
    thing = wheel("thing", "1.0")
    more = {"core-metadata": {"sha256": thing.metadata_sha256}} if announced else {}
    upstream.tokens = {"Authorization": "Bearer alice"}
    file = f"/files/{thing.filename}"
    listing = json_files(json_file(file, hashes={"sha256": thing.sha256}, **more))
    upstream.pages |= {"/simple/thing/": json_page(listing), file: thing.data}
    running: Mirror = mirror("--share", "team")
    page, address = (running.pin("team-2024-01-02", upstream.url + path) for path in ("/simple/thing/", file))
    assert ask(page, **ALICE).status_code == 200
    assert http.get(address, headers=ALICE).content == thing.data
    for headers in OTHERS[:2]:
        assert http.get(f"{address}.metadata", headers=headers).content == thing.metadata
    running.restart("--log-level", "info")
    for headers in OTHERS:
        for private in (page, address, f"{address}.metadata"):
            assert ask(private, **headers).status_code == 401, private
    assert http.get(f"{address}.metadata", headers=ALICE).content == thing.metadata


# A challenge


@pytest.mark.parametrize(("said", "realm"), [('Basic realm="their realm"', "their realm"), ("Bearer", None)])
@pytest.mark.parametrize("away", ["stopped", "offline", "busy"])
def test_a_private_copy_challenges(
    away: str, said: str, realm: str | None, upstream: Upstream, mirror: Callable[..., Mirror], clients: Clients
) -> None:
    right = "Basic " + base64.b64encode(b"alice:pass word").decode()

    def answer(request: Request) -> Response:
        if request.headers.get("authorization") == right:
            return page(SECRET, BINARY)
        return Response(b"no", 401, {"WWW-Authenticate": said})

    upstream.pages["/f.bin"] = answer
    running: Mirror = mirror()
    address = running.pin("team", f"{upstream.url}/f.bin")
    assert http.get(address, auth=("alice", "pass word")).content == SECRET
    if away == "offline":
        running.restart("--offline")
    elif away == "stopped":
        upstream.stop()
    else:
        upstream.pages["/f.bin"] = Response(b"later", 503)
    asked = http.get(address)
    assert asked.status_code == 401
    assert asked.headers["www-authenticate"] == f'Basic realm="{realm or upstream.url}"'
    assert asked.headers["cache-control"] == "no-store"
    assert http.get(address, auth=("alice", "wrong")).status_code in (502, 503, 504)
    assert clients.wget("-qO-", "--user=alice", "--password=pass word", address).checked().output.encode() == SECRET
