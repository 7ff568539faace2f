"""Group commit: changes that come together are one transaction, and each has the result that it would have alone."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from httpcache.errors import StoreError, StoreFull
from httpcache.store import sqlite_index
from httpcache.store.base import New
from httpcache.store.commits import Outcome
from httpcache.store.local import LocalStore
from httpcache.store.locks import PATIENCE
from tests.support.examples import examples

Step = tuple[str, str, bytes]
"""What to do, with which key, and with which value."""

STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "freeze", "fail"]), st.sampled_from("ab"), st.binary(max_size=2)),
    max_size=6,
)


class Broken(Exception):
    """What a change raises that fails."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with closing(LocalStore(tmp_path / "store")) as opened:
        yield opened


@contextmanager
def held_back(store: LocalStore) -> Iterator[None]:
    """Whatever is submitted inside the block is one group."""
    begun, go = threading.Event(), threading.Event()

    def wait(connection: sqlite3.Connection) -> Outcome[None]:
        begun.set()
        assert go.wait(30)
        return Outcome(None)

    first = store.index._commits.submit(wait, time.monotonic() + PATIENCE)
    assert begun.wait(30)
    try:
        yield
    finally:
        go.set()
    first.result(30)


def submit(store: LocalStore, step: Step) -> Future[Any]:
    what, key, value = step

    def fail(connection: sqlite3.Connection) -> Outcome[None]:
        raise Broken

    makers: dict[str, Callable[[sqlite3.Connection], Outcome[Any]]] = {
        "add": add(key, value),
        "freeze": add(key, value, counts=False),
        "remove": partial(sqlite_index._remove, key),
        "fail": fail,
    }
    return store.index._commits.submit(makers[what], time.monotonic() + PATIENCE)


def add(key: str, value: bytes, *, counts: bool = True) -> Callable[[sqlite3.Connection], Outcome[bytes]]:
    return partial(sqlite_index._add, New(key, value), counts)


def result(future: Future[Any]) -> object:
    """What a change has returned, or the kind of its error."""
    error = future.exception(30)
    return type(error) if error else future.result()


def alone(step: Step, entries: dict[str, bytes]) -> object:
    """The result of a step in a dictionary, which it changes."""
    what, key, value = step
    if what == "fail":
        return Broken
    if what == "remove":
        return entries.pop(key, None) is not None
    return entries.setdefault(key, value)


async def everything(store: LocalStore) -> dict[str, bytes]:
    return {key: value async for key, value in store.entries("")}


def count(store: LocalStore) -> int:
    found = store.generation()
    assert isinstance(found, int)
    return found


def test_what_comes_together_is_one_change(store: LocalStore) -> None:
    """A group counts once, one without anything that counts not at all; the result of each is its own."""
    before = count(store)
    with held_back(store):
        added = [submit(store, ("add", f"r/{number % 20}", b"%d" % number)) for number in range(40)]
    assert [result(each) for each in added] == [b"%d" % number for number in range(20)] * 2
    assert count(store) == before + 2
    with held_back(store):
        frozen = [submit(store, ("freeze", f"r/f{number}", b"x")) for number in range(20)]
        lost = submit(store, ("add", "r/0", b"late"))
        nothing = submit(store, ("remove", "r/none", b""))
    assert [result(each) for each in [*frozen, lost, nothing]] == [b"x"] * 20 + [b"0", False]
    assert count(store) == before + 2
    assert len(anyio.run(everything, store)) == 40


def test_one_that_fails_fails_alone(store: LocalStore) -> None:
    with held_back(store):
        steps = [
            submit(store, ("add", "r/a", b"a")),
            submit(store, ("fail", "", b"")),
            submit(store, ("add", "r/b", b"b")),
        ]
    assert [result(each) for each in steps] == [b"a", Broken, b"b"]
    assert anyio.run(everything, store) == {"r/a": b"a", "r/b": b"b"}


def test_a_winner_that_is_damaged_fails_alone(store: LocalStore, tmp_path: Path) -> None:
    anyio.run(store.add, "r/bad", b"good")
    with closing(sqlite3.connect(tmp_path / "store/index/index.db")) as database, database:
        database.execute("UPDATE entries SET value = x'00' WHERE key = 'r/bad'")
    with held_back(store):
        steps = [submit(store, ("freeze", key, b"x")) for key in ("r/a", "r/bad", "r/b")]
    assert isinstance(steps[1].exception(30), StoreError)
    assert [steps[0].result(30), steps[2].result(30)] == [b"x", b"x"]


def test_a_transaction_that_fails_fails_for_all(store: LocalStore) -> None:
    """Nothing of it is kept; each has an error of its own, since whoever has told of it notes that; then it goes on."""

    def full(connection: sqlite3.Connection) -> Outcome[None]:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    before = count(store)
    with held_back(store):
        steps = [
            submit(store, ("add", "r/a", b"a")),
            store.index._commits.submit(full, time.monotonic() + PATIENCE),
            submit(store, ("add", "r/b", b"b")),
        ]
    errors = [each.exception(30) for each in steps]
    assert [type(error) for error in errors] == [StoreFull] * 3
    assert len(set(map(id, errors))) == 3
    assert anyio.run(everything, store) == {}
    assert count(store) == before
    assert anyio.run(store.add, "r/a", b"a") == b"a"


