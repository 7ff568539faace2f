"""What is particular to the embedded store: its folder, and what is foreign or damaged in it."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from httpcache.errors import Damaged, StoreError
from httpcache.store.local import LocalStore
from httpcache.store.store import SMALL
from tests.support.engines import part, record_of

BODY = b"x" * (SMALL + 1)


def test_what_is_in_the_folder(tmp_path: Path) -> None:
    """Names that a person finds in the documentation, closed to others; blobs by the hash of their bytes."""
    folder, record = tmp_path / "store", record_of(BODY)
    with closing(LocalStore(folder)) as store:
        anyio.run(store.freeze, "r/a", record, part(tmp_path, BODY))
    assert {path.name for path in folder.iterdir()} == {"VERSION", "index", "blobs", "spool", "lock", "reserve"}
    assert {path.name for path in (folder / "index").iterdir()} == {"index.db", "changes"}
    assert (folder / f"blobs/{record.digest[:2]}/{record.digest}").read_bytes() == BODY
    assert [stat.S_IMODE((folder / name).stat().st_mode) for name in (".", "index", "blobs", "spool")] == [0o700] * 4


@pytest.mark.parametrize(
    "left",
    [
        ["VERSION.new"],
        ["index", "blobs", "lock"],
        ["index", "blobs", "spool", "VERSION.new"],
        ["index", "index/index.db"],
    ],
    ids=" ".join,
)
def test_a_folder_whose_making_was_interrupted(left: list[str], tmp_path: Path) -> None:
    for name in left:
        (tmp_path / name).mkdir() if "." not in name and name != "lock" else (tmp_path / name).write_text("")
    with closing(LocalStore(tmp_path)) as store:
        assert anyio.run(store.add, "h/a", b"x") == b"x"


@pytest.mark.parametrize("value", ["text", 7, b"", b"short", b"no checksum of this key"])
def test_a_value_that_this_program_did_not_write(value: object, tmp_path: Path) -> None:
    with closing(LocalStore(tmp_path / "store")) as store:
        with closing(sqlite3.connect(tmp_path / "store/index/index.db")) as database, database:
            database.execute("INSERT INTO entries (key, value) VALUES ('h/a', ?)", (value,))
        with pytest.raises(Damaged, match="h/a"):
            anyio.run(store.get, "h/a")
        with pytest.raises(Damaged, match="h/a"):
            anyio.run(store.add, "h/a", b"other")
        assert len(anyio.run(store.problems)) == 1


def test_a_value_cannot_pass_under_another_key(tmp_path: Path) -> None:
    with closing(LocalStore(tmp_path / "store")) as store:
        anyio.run(store.add, "h/a", b"x")
        with closing(sqlite3.connect(tmp_path / "store/index/index.db")) as database, database:
            database.execute("UPDATE entries SET key = 'h/b'")
        with pytest.raises(Damaged):
            anyio.run(store.get, "h/b")


def test_an_index_that_is_replaced(tmp_path: Path) -> None:
    """What would be written to the old file would be lost."""
    with closing(LocalStore(tmp_path / "store")) as store:
        anyio.run(store.add, "h/a", b"x")
        (tmp_path / "store/index/index.db").rename(tmp_path / "gone")
        LocalStore(tmp_path / "other").close()
        (tmp_path / "other/index/index.db").rename(tmp_path / "store/index/index.db")
        with pytest.raises(StoreError, match="replaced"):
            anyio.run(store.add, "h/b", b"x")
