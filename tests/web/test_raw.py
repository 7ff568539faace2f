"""`/<pin>/raw/<upstream URL>`: the same frozen copy as without `raw/`, byte for byte as it came."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from httpcache.target import parse_target, split_path
from tests.support import http
from tests.support.clients import Clients
from tests.support.command import run
from tests.support.index import BROWSER, PIP, hrefs, html_page
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.upstream import Response, Upstream

THING = wheel("thing", "1.0")
ACCEPTS = [PIP, "text/html", BROWSER, "*/*"]


@pytest.mark.parametrize(
    "form",
    [
        "raw/https://h/x",
        "raw//https://h/x",
        "/raw/https:/h/x",
        "raw/https%3A//h/x",
        "raw/HTTPS://h/x",
        "raw/https%3a%2f%2fh/x",
    ],
)
def test_forms_of_the_address(form: str) -> None:
    path = f"/pin/{form}"
    assert split_path(path).raw
    assert parse_target(path) == parse_target("/pin/https://h/x")


@pytest.mark.parametrize("form", ["https://h/raw/https://h/x", "https://raw/x", "raw/x", "raw", "raws/https://h/x"])
def test_what_is_another_address(form: str) -> None:
    found = split_path(f"/pin/{form}")
    assert (found.rest, found.raw) == (form, False)


def test_a_page_has_its_own_bytes_beside_the_rewritten_ones(upstream: Upstream, server: Mirror, pin: str) -> None:
    """One request, one frozen page; whichever is asked for first."""
    body = html_page("/files/thing-1.zip").body
    assert isinstance(body, bytes)
    for number, raw_first in enumerate((True, False)):
        packed = gzip.compress(body)
        headers = {
            "Content-Type": "text/html",
            "Content-Encoding": "gzip",
            "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT",
        }
        upstream.pages[f"/simple/{number}/"] = Response(packed, headers=headers)
        addresses = [server.pin(pin, f"{before}{upstream.url}/simple/{number}/") for before in ("raw/", "")]
        for address in addresses if raw_first else reversed(addresses):
            for accept in ACCEPTS:
                with http.stream("GET", address, headers={"Accept": accept}) as answer:
                    body = b"".join(answer.iter_raw())
                if "/raw/" in address:
                    assert body == packed
                    assert {name: answer.headers[name] for name in map(str.lower, headers)} == {
                        name.lower(): value for name, value in headers.items()
                    }
                else:
                    assert answer.status_code == 200
        assert upstream.count(f"/simple/{number}/") == 1


def test_files_below_it_are_held_to_what_was_announced(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages |= {"/simple/thing/": html_page(f"{THING.filename}#sha256={THING.sha256}")}
    upstream.pages[f"/simple/thing/{THING.filename}"] = b"another"
    page = server.pin(pin, f"raw/{upstream.url}/simple/thing/")
    assert http.get(page).status_code == 200
    for address in (page + THING.filename, page.replace("/raw/", "/") + THING.filename):
        assert http.get(address).status_code == 502
    upstream.pages[f"/simple/thing/{THING.filename}"] = THING.data
    assert http.get(page + THING.filename).content == THING.data
    assert http.get(page + THING.filename + ".metadata").content == THING.metadata
    upstream.stop()
    assert http.get(page.replace("/raw/", "/") + THING.filename).content == THING.data


def test_wget_follows_relative_links_in_it(
    upstream: Upstream, server: Mirror, pin: str, clients: Clients, tmp_path: Path
) -> None:
    upstream.pages |= {
        "/dir/": html_page("sub/", "readme.txt", head=""),
        "/dir/sub/": html_page("thing-1.zip"),
        "/dir/sub/thing-1.zip": b"zip",
        "/dir/readme.txt": b"read",
    }
    clients.wget(
        "-r", "-np", "-nH", "--cut-dirs=5", server.pin(pin, f"raw/{upstream.url}/dir/"), cwd=tmp_path
    ).checked()
    assert {path.name for path in tmp_path.rglob("*.*") if path.is_file()} >= {"thing-1.zip", "readme.txt"}


def test_an_operator_can_name_it(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """`show` and `forget` take the address in either form, with the mirror's own in front of it or not."""
    upstream.pages["/simple/thing/"] = html_page("thing-1.zip")
    server: Mirror = mirror()
    address = server.pin("pin", f"raw/{upstream.url}/simple/thing/")
    assert hrefs(http.get(address).text) == ["thing-1.zip"]
    for form in (address, address.removeprefix(server.url)):
        shown = run("show", form, "--data", server.data)
        assert (shown.returncode, "sha256" in shown.stdout) == (0, True)
    assert run("forget", address, "--yes", "--data", server.data).returncode == 0
    assert run("show", address, "--data", server.data).returncode != 0
