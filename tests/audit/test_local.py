"""Audits of stores: what was changed, removed, reordered or added late anywhere is found, and nothing else is."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from httpcache.audit.findings import Finding
from httpcache.audit.local import LocalAudit
from httpcache.audit.note import Checkpoint, read
from httpcache.audit.tiles import WIDTH
from httpcache.audit.tree_log import TreeLog
from httpcache.store import keys, leaves
from httpcache.store.base import New
from httpcache.store.layout import DATABASE
from httpcache.store.local import LocalStore
from httpcache.store.log import Log
from httpcache.store.seal import sealed
from httpcache.store.store import Store
from tests.support.engines import INDEXES, IndexMaker, files
from tests.support.examples import examples

NAMES = ["pypi/one", "pypi/two", "pypi/ passes"]


async def no_names() -> Mapping[bytes, str]:
    return {}


async def findings(store: Store, since: Checkpoint | None = None) -> list[Finding]:
    return [each async for each in LocalAudit(store, no_names, since).findings(lambda: None)]


async def signed(store: Store) -> Checkpoint:
    """A checkpoint of now."""
    log = TreeLog(store)
    note = await log.checkpoint()
    return read(note, (await log.signer()).key)


async def written(store: Store, history: list[int]) -> None:
    """Append to the logs by their numbers; a negative number removes the last entry of a log."""
    for step in history:
        log = Log(store, NAMES[abs(step) % len(NAMES)])
        length = len(await log.read())
        if step >= 0:
            await log.append(length, b"value %d of %d" % (length, step))
        elif length:
            await log.cut(length - 1)


# --- ways to tamper with a database: each gets the numbers of two entries that are there, one before the other

Rows = list[tuple[str, bytes]]


def value_of(database: sqlite3.Connection, key: str) -> bytes:
    [row] = database.execute("SELECT value FROM entries WHERE key = ?", (key,))
    return bytes(row[0][8:])


def set_value(database: sqlite3.Connection, key: str, value: bytes) -> None:
    database.execute("UPDATE entries SET value = ? WHERE key = ?", (sealed(key, value), key))


def change(database: sqlite3.Connection, one: str, other: str) -> None:
    set_value(database, one, b"another value")


def change_with_its_leaf(database: sqlite3.Connection, one: str, other: str) -> None:
    change(database, one, other)
    _, place, nonce, commitment = leaves.new(one, b"another value")
    database.execute("UPDATE leaves SET nonce = ?, commitment = ? WHERE place = ?", (nonce, commitment, place))


def damage(database: sqlite3.Connection, one: str, other: str) -> None:
    database.execute("UPDATE entries SET value = CAST(value || x'00' AS BLOB) WHERE key = ?", (one,))


def remove(database: sqlite3.Connection, one: str, other: str) -> None:
    database.execute("DELETE FROM entries WHERE key = ?", (one,))


def remove_with_its_leaves(database: sqlite3.Connection, one: str, other: str) -> None:
    remove(database, one, other)
    database.execute("DELETE FROM leaves WHERE place = ?", (leaves.place(one),))


def close_gaps(database: sqlite3.Connection) -> None:
    numbers = [number for (number,) in database.execute("SELECT number FROM leaves ORDER BY number")]
    for new, number in enumerate(numbers):
        database.execute("UPDATE leaves SET number = ? WHERE number = ?", (new, number))


def remove_and_close_the_gap(database: sqlite3.Connection, one: str, other: str) -> None:
    remove_with_its_leaves(database, one, other)
    close_gaps(database)


def swap(database: sqlite3.Connection, one: str, other: str) -> None:
    values = value_of(database, one), value_of(database, other)
    set_value(database, one, values[1])
    set_value(database, other, values[0])


def swap_leaves(database: sqlite3.Connection, one: str, other: str) -> None:
    rows = [
        database.execute("SELECT max(number) FROM leaves WHERE place = ?", (leaves.place(key),)).fetchone()[0]
        for key in (one, other)
    ]
    database.execute("UPDATE leaves SET number = -5 WHERE number = ?", (rows[0],))
    database.execute("UPDATE leaves SET number = ? WHERE number = ?", (rows[0], rows[1]))
    database.execute("UPDATE leaves SET number = ? WHERE number = -5", (rows[1],))


def add(database: sqlite3.Connection, one: str, other: str) -> None:
    log, _, _ = one.rpartition("/")
    key = keys.numbered(f"{log}/", 7_000)
    database.execute("INSERT INTO entries (key, value) VALUES (?, ?)", (key, sealed(key, b"late")))


def add_late(database: sqlite3.Connection, one: str, other: str) -> None:
    """With a leaf among those of earlier entries."""
    key = keys.numbered(keys.log("pypi/late"), 0)
    database.execute("INSERT INTO entries (key, value) VALUES (?, ?)", (key, sealed(key, b"late")))
    for number in sorted((number for (number,) in database.execute("SELECT number FROM leaves")), reverse=True):
        database.execute("UPDATE leaves SET number = ? WHERE number = ?", (number + 1, number))
    database.execute("INSERT INTO leaves VALUES (0, ?, ?, ?, ?)", leaves.new(key, b"late"))


def cut_off(database: sqlite3.Connection, one: str, other: str) -> None:
    """All from an entry on is undone, leaves too."""
    [[number]] = database.execute("SELECT max(number) FROM leaves WHERE place = ?", (leaves.place(one),))
    for (place,) in database.execute("SELECT place FROM leaves WHERE number >= ?", (number,)).fetchall():
        database.execute("DELETE FROM entries WHERE key = ?", (leaves.Leaf(0, False, place, b"", b"").key,))
    database.execute("DELETE FROM leaves WHERE number >= ?", (number,))


TAMPERINGS: list[Callable[[sqlite3.Connection, str, str], None]] = [
    change, change_with_its_leaf, damage, remove, remove_with_its_leaves, remove_and_close_the_gap, swap, swap_leaves,
    add, add_late, cut_off,
]  # fmt: skip


async def audited(folder: Path, history: list[int], after: list[int], data: st.DataObject) -> None:
    """In a random history nothing is found, and in the same one something, whichever way it is tampered with."""
    with closing(LocalStore(folder)) as store:
        await written(store, [0, 1, 2, 0, 1, *history])
        since = await signed(store)
        there = [key async for key in store.keys(keys.LOGS)]
        await written(store, after)
        assert await findings(store, since) == [
            each for each in await findings(store, since) if each.kind == "removal" and (each.leaf or 0) >= since.size
        ]
        assert {each.kind for each in await findings(store)} <= {"removal"}
        there = [key for key in there if await store.get(key) is not None]
    one = data.draw(st.sampled_from(there))
    other = data.draw(st.sampled_from([key for key in there if key != one]))
    for tamper in TAMPERINGS:
        copied = folder.with_name(tamper.__name__)
        shutil.copytree(folder, copied)
        with closing(sqlite3.connect(copied / DATABASE)) as database, database:
            tamper(database, one, other)
        with closing(LocalStore(copied)) as store:
            assert [each for each in await findings(store, since) if each.kind != "removal"], tamper.__name__


steps = st.lists(st.integers(0, 8) | st.integers(-3, 8), max_size=9)


@settings(max_examples=examples(6))
@given(steps, st.lists(st.integers(0, 8), max_size=4), st.data())
def test_random_histories(history: list[int], after: list[int], data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        anyio.run(audited, Path(folder) / "data", history, after, data)


ENGINES = ("sqlite", "postgresql")


@pytest.fixture(params=[INDEXES[name] for name in ENGINES], ids=ENGINES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    maker: IndexMaker = request.param
    async with maker(tmp_path) as index, files(tmp_path) as blobs:
        yield Store(index, blobs, tmp_path)


@pytest.mark.anyio
async def test_on_every_engine(store: Store) -> None:
    """The leaves have the order of the changes, by many writers at once too, and no gaps."""

    async def write(one: int) -> None:
        for number in range(15):
            await Log(store, f"pypi/p{one}").append(number, b"%d" % (40 * number + one))

    async with anyio.create_task_group() as tasks:
        for one in range(40):
            tasks.start_soon(write, one)
    assert await Log(store, "pypi/p0").append(0, b"another") is False
    assert await store.index.leaf_count() == 600
    assert [leaf.number for leaf in await store.index.leaves(0)] == list(range(600))
    entries = Counter(leaf.key for leaf in await store.index.leaves(0))
    assert set(entries.values()) == {1}
    some = await store.index.leaves_by_place(leaves.place(keys.numbered(keys.log("pypi/p7"), 0))[:32])
    assert [(leaf.entry, leaf.is_about(b"%d" % (40 * leaf.entry + 7))) for leaf in some] == [
        (number, True) for number in range(15)
    ]
    since = await signed(store)
    assert (since.size, await findings(store, since)) == (600, [])
    await Log(store, "pypi/p0").cut(14)
    [removal] = await findings(store, since)
    assert (removal.kind, removal.entry, removal.leaf, removal.is_note) == ("removal", 14, 600, False)
    [removal] = await findings(store)
    assert removal.is_note
    assert await findings(store, await signed(store)) == []


@pytest.mark.anyio
async def test_hashes_that_are_kept(tmp_path: Path) -> None:
    """The tree is computed once; what is kept of it and was changed is found, and so is a checkpoint."""
    with closing(LocalStore(tmp_path / "data")) as store:
        async with anyio.create_task_group() as tasks:
            for number in range(3 * WIDTH + 5):
                tasks.start_soon(Log(store, f"pypi/p{number}").append, 0, b"x")
        since = await signed(store)
        kept = [key async for key in store.keys(keys.TREE)]
        assert kept == [keys.numbered(keys.tree_level(1), number) for number in range(3)]
        assert await signed(store) == since._replace(time=(await signed(store)).time)
        assert await findings(store) == []
        [checkpoint] = [key async for key in store.keys(keys.CHECKPOINTS)]
    with closing(sqlite3.connect(tmp_path / "data" / DATABASE)) as database, database:
        set_value(database, kept[1], bytes(32))
        note = value_of(database, checkpoint)
        set_value(database, checkpoint, note.replace(b"\n773\n", b"\n772\n"))
    with closing(LocalStore(tmp_path / "data")) as store:
        found = await findings(store)
        assert [(each.kind, each.leaf) for each in found] == [("checkpoint", None), ("tree", WIDTH)]


@pytest.mark.anyio
async def test_entries_that_are_added_together(store: Store) -> None:
    """Those that are there already get no second leaf; the others get theirs in the order of their logs."""
    log = keys.log("pypi/one")
    await store.index.add(keys.numbered(log, 0), b"0")
    new = [New(keys.numbered(log, number), b"%d" % number) for number in (2, 0, 1, 3)]
    assert await store.index.add_many([*new, New("h/another", b"")]) == [b"2", b"0", b"1", b"3", b""]
    assert await store.index.add_many([New("h/third", b"")]) == [b""]
    found = await store.index.leaves(0)
    assert sorted(leaf.entry for leaf in found) == [0, 1, 2, 3]
    assert [leaf.number for leaf in found] == [0, 1, 2, 3]
    assert all(leaf.is_about(b"%d" % leaf.entry) for leaf in found)
