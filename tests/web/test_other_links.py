"""What an index page links besides its files is there for browsers and `wget -r`, and not for installers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clients import Clients
from tests.support.index import BROWSER, PIP, ask, document, hrefs, html_page
from tests.support.mirror import Mirror
from tests.support.registries import HTML
from tests.support.upstream import Request, Response, Upstream, redirect

LINKS = [  # on /dir/thing/; what they lead to, or None
    ("../", "{origin}/dir/"),
    ("sub/", "{origin}/dir/thing/sub/"),
    ("/readme.txt?a=b", "{origin}/readme.txt?a=b"),
    ("thing-1.zip.asc", "{origin}/dir/thing/thing-1.zip.asc"),
    ("http://127.0.0.1:9/thing-1.zip.sig", "http://127.0.0.1:9/thing-1.zip.sig"),
    ("a%2Bb c", "{origin}/dir/thing/a%2Bb%20c"),
    ("sub/", None),  # it is there
    ("?C=M;O=A", None),
    ("#top", None),
    ("./", None),
    ("http://127.0.0.1:9/elsewhere/", None),
    ("https://127.0.0.1/", None),
    ("mailto:someone", None),
    ("javascript:alert(1)", None),
    ("", None),
]


def test_which_links(upstream: Upstream, server: Mirror, pin: str) -> None:
    page = html_page("thing-1.zip", *(link for link, _ in LINKS))
    upstream.pages["/dir/thing/"] = page
    address = server.pin(pin, f"{upstream.url}/dir/thing/")
    file = f"/{pin}/{upstream.url}/dir/thing/thing-1.zip"
    others = [f"/{pin}/{leads.format(origin=upstream.url)}" for _, leads in LINKS if leads]
    for accept in (BROWSER, "*/*"):
        assert hrefs(ask(address, accept).content) == [file, *others]
    for accept in ("text/html", HTML):
        assert hrefs(ask(address, accept).content) == [file]
    assert [each["url"] for each in document(address)["files"]] == [file]
    assert ask(address, PIP).json()["files"] == document(address)["files"]


@pytest.mark.parametrize("root", ["", "/prefix"])
def test_wget_r_of_a_tree_with_index_pages(
    root: str, upstream: Upstream, mirror: Callable[..., Mirror], clients: Clients, tmp_path: Path
) -> None:
    """Flat pages in folders, their signatures beside the files: all of it, from the store too; nothing above it."""
    tree = {
        "/": html_page("secret.txt"),
        "/dir/": html_page("../", "sub", "thing-1.zip", "thing-1.zip.asc"),
        "/dir/sub/": html_page("../", "deep-1.zip", "/dir/readme.txt"),
    }
    tree |= {path: Response(path.encode()) for path in ("/dir/thing-1.zip", "/dir/thing-1.zip.asc", "/dir/readme.txt")}
    tree |= {path: Response(path.encode()) for path in ("/dir/sub/deep-1.zip", "/secret.txt")}

    def page(request: Request) -> Response:
        found = tree.get(request.path)
        return found or (redirect(f"{request.path}/") if f"{request.path}/" in tree else Response(b"", 404))

    upstream.otherwise = page
    server = mirror(*(["--root-path", root] if root else []))
    for place in (tmp_path / "first", tmp_path / "again"):
        place.mkdir()
        start = f"{server.url}{root}/pin/{upstream.url}/dir/"
        clients.wget("-r", "-np", "-nH", "-e", "robots=off", start, cwd=place).checked()
        upstream.stop()
        got = {path.name: path.read_bytes() for path in place.rglob("*") if path.suffix in (".zip", ".asc", ".txt")}
        assert got == {
            path.rpartition("/")[2]: path.encode() for path in tree if path.count(".") and "secret" not in path
        }
