"""What the docs say is what there is: every option in a table, commands to copy that do what they promise."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from httpcache.adapter import adapters
from httpcache.command.cli import _parser
from tests.support import http
from tests.support.index import JSON, ask
from tests.support.mirror import Mirror
from tests.support.upstream import CUT, Response, Upstream

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TABLES = README + (ROOT / "docs/security.md").read_text()  # the bounds are in the second


def options(command: str) -> set[str]:
    """The options of a command."""
    parser = _parser(list(adapters()))
    (commands,) = (action for action in parser._actions if isinstance(action.choices, dict))
    return set(re.findall(r"--[a-z][a-z-]+", commands.choices[command].format_help())) - {"--help"}


def test_every_option_is_in_a_table_and_no_other() -> None:
    rows = re.findall(r"^\| (`--[^|]*) \|", TABLES, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"--[a-z][a-z-]+", row)}
    assert listed == options("serve")
    assert options("capture") <= listed


def test_the_live_backup_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask of the shell: the index has the key of the scopes, the blobs are private copies."""
    (tmp_path / "data/index").mkdir(parents=True)
    (tmp_path / "data/blobs/ab").mkdir(parents=True, mode=0o755)
    (tmp_path / "data/blobs/ab/abcd").write_text("secret")
    (tmp_path / "data/VERSION").write_text("2")
    with sqlite3.connect(tmp_path / "data/index/cache.db") as index:
        index.execute("create table kept (value)")
    (lines,) = (block for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if ".backup(" in block)
    subprocess.run(["sh", "-ec", f"umask 022\n{lines}"], cwd=tmp_path, check=True)
    assert (tmp_path / "backup/blobs/ab/abcd").read_text() == "secret"
    for path in (tmp_path / "backup", tmp_path / "backup/index", tmp_path / "backup/index/cache.db"):
        assert path.stat().st_mode & 0o077 == 0, path


# What an answer says of where it came from


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429, 500, 503])
def test_an_error_of_an_upstream_says_so(status: int, upstream: Upstream, server: Mirror, pin: str) -> None:
    """Of a file, a distribution file, its metadata, an index page, and the upstream's own bytes."""
    upstream.otherwise = lambda _: Response(b"no", status, {"WWW-Authenticate": "Basic"} if status == 401 else {})
    for path in ("x", "x-1.tar.gz", "x-1-py3-none-any.whl.metadata", "simple/x/"):
        for raw in ("", "raw/"):
            for accept in (JSON, "text/html", "*/*"):
                got = ask(f"{server.url}/{pin}/{raw}{upstream.url}/{path}", accept)
                assert got.status_code in (status, 502), got.text
                assert re.match(
                    r"httpcache; (hit|fwd=uri-miss; (fwd-status=\d{3}|detail=\w+))", got.headers["cache-status"]
                )


def test_what_is_no_answer_says_so(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/cut"] = Response([CUT], headers={"Content-Length": "5"})
    upstream.pages["/loop"] = Response(b"", 302, {"Location": "/loop"})
    upstream.pages["/part"] = Response(b"x", 206)
    for place in ("/cut", "/loop", "/part"):
        got = http.get(server.pin(pin, upstream.url + place))
        assert (got.status_code, got.headers["cache-status"]) == (502, "httpcache; fwd=uri-miss; detail=BadUpstream")
    upstream.pages["/x"] = b"0123456789"
    for _ in range(2):
        for headers in ({"Range": "bytes=50-"}, {"If-Match": '"x"'}):
            got = http.get(server.pin(pin, f"{upstream.url}/x"), headers=headers)
            assert got.status_code in (412, 416)
            assert got.headers["cache-status"].startswith("httpcache; ")
    upstream.stop()
    got = http.get(server.pin(pin, f"{upstream.url}/y"))
    assert (got.status_code, got.headers["cache-status"]) == (502, "httpcache; fwd=uri-miss; detail=Unreachable")


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell")
def test_examples_of_a_shell_are_ones() -> None:
    """Every block of shell lines in the README can be read by a shell."""
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        subprocess.run(["sh", "-n"], input=block.encode(), check=True)
