"""The start page: the mirror's address as this visitor has it, a date, and nothing that a visitor sends runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from html import unescape

import pytest

from tests.support import http
from tests.support.mirror import Mirror
from tests.support.pages import BROWSER, check_inert

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onfocus='alert(1)",
    "{{ 7*7 }}",
    "javascript:alert(1)",
    "</title><script>",
]


def lines(text: str) -> list[str]:
    """The lines to copy on a page."""
    found = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", text, re.DOTALL)
    return [unescape(re.sub(r"<[^>]+>", "", line)) for line in found]


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({"Host": "mirror.example"}, "http://mirror.example"),
        ({"Host": "mirror.example:8080"}, "http://mirror.example:8080"),
        ({"Host": "[::1]:8080"}, "http://[::1]:8080"),
        ({"Host": "mirror.example", "X-Forwarded-Proto": "https"}, "https://mirror.example"),
        ({"Host": "mirror.example", "X-Forwarded-Proto": "gopher"}, "http://mirror.example"),
    ],
)
def test_the_address_is_that_of_the_visitor(headers: dict[str, str], address: str, server: Mirror) -> None:
    today = datetime.now(UTC).date().isoformat()
    got = http.get(f"{server.url}/", headers=headers)
    assert got.status_code == 200
    assert any(line.startswith(f"pip install -i {address}/{today}/") for line in lines(got.text))
    assert f"curl -fLO {address}/tools-{today}/https://example.com/file.tar.gz" in lines(got.text)
    plain = address.startswith("http:") and "::1" not in address
    assert any("--trusted-host" in line for line in lines(got.text)) is plain


@pytest.mark.parametrize("host", ["a b", "a/b", 'a"b', "<script>", "a@b", "a:b", ""])
def test_a_host_that_is_none_is_not_shown(host: str, server: Mirror) -> None:
    got = http.get(f"{server.url}/", headers={"Host": host})
    if got.status_code == 200:  # else the server has refused it
        assert f"{server.url}/" in got.text
        assert host == "" or f"//{host}/" not in unescape(got.text)


def test_a_date(server: Mirror) -> None:
    got = http.get(f"{server.url}/?date=2024-01-02")
    assert f"uv pip install --default-index {server.url}/2024-01-02/ PACKAGE" in lines(got.text)
    assert all(server.url not in line or "2024-01-02" in line for line in lines(got.text))


@pytest.mark.parametrize("date", ["2024-13-01", "20240102", "2999-01-01", "today", "2024-01-02T00:00:00", *HOSTILE])
def test_a_date_that_is_none(date: str, server: Mirror) -> None:
    """Said beside the field; the lines are as of today."""
    got = http.get(f"{server.url}/", params={"date": date})
    assert got.status_code == 400
    assert 'role="alert"' in got.text
    check_inert(got.text)
    assert any(datetime.now(UTC).date().isoformat() in line for line in lines(got.text))


def test_the_headers_let_nothing_in(server: Mirror) -> None:
    for path in ("/", "/-/nothing"):
        got = http.get(server.url + path, headers=BROWSER)
        policy = got.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert got.headers["referrer-policy"] == "no-referrer"
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers["cache-control"] == "private, no-store"
        check_inert(got.text)


def test_static_files_are_kept_by_their_digest(server: Mirror) -> None:
    page = http.get(f"{server.url}/").text
    for path in re.findall(r'(?:href|src)="(/-/static/[^"]+)"', page):
        got = http.get(server.url + path)
        assert got.status_code == 200
        assert "immutable" in got.headers["cache-control"]
        assert http.get(server.url + path.partition("?")[0]).headers["cache-control"] == "no-cache"
    for name in ("..%2fhome.py", "../templates/base.html", "nothing.css", ""):
        assert http.get(f"{server.url}/-/static/{name}").status_code == 404


@pytest.mark.parametrize("path", ["/", "/-/static/style.css", "/-/nothing"])
def test_head_is_like_get(path: str, server: Mirror) -> None:
    got, head = http.get(server.url + path), http.head(server.url + path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/-/nothing", "/-/static/style.css"])
def test_other_methods(method: str, path: str, server: Mirror) -> None:
    got = http.request(method, server.url + path, headers=BROWSER)
    assert got.status_code == 405
    assert got.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("accept", ["text/html", "*/*"])
@pytest.mark.parametrize("path", ["/-/nothing", "/-/", "/-/<script>alert(1)</script>", "/-/%ff", "/-/%00"])
def test_an_error_is_a_page_for_browsers_and_text_for_others(accept: str, path: str, server: Mirror) -> None:
    got = http.get(server.url + path, headers={"Accept": accept})
    assert got.status_code == 404
    assert got.headers["content-type"].startswith("text/html" if accept == "text/html" else "text/plain")
    assert "<script>" not in got.text


def test_below_a_root_path(mirror: Callable[..., Mirror]) -> None:
    """All links stay below it."""
    server = mirror("--root-path", "/mirror")
    got = http.get(f"{server.url}/mirror/?date=2024-01-02")
    assert f"pip install -i {server.url}/mirror/2024-01-02/ PACKAGE" in lines(got.text)
    links = re.findall(r'(?:href|src|action)="(/[^"]*)"', got.text)
    assert links
    for link in links:
        assert link.startswith("/mirror/")
        assert http.get(server.url + link).status_code == 200
