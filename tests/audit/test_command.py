"""`httpcache audit` on a store, as an operator runs it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio

from httpcache.store import keys
from httpcache.store.layout import DATABASE
from httpcache.store.local import LocalStore
from httpcache.store.log import Log
from httpcache.store.seal import sealed
from tests.support.command import run


def test_a_finding_is_printed(tmp_path: Path) -> None:
    """As a line for people, and as an object for programs; the exit code is 1."""

    async def begin() -> None:
        with closing(LocalStore(tmp_path / "data")) as store:
            await Log(store, "pypi/lib").append(0, b"as it was")

    anyio.run(begin)
    ran = run("audit", "--data", tmp_path / "data")
    assert (ran.returncode, ran.stderr) == (0, "")
    key = keys.numbered(keys.log("pypi/lib"), 0)
    with closing(sqlite3.connect(tmp_path / "data" / DATABASE)) as database, database:
        database.execute("UPDATE entries SET value = ? WHERE key = ?", (sealed(key, b"other"), key))
    ran = run("audit", "--data", tmp_path / "data")
    assert (ran.returncode, ran.stderr, ran.stdout.count("found  ")) == (1, "", 1)
    ran = run("audit", "--data", tmp_path / "data", "--json")
    finding, total = map(json.loads, ran.stdout.splitlines())
    assert (ran.returncode, finding["kind"], finding["entry"], total["total"]["findings"]) == (1, "changed", 0, 1)
    assert "are not those that were added" in finding["finding"]
