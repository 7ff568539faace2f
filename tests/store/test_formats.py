"""Data folders that earlier versions wrote: they are opened, and every address answers as it did.

`formats/` has a folder of each format, made by the version that wrote it, and the answers that it gave.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import sqlite3
import tarfile
from collections import Counter, namedtuple
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from httpcache.command.users import beside
from httpcache.errors import StoreError, StoreFull
from httpcache.store import layout, takeover
from httpcache.store.local import LocalStore
from httpcache.store.log import Log
from httpcache.store.takeover import is_due, take_over
from tests.support import http
from tests.support.command import run
from tests.support.mirror import Mirror, free_port

FORMATS: Final = Path(__file__).parent / "formats"
ALL: Final = sorted(path.name.removesuffix(".json") for path in FORMATS.glob("*.json"))


def unpack(name: str, folder: Path) -> Any:
    """Put a kept data folder at `folder`/data; return what was said of it."""
    with tarfile.open(FORMATS / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return json.loads((FORMATS / f"{name}.json").read_text())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A data folder of format 2."""
    unpack("format-2", tmp_path)
    return tmp_path / "data"


def contents(data: Path) -> dict[str, bytes]:
    """All entries of a folder."""

    async def read() -> dict[str, bytes]:
        with closing(LocalStore(data)) as store:
            assert await store.problems() == []
            return {key: value async for key, value in store.entries("")}

    return anyio.run(read)


@pytest.mark.parametrize("name", ALL)
def test_every_address_answers_as_it_did(name: str, tmp_path: Path, mirror: Callable[..., Mirror]) -> None:
    running = Mirror(tmp_path, "")
    kept = unpack(name, tmp_path)
    running.pypi_upstream = kept["pypi_upstream"]
    running.start("--offline")
    try:
        for path, accept, status, digest in kept["answers"]:
            answer = http.get(running.url + path, headers={"Accept": accept})
            assert (path, answer.status_code, hashlib.sha256(answer.content).hexdigest()) == (path, status, digest)
        for command, wanted in ((("ls",), kept["ls"]), (("verify",), None)):
            done = run(*command, "--data", running.data)
            assert (done.returncode, done.stderr) == (0, "")
            assert wanted is None or done.stdout.split("\n") == wanted
        running.stop()
        assert "Traceback" not in running.log()
        assert not list(running.data.glob("index/cache.db*"))
    finally:
        running.kill()


def test_it_says_what_it_does(old: Path) -> None:
    lines: list[str] = []
    take_over(old, lines.append)
    assert "47 entries" in lines[0]
    assert "interrupted" in lines[0]
    assert lines[-1] == "the data folder has been taken over"
    assert not is_due(old)


def test_one_that_is_in_use_is_left_alone(old: Path) -> None:
    with beside(old):
        done = run("serve", "--offline", "--data", old, "--port", f"{free_port()}")
    assert done.returncode == 1
    assert "stop it" in done.stderr
    assert is_due(old)


@pytest.mark.parametrize("command", [("ls",), ("verify",), ("captures",)], ids=" ".join)
def test_other_commands_say_what_to_do(command: tuple[str, ...], old: Path) -> None:
    done = run(*command, "--data", old)
    assert done.returncode == 3
    assert "httpcache serve" in done.stderr
    assert is_due(old)


class Killed(BaseException):
    """What ends a takeover in the middle."""


@pytest.mark.parametrize("moment", range(12))
def test_one_that_is_interrupted_goes_on(
    moment: int, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every step: before and after each page, before the format is written, and before the old index is removed."""
    shutil.copytree(old, tmp_path / "whole")
    take_over(tmp_path / "whole", lambda line: None)
    monkeypatch.setattr(takeover, "PAGE", 10)
    steps = iter(range(moment))

    def stepping(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            if next(steps, None) is None:
                raise Killed
            return function(*arguments)

        return step

    with monkeypatch.context() as patched:
        for name in ("_add", "_count", "write_version", "remove_earlier"):
            patched.setattr(takeover, name, stepping(getattr(takeover, name)))
        try:
            take_over(old, lambda line: None)
        except Killed:
            assert is_due(old) or layout.version(old) == layout.VERSION
    if is_due(old):
        take_over(old, lambda line: None)
    assert contents(old) == contents(tmp_path / "whole")


def test_the_values_of_logs_keep_their_order(old: Path) -> None:
    take_over(old, lambda line: None)
    names = Counter(key.rpartition("/")[0] for key in contents(old) if key.startswith("l/"))
    assert max(names.values()) > 10

    async def read() -> list[bytes]:
        with closing(LocalStore(old)) as store:
            return await Log(store, "pypi/one").read()

    values = anyio.run(read)
    assert len(values) in names.values()
    assert len(values) > 10


def test_a_disk_without_room(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000, 999, 1))
    with pytest.raises(StoreFull, match="make room"):
        take_over(old, lambda line: None)
    assert is_due(old)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE Cache SET mode = 4, value = ? WHERE key = (SELECT min(key) FROM Cache)",
        "UPDATE Cache SET raw = 0, key = ? WHERE key = (SELECT min(key) FROM Cache)",
    ],
    ids=["value", "key"],
)
def test_what_this_program_did_not_write_is_refused(change: str, old: Path) -> None:
    """diskcache would unpickle it."""
    with closing(sqlite3.connect(old / "index/cache.db")) as database, database:
        database.execute(change, (pickle.dumps(1),))
    with pytest.raises(StoreError, match="did not write"):
        take_over(old, lambda line: None)
    assert is_due(old)


def test_a_damaged_entry_stays_damaged(old: Path) -> None:
    with closing(sqlite3.connect(old / "index/cache.db")) as database, database:
        for prefix in ("r/", "l/"):
            database.execute(
                "UPDATE Cache SET value = CAST(value || 'x' AS BLOB) WHERE key = "
                "(SELECT min(key) FROM Cache WHERE key > ?)",
                (prefix,),
            )
    take_over(old, lambda line: None)

    async def check() -> None:
        with closing(LocalStore(old)) as store:
            assert len(await store.problems()) == 2
            assert sum(pin.entries for pin in await store.index.pins()) == 7

    anyio.run(check)


@pytest.mark.parametrize("left", ["missing", "empty"])
def test_one_that_has_lost_its_index(left: str, old: Path) -> None:
    index = old / "index" / "cache.db"
    index.unlink() if left == "missing" else index.write_bytes(b"")
    with pytest.raises(StoreError, match="missing or empty"):
        take_over(old, lambda line: None)