def test_one_that_nobody_waits_for_any_more_is_not_made(store: LocalStore) -> None:
    with held_back(store):
        left, other = submit(store, ("add", "r/a", b"a")), submit(store, ("add", "r/b", b"b"))
        assert left.cancel()
    assert result(other) == b"b"
    with held_back(store):
        assert submit(store, ("add", "r/c", b"c")).cancel()  # a group of none
    assert anyio.run(everything, store) == {"r/b": b"b"}
    assert anyio.run(store.add, "r/d", b"d") == b"d"


def test_nobody_waits_longer_for_a_lock_than_its_time(store: LocalStore, tmp_path: Path) -> None:
    """Whether SQLite's or that of the count; the next has what is free by then."""
    index = tmp_path / "store/index/index.db"
    with (
        closing(LocalStore(tmp_path / "store")) as other,
        closing(sqlite3.connect(index, isolation_level=None)) as database,
    ):
        database.execute("BEGIN IMMEDIATE")
        steps = [store.index._commits.submit(add("r/a", b"a"), time.monotonic()) for _ in range(3)]
        assert [type(each.exception(PATIENCE / 2)) for each in steps] == [StoreError] * 3
        database.execute("ROLLBACK")
        with other.index._generation.change(time.monotonic()):
            late = store.index._commits.submit(add("r/a", b"a"), time.monotonic())
            assert type(late.exception(PATIENCE / 2)) is StoreError
            assert result(submit(store, ("freeze", "r/b", b"b"))) == b"b"
    assert result(submit(store, ("add", "r/a", b"a"))) == b"a"


def test_closing_ends_after_all_that_was_submitted(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    with held_back(store):
        steps = [submit(store, ("add", f"r/{number}", b"x")) for number in range(20)]
    store.close()
    assert [each.done() and each.result() for each in steps] == [b"x"] * 20


@given(st.lists(STEPS, max_size=4))
@settings(max_examples=examples(25), deadline=None)
def test_a_group_is_its_changes_one_after_the_other(groups: Sequence[Sequence[Step]]) -> None:
    entries: dict[str, bytes] = {}
    with TemporaryDirectory() as folder, closing(LocalStore(Path(folder))) as store:
        for group in groups:
            before, was = count(store), dict(entries)
            with held_back(store):
                futures = [submit(store, step) for step in group]
            assert [result(each) for each in futures] == [alone(step, entries) for step in group]
            assert anyio.run(everything, store) == entries
            assert count(store) > before or was == {key: entries.get(key) for key in was}, "a removal was not counted"


def explained(left: Sequence[tuple[Step, object]], right: Sequence[tuple[Step, object]], end: dict[str, bytes]) -> bool:
    """Whether the steps of two queues, each in its order, have these results and this end in some common order."""

    @cache
    def goes(taken: tuple[int, int], state: frozenset[tuple[str, bytes]]) -> bool:
        if taken == (len(left), len(right)):
            return dict(state) == end
        for side, queue in enumerate((left, right)):
            if taken[side] < len(queue):
                (step, wanted), entries = queue[taken[side]], dict(state)
                further = (taken[0] + (side == 0), taken[1] + (side == 1))
                if alone(step, entries) == wanted and goes(further, frozenset(entries.items())):
                    return True
        return False

    return goes((0, 0), frozenset())


def test_an_order_that_explains_nothing_is_seen() -> None:
    first, second = ("add", "a", b"1"), ("add", "a", b"2")
    assert explained([(first, b"1")], [(second, b"1")], {"a": b"1"})
    assert not explained([(first, b"1")], [(second, b"2")], {"a": b"1"})
    assert not explained([(first, b"1")], [(second, b"1")], {})


@given(STEPS, STEPS)
@settings(max_examples=examples(20), deadline=None)
def test_groups_of_two_at_once_are_some_order_of_all(one: Sequence[Step], other: Sequence[Step]) -> None:
    """Two stores on one folder are like two processes: what both say of their changes can be true at once."""
    with (
        TemporaryDirectory() as folder,
        closing(LocalStore(Path(folder))) as first,
        closing(LocalStore(Path(folder))) as second,
        ThreadPoolExecutor(2) as pool,
    ):

        def work(store: LocalStore, steps: Sequence[Step]) -> list[tuple[Step, object]]:
            futures = [submit(store, step) for step in steps]
            return [(step, result(future)) for step, future in zip(steps, futures, strict=True)]

        found = [pool.submit(work, store, steps) for store, steps in ((first, one), (second, other))]
        assert explained(found[0].result(60), found[1].result(60), anyio.run(everything, first))
