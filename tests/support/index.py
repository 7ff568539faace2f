"""Index pages over plain HTTP: what a test asks a mirror for, and what it puts on an upstream by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import httpx

from tests.support import http
from tests.support.mirror import Mirror
from tests.support.registries import HTML, JSON, PyPI
from tests.support.upstream import Response, Upstream

PIP: Final = f"{JSON}, {HTML}; q=0.1, text/html; q=0.01"
UV: Final = f"{JSON}, {HTML};q=0.2, text/html;q=0.01"
POETRY: Final = f"{JSON}, */*;q=0.1"
BROWSER: Final = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


def instant() -> str:
    """This instant as an address: every observation made before is before it, every later one after it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def ago(**span: float) -> str:
    """A moment in the past as an upload time."""
    return (datetime.now(UTC) - timedelta(**span)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def ask(address: str, accept: str = PIP, **headers: str) -> httpx.Response:
    """An index page as an installer asks for it; redirects are not followed."""
    return http.get(address, headers={"Accept": accept, **headers})


def document(address: str, **headers: str) -> dict[str, Any]:
    """The JSON of a page that is there."""
    answer = ask(address, JSON, **headers)
    assert answer.status_code == 200, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == JSON
    found = answer.json()
    assert isinstance(found, dict)
    return found


def filenames(address: str) -> list[str]:
    """The files on a page; none where there is no such page."""
    if ask(address, JSON).status_code == 404:
        return []
    return sorted(file["filename"] for file in document(address)["files"])


def hrefs(page: bytes | str) -> list[str]:
    """The links of an HTML page in their order, as an HTML parser sees them."""
    text = page.decode() if isinstance(page, bytes) else page
    return [unescape(link) for link in re.findall(r'<a[^>]* href="([^"]*)"', text)]


def json_page(page: Mapping[str, object], **headers: str) -> Response:
    """An answer with PEP 691 JSON."""
    return Response(json.dumps(page).encode(), 200, {"Content-Type": JSON, **headers})


def json_file(url: str, **more: object) -> dict[str, object]:
    """One entry of `files`, of which only what must be there is."""
    return {"filename": unquote(url.partition("?")[0].rpartition("/")[2]), "url": url, "hashes": {}, **more}


def json_files(*files: Mapping[str, object], **more: object) -> dict[str, object]:
    """A project's page with these files."""
    return {"meta": {"api-version": "1.0"}, "name": "thing", "files": list(files), **more}


def html_page(*links: str, head: str = "", content_type: str | None = "text/html", **headers: str) -> Response:
    """An answer with an HTML page of these links, which have no text; each is the whole `href`."""
    body = f"<!DOCTYPE html><html><head>{head}</head><body>{''.join(anchors(links))}</body></html>"
    return Response(body.encode(), 200, ({"Content-Type": content_type} if content_type else {}) | headers)


def anchors(links: Iterable[str]) -> list[str]:
    """Anchors to these addresses."""
    return [f'<a href="{link}">a file</a><br>\n' for link in links]


@contextmanager
def shared_pypi(folder: Path, *options: str) -> Iterator[tuple[PyPI, Mirror]]:
    """A PyPI and a mirror in front of it for many tests, each with projects of its own and none that stops them."""
    with Upstream() as index, Upstream(ranges=True) as files:
        pypi = PyPI(index, files)
        server = Mirror(folder, pypi.url, options).start()
        try:
            yield pypi, server
            server.stop()
        finally:
            server.kill()
        assert index.errors == files.errors == []
