"""First answers under a pin against later ones, dates of what has none, and requests without one Host."""

from __future__ import annotations

import hashlib
from email.utils import formatdate, parsedate_to_datetime
from hashlib import sha256

import pytest

from tests.support import http
from tests.support.index import ask as page
from tests.support.index import document, json_file, json_files, json_page
from tests.support.mirror import Mirror
from tests.support.rawupstream import ask
from tests.support.upstream import Response, Upstream

BODY = b"x" * 3000
MODIFIED = "Tue, 02 Jan 2024 03:04:05 GMT"
DESCRIBED = ("etag", "last-modified", "content-type", "content-length", "cache-control", "accept-ranges")


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_the_first_answer_is_described_as_a_hit(algorithm: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    """Once a digest is announced; it need not be the one that the entity tag is made of."""
    upstream.pages["/x-1.0.zip"] = Response(BODY, headers={"Last-Modified": MODIFIED})
    hashes = {algorithm: hashlib.new(algorithm, BODY, usedforsecurity=False).hexdigest()}
    upstream.pages["/simple/x/"] = json_page(json_files(json_file(f"{upstream.url}/x-1.0.zip", hashes=hashes)))
    (file,) = document(server.pin(pin, f"{upstream.url}/simple/x/"))["files"]
    first, hit = (http.get(server.same(file["url"])) for _ in range(2))
    assert first.headers["cache-status"] != hit.headers["cache-status"]
    assert [first.headers.get(name) for name in DESCRIBED] == [hit.headers.get(name) for name in DESCRIBED]
    assert (hit.headers["etag"], hit.headers["last-modified"]) == (f'"{sha256(BODY).hexdigest()}"', MODIFIED)


def test_last_modified_comes_without_a_digest(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/x"] = Response(BODY, headers={"Last-Modified": MODIFIED})
    assert http.get(server.pin(pin, f"{upstream.url}/x")).headers["last-modified"] == MODIFIED


@pytest.mark.parametrize(
    ("later", "etag", "status"),
    [(3600, None, 304), (-86_400, None, 200), (3600, '"another"', 200)],
    ids=["newer than the freeze", "older", "a tag comes first"],
)
def test_what_has_no_date(
    later: int, etag: str | None, status: int, upstream: Upstream, server: Mirror, pin: str
) -> None:
    """It has not changed since it was frozen."""
    upstream.pages["/x"] = BODY
    address = server.pin(pin, f"{upstream.url}/x")
    frozen = http.get(address)
    asked = {"If-Modified-Since": formatdate(_seconds(frozen.headers["date"]) + later, usegmt=True)}
    answer = http.get(address, headers=asked | ({"If-None-Match": etag} if etag else {}))
    assert answer.status_code == status
    assert "last-modified" not in answer.headers


def _seconds(date: str) -> float:
    return parsedate_to_datetime(date).timestamp()


HOSTS = [
    (["Host: a"], 200), ([], 400), (["Host: a", "Host: a"], 400), (["Host: a", "host: b"], 400), (["Host:"], 400),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "status"), HOSTS)
def test_one_host(lines: list[str], status: int, upstream: Upstream, server: Mirror, pin: str) -> None:
    """RFC 9112 section 3.2; also where the answer is ready."""
    upstream.pages |= {"/x": BODY, "/simple/x/": json_page(json_files())}
    paths = [f"/{pin}/{upstream.url}/x", f"/{pin}/{upstream.url}/simple/x/"]
    for _ in range(2):
        http.get(server.url + paths[0])
        page(server.url + paths[1])
    for path in paths:
        request = "\r\n".join([f"GET {path} HTTP/1.1", *lines, "Accept: */*", "Connection: close", "", ""])
        assert ask(server.port, request.encode()).status == status, path
