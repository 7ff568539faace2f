"""`httpcache key`: what it prints, what it says of mistakes, and what `--require-keys` then lets in."""

from __future__ import annotations

import json
import re
from pathlib import Path

import anyio
import pytest

from httpcache.command.cli import main
from httpcache.store import layout
from httpcache.store.local import LocalStore
from tests.support.command import run, told


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder as a server has made it."""
    folder = tmp_path / "data"
    layout.prepare(folder)
    LocalStore(folder).close()
    return folder


def key(data: Path, *arguments: str) -> int:
    """Run a command in this process."""
    return main(["key", *arguments, "--data", str(data)])


def test_a_key_from_its_making_to_its_end(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert key(data, "add", "ci") == 0
    made = capsys.readouterr()
    assert re.fullmatch(r"hck_[A-Za-z0-9_-]{32}\n", made.out)
    assert made.err == "the key 'ci' opens everything. It is shown this once:\n"
    limits = ["--pins", "tools,more", "--pins", "x", "--registries", "pypi", "--read-only", "--rate", "600/min"]
    assert key(data, "add", "some", *limits, "--expires", "2999-01-31") == 0
    assert (
        "opens the pins more, tools, x and the registries pypi, read-only, at most 600/min." in capsys.readouterr().err
    )
    assert key(data, "list") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"ci  since \S+Z, opens everything", first)
    assert re.fullmatch(r"some  since \S+Z until 2999-01-31T00:00:00Z, opens the pins .*, at most 600/min", second)
    assert key(data, "revoke", "ci") == 0
    assert capsys.readouterr().out == "revoked: ci\n"
    assert key(data, "add", "ci", "--expires", "90d") == 0  # the name is free again
    capsys.readouterr()
    assert key(data, "list", "--json", "--all") == 0
    old, found, new = map(json.loads, capsys.readouterr().out.splitlines())
    assert (old["name"], old["state"], new["name"], new["state"]) == ("ci", "revoked", "ci", "active")
    assert old["revoked"].endswith("Z")
    assert found.pop("added").endswith("Z")
    assert found == {
        "name": "some", "state": "active", "expires": "2999-01-31T00:00:00Z", "revoked": None,
        "pins": ["more", "tools", "x"], "registries": ["pypi"], "read_only": True, "rate": "600/min",
    }  # fmt: skip
    assert made.out.strip() not in json.dumps([old, found, new])


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["revoke", "ci"], 1, "there is no key 'ci': `httpcache key list` lists them"),
        (["add", "two"], 1, "there is a key 'two' already: choose another name, or revoke that one first"),
        (["add", "a b"], 2, "'a b' is not the name of a key: use up to 63 letters"),
        (["add", "x" * 64], 2, "is not the name of a key"),
        (["add", "x", "--pins", "tools-2024-01-02"], 2, "--pins: 'tools-2024-01-02' ends in a date: use 'tools'"),
        (["add", "x", "--pins", "a/b"], 2, "--pins: 'a/b' is not a valid pin name"),
        (["add", "x", "--registries", "In/ternal"], 2, "--registries: 'In/ternal' is not the name of a registry"),
        (["add", "x", "--expires", "soon"], 2, "--expires soon: use a number of days or weeks"),
        (["add", "x", "--expires", "2020-01-01"], 2, "--expires 2020-01-01: use a number of days or weeks"),
        (["add", "x", "--expires", "0d"], 2, "or a date to come, 2030-01-31"),
        (["add", "x", "--rate", "10"], 2, "--rate 10: use a number of requests in a period, such as 10/s"),
        (["add", "x", "--rate", "0/s"], 2, "--rate 0/s"),
        (["add", "x", "--rate", "1/day"], 2, "--rate 1/day"),
    ],
)
def test_mistakes(arguments: list[str], code: int, text: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that says what to do; nothing is added, and nothing but the line printed."""
    assert key(data, "add", "two") == 0
    capsys.readouterr()
    assert key(data, *arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("httpcache: ")
    assert printed.err.count("\n") == 1
    assert text in printed.err
    assert key(data, "list") == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_what_is_no_store(tmp_path: Path) -> None:
    assert "is not the data folder of a mirror" in told(run("key", "add", "ci", "--data", tmp_path / "none"))


def test_a_log_that_cannot_be_read_is_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the command; a server answers nobody then."""

    async def spoil() -> None:
        from httpcache.store.log import Log

        store = LocalStore(data)
        await Log(store, "httpcache/ keys").append(0, b"\xc1")
        store.close()

    anyio.run(spoil)
    assert key(data, "list") == 3
    assert "the log of access keys is damaged" in capsys.readouterr().err
