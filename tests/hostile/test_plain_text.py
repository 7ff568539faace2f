"""Texts of strangers that people see on pages, in errors, logs and commands: no terminal obeys anything in them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpcache.errors import MirrorError, one_line, plain
from tests.support import http
from tests.support.command import run
from tests.support.config import configured, table
from tests.support.index import ago, ask
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.rawupstream import End, RawUpstream, answer
from tests.support.registries import HTML, JSON, PyPI

HOSTILE = "clear \x1b[2J title \x1b]0;x\x07 bell \x08 csi \x9b31m turn \u202egnp.exe \x7f back \r over"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


def harmless(text: str) -> bool:
    """Whether a terminal can be shown a text, after checking that the hostile one is in it."""
    assert "clear " in text
    return OBEYED.search(text.replace("\n", " ")) is None


@given(st.text())
def test_what_is_plain(text: str) -> None:
    assert not OBEYED.search(plain(text))
    assert plain(plain(text)) == plain(text)
    assert "\n" not in one_line(text)
    if text.isprintable():
        assert one_line(text) == text
    assert not OBEYED.search(MirrorError(text).text)


@pytest.fixture
def told_of(pypi: PyPI) -> PyPI:
    """A registry that writes such texts wherever it can."""
    for project in ("quarantined", "archived", "blocked", "yanked"):
        pypi.upload(wheel(project, "1.0", requires_python=">=3.8"), ago(days=3))
    pypi.set_status("quarantined", "quarantined", HOSTILE)
    pypi.set_status("archived", "archived", HOSTILE)
    pypi.yank(wheel("yanked", "1.0"), HOSTILE)
    return pypi


def test_reasons(told_of: PyPI, tmp_path: Path) -> None:
    """Of the registry, of the operator's file, and of an advisory: on pages, in the 403 of a file, and in commands."""
    config = table("block", project="blocked", reason=HOSTILE) + table("advisories", path="osv")
    osv = tmp_path / "mirror" / "osv"
    osv.mkdir(parents=True)
    affected = [{"package": {"ecosystem": "PyPI", "name": "archived"}, "versions": ["1.0"]}]
    advisory = {"id": "MAL-1", "modified": "2024-01-01T00:00:00Z", "summary": HOSTILE, "affected": affected}
    (osv / "MAL-1.json").write_text(json.dumps(advisory))
    with configured(tmp_path / "mirror", config, told_of.url) as server:
        for project in ("quarantined", "archived", "blocked", "yanked"):
            page = f"{server.url}/live/{project}/"
            assert harmless(ask(page, HTML).text)
            assert harmless(re.sub(r"(?<!\\)\\u(....)", lambda escape: chr(int(escape[1], 16)), ask(page, JSON).text))
            if project != "yanked":
                dist = wheel(project, "1.0", requires_python=">=3.8")
                got = http.get(f"{server.url}/files/{project}/{dist.sha256}/{dist.filename}")
                assert got.status_code == 403
                assert harmless(got.text)
        told_of.delete(wheel("yanked", "1.0"))
        for arguments in (("history", "quarantined"), ("history", "archived"), ("history", "yanked")):
            ran = run(*arguments, "--data", server.data)
            assert harmless(ran.stdout)
    assert not OBEYED.search(server.log().replace("\n", " "))


def test_addresses_and_headers(server: Mirror, pin: str) -> None:
    """What an upstream answers with, and what a client asks for."""
    before = len(server.log())
    with RawUpstream() as raw:
        place = "Location: http://h\x1b[2J\x9b31m/".encode("latin-1")
        raw.play("/moved", [answer(b"", place, status="302 Found"), End.KEEP])
        raw.play(
            "/named", [answer(b"x", b'Content-Disposition: attachment; filename="a\x9b31m\xe2\x80\xae"'), End.KEEP]
        )
        raw.play("/odd", [b"HTTP/1.1 200 \x1b[2J\r\nContent-\x1b[2J: 1\r\n\r\n"])
        texts = [http.get(server.pin(pin, f"{raw.url}{path}")).text for path in ("/moved", "/odd", "/%1b[2J%c2%9b31m")]
        texts += [
            http.get(f"{server.url}/{path}").text for path in ("%1b[2J", "p/http://h%1b[2J%C2%9B/", "2024-%1b[2J/x/")
        ]
        assert http.get(server.pin(pin, f"{raw.url}/named")).content == b"x"
        ran = run("show", f"/{pin}/{raw.url}/named", "--data", server.data)
    for text in (*texts, server.log()[before:], ran.stdout):
        assert not OBEYED.search(text.replace("\n", " "))
    assert "\\x9b31m" in ran.stdout
