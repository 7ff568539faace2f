"""What a browser may do with content that comes from strangers: download it, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from email.message import Message

import httpx
import pytest

from tests.support import http
from tests.support.mirror import Mirror
from tests.support.registries import PyPI
from tests.support.upstream import Response, Upstream

HTML = {"Content-Type": "text/html; charset=utf-8"}
SCRIPT = b"<html><script>steal()</script></html>"
INDEX = (
    b'<!DOCTYPE html><meta name="pypi:repository-version" content="1.1"><a href="demo-1.0.tar.gz">demo-1.0.tar.gz</a>'
)
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def policy(answer: httpx.Response) -> dict[str, list[str]]:
    """The directives of the Content-Security-Policy."""
    parts = [part.split() for part in answer.headers["content-security-policy"].split(";")]
    return {name: values for name, *values in parts}


def disposition(answer: httpx.Response) -> tuple[str, str | None]:
    """Type and file name of the Content-Disposition (RFC 6266)."""
    message = Message()
    message["content-disposition"] = answer.headers["content-disposition"]
    return message.get_content_disposition() or "", message.get_filename()


def check_safe(answer: httpx.Response) -> None:
    """Nothing runs, nothing is loaded, no type is guessed, no address told."""
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    found = policy(answer)
    assert found["default-src"] == ["'none'"]
    assert found["frame-ancestors"] == ["'none'"]
    assert set(found["sandbox"]) <= {"allow-downloads"}
    assert "set-cookie" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("name", ["page.html", "image.svg", "run.js", "app.xhtml", "file.pdf", "file"])
def test_what_an_upstream_sends_is_a_download(name: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    """While it comes, from the store, in ranges; whatever the upstream says of it."""
    upstream.pages[f"/{name}"] = Response(
        SCRIPT,
        headers=HTML
        | {
            "Content-Security-Policy": "default-src *",
            "X-Content-Type-Options": "sniff",
            "Access-Control-Allow-Origin": "*",
            "Refresh": "0; url=http://example.com/",
            "Link": "<x.css>; rel=stylesheet",
            "Set-Cookie": "a=b",
            "Clear-Site-Data": '"*"',
            "Strict-Transport-Security": "max-age=1",
        },
    )
    address = server.pin(pin, f"{upstream.url}/{name}")
    for headers in ({}, BROWSER, {"Range": "bytes=0-3"}, {"Range": "bytes=0-1,4-5"}):
        answer = http.get(address, headers=headers)
        assert answer.status_code in (200, 206)
        check_safe(answer)
        assert disposition(answer) == ("attachment", None)
        for header in ("refresh", "link", "clear-site-data", "strict-transport-security"):
            assert header not in answer.headers


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("inline", None),
        ('inline; filename="a b.zip"', "a b.zip"),
        ("attachment; filename=x.tar.gz", "x.tar.gz"),
        ("INLINE;filename*=UTF-8''na%C3%AFve.txt", "naïve.txt"),
        ("form-data; name=x", None),
        ("", None),
        ("; filename=y", "y"),
    ],
)
def test_the_name_that_an_upstream_gives(
    given: str, name: str | None, upstream: Upstream, server: Mirror, pin: str
) -> None:
    upstream.pages["/file"] = Response(b"x", headers={"Content-Disposition": given})
    for _ in range(2):
        assert disposition(http.get(server.pin(pin, f"{upstream.url}/file"))) == ("attachment", name)


def test_an_index_is_shown(upstream: Upstream, server: Mirror, pin: str) -> None:
    """Its links can be followed and downloaded."""
    upstream.pages["/simple/demo/"] = Response(INDEX + SCRIPT, headers=HTML)
    answer = http.get(server.pin(pin, f"{upstream.url}/simple/demo/"), headers=BROWSER)
    check_safe(answer)
    assert "content-disposition" not in answer.headers
    assert policy(answer)["sandbox"] == ["allow-downloads"]
    assert "script" not in answer.text
    assert f"/{pin}/{upstream.url}/simple/demo/demo-1.0.tar.gz" in answer.text


def test_the_dated_index_is_shown(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    running: Mirror = mirror(pypi)
    for path in ("/live/nothing/", "/live/"):
        answer = http.get(running.url + path, headers=BROWSER)
        check_safe(answer)
        assert "content-disposition" not in answer.headers


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429, 500, 503])
def test_what_is_passed_on(status: int, upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/file"] = Response(SCRIPT, status, HTML | {"Set-Cookie": "a=b", "Location": "http://evil.example/"})
    answer = http.get(server.pin(pin, f"{upstream.url}/file"), headers=BROWSER)
    assert answer.status_code == status
    check_safe(answer)
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    "path",
    ["/<script>steal()</script>", "/x/<script>", "/2024-13-01/x/", "/a/http://127.0.0.1:1/<script>", "/live/<b>/"],
)
def test_an_error_of_the_mirror(path: str, server: Mirror) -> None:
    answer = http.get(server.url + path, headers=BROWSER)
    assert answer.status_code >= 400
    check_safe(answer)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_the_page_of_the_mirror(server: Mirror) -> None:
    """Its style and its script are files of its own; a hostile Host is not shown."""
    for host in ("mirror.example", '"><script>steal()</script>'):
        answer = http.get(server.url + "/", headers={"Host": host})
        if answer.status_code == 400:
            continue  # the server refused the header
        assert policy(answer)["default-src"] == ["'none'"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert policy(answer)["script-src"] == ["'self'"]
        assert not re.search(r"<script(?! src=\"/-/static/[\w.?]+\" defer></script>)|\son\w+=", answer.text)
