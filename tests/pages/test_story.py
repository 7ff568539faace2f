"""Where a frozen file is listed and who withholds it: on its page, in `httpcache show`, and to whom it is told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

from tests.support import http
from tests.support.command import run
from tests.support.config import table
from tests.support.index import PIP
from tests.support.lived import command
from tests.support.mirror import Mirror
from tests.support.packages import sdist, wheel
from tests.support.pages import check_inert, entry_links
from tests.support.registries import PyPI
from tests.support.rescued import unlist
from tests.support.upstream import Response, Upstream

HTML = {"Content-Type": "text/html"}


def shown(server: Mirror, address: str, *more: str) -> dict[str, Any]:
    """What the command tells of a frozen file; its text says the same."""
    ran = run("show", address, "--data", server.data, "--json", *more)
    assert ran.returncode == 0, ran.stderr
    row: dict[str, Any] = json.loads(ran.stdout)
    text = run("show", address, "--data", server.data, *more).stdout
    assert re.findall(r"^listed +(\S+)", text, re.MULTILINE) == [each["page"] for each in row["listed"]]
    assert re.findall(r"^withheld +(.*)", text, re.MULTILINE) == ([row["withheld"]] if row["withheld"] else [])
    return row


def on_page(server: Mirror, address: str) -> str:
    """The text of the page of an entry."""
    looked = http.get(f"{server.url}/-/entry/", params={"address": address}).text
    got = http.get(server.url + entry_links(looked)[0]).text
    check_inert(got)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", got)).split())


def test_a_file_of_a_dated_index(pypi: PyPI, mirror: Callable[..., Mirror], tmp_path: Path) -> None:
    """Listed from its upload until it was removed; withheld by a command, by the file, and by the registry."""
    kept, gone = wheel("thing", "1.0"), sdist("thing", "0.9")
    pypi.upload(gone, "2024-01-01T12:00:00Z")
    pypi.upload(kept, "2024-01-02T12:00:00Z")
    server = mirror(pypi)
    addresses = [f"/files/thing/{dist.sha256}/{dist.filename}" for dist in (kept, gone)]
    http.get(f"{server.url}/live/thing/").raise_for_status()
    for address in addresses:
        http.get(server.url + address).raise_for_status()
    unlist(pypi, gone)
    http.get(f"{server.url}/live/thing/").raise_for_status()
    (still,), (once,) = (shown(server, address)["listed"] for address in addresses)
    assert (still["page"], still["until"]) == ("/2024-01-02T12:00:00.000001Z/thing/", None)
    assert (once["since"], once["until"] is not None) == ("2024-01-01T12:00:00Z", True)
    assert kept.filename in http.get(server.url + still["page"]).text
    assert shown(server, addresses[0])["withheld"] is None
    assert "Listed by /2024-01-02T12:00:00.000001Z/thing/" in on_page(server, addresses[0])
    assert "redirected" not in on_page(server, addresses[0])

    config = tmp_path / "rules.toml"
    config.write_text(table("block", project="thing", reason="malware <script>"))
    assert "malware <script>" in shown(server, addresses[0], "--config", str(config))["withheld"]
    command(server, "block", "thing==1.0", "--reason", "steals credentials <b>")
    assert "steals credentials <b>" in shown(server, addresses[0])["withheld"]
    assert "Withheld by this mirror: steals credentials <b>" in on_page(server, addresses[0])
    assert shown(server, addresses[1])["withheld"] is None
    pypi.set_status("thing", "quarantined", "under review")
    http.get(f"{server.url}/live/thing/")
    assert "by the registry: thing is quarantined (under review)" in shown(server, addresses[1])["withheld"]
    assert "Withheld by the registry" in on_page(server, addresses[1])


def test_a_file_behind_a_pin(upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]) -> None:
    """The pages of its pin that list it; a private one is named to nobody who has not logged in."""
    one, closed = upstreams(), upstreams(auth=("user", "pass"))
    file = wheel("demo", "1.0")
    link = f"<a href={one.url}/{file.filename}>x</a>".encode()
    one.pages |= {"/simple/demo/": Response(link, headers=HTML), f"/{file.filename}": file.data}
    server = mirror()
    for pin, page, login in (("open", one, None), ("shut", closed, closed.basic())):
        page.pages["/simple/demo/"] = Response(link, headers=HTML)
        headers = {"Accept": PIP} | ({"Authorization": login} if login else {})
        http.get(server.pin(pin, f"{page.url}/simple/demo/"), headers=headers).raise_for_status()
        http.get(server.pin(pin, f"{one.url}/{file.filename}")).raise_for_status()
        address = f"/{pin}/{one.url}/{file.filename}"
        row = shown(server, address)
        assert [each["page"] for each in row["listed"]] == [f"/{pin}/{page.url}/simple/demo/"]
        assert row["withheld"] is None
        assert (f"Listed by /{pin}/{page.url}/simple/demo/" in on_page(server, address)) == (page is one)
        assert closed.url not in on_page(server, address)


def test_what_no_index_lists(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/file"] = b"x"
    http.get(server.pin(pin, f"{upstream.url}/file")).raise_for_status()
    row = shown(server, f"/{pin}/{upstream.url}/file")
    assert (row["listed"], row["withheld"]) == ([], None)
    assert "Listed by" not in on_page(server, f"/{pin}/{upstream.url}/file")
