"""What every Store promises: one suite for all implementations; and what is particular to the embedded one."""

from __future__ import annotations

import hashlib
import os
import pickle
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, TypeVar

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from httpcache.errors import StoreError
from httpcache.store.base import Store
from httpcache.store.file_reader import CHUNK
from httpcache.store.local import LocalStore
from httpcache.store.log import Log, TypedLog
from tests.support.examples import examples

T = TypeVar("T")
BODY = os.urandom(CHUNK * 2 + 12345)
DIGEST = hashlib.sha256(BODY).hexdigest()


class Maker(Protocol):
    """One implementation: opens the same store each time, in this process or, found by its name, in another."""

    name: str

    def open(self, folder: Path) -> Any:
        """Return a Store with a `close`."""


class Local:
    """The embedded store."""

    name = "local"

    def open(self, folder: Path) -> LocalStore:
        return LocalStore(folder / "store")


MAKERS = {maker.name: maker for maker in (Local(),)}


@pytest.fixture(params=MAKERS)
def maker(request: pytest.FixtureRequest) -> Maker:
    return MAKERS[request.param]


@pytest.fixture
def store(maker: Maker, tmp_path: Path) -> Iterator[Store]:
    opened = maker.open(tmp_path)
    yield opened
    opened.close()


def run(work: Awaitable[T]) -> T:
    """The result of a coroutine."""

    async def waited() -> T:
        return await work

    return anyio.run(waited)


def file(folder: Path, body: bytes = BODY) -> Path:
    """A new file with that content, ready to be moved into the store."""
    path = folder / f"part-{len(list(folder.iterdir()))}"
    path.write_bytes(body)
    return path


@contextmanager
def temporary(maker: Maker) -> Iterator[Store]:
    """A store of its own for each example of hypothesis."""
    with TemporaryDirectory() as folder, closing(maker.open(Path(folder))) as store:
        yield store


async def everything(store: Store, prefix: str = "") -> dict[str, bytes]:
    return {key: value async for key, value in store.entries(prefix)}


async def read(store: Store, digest: str, start: int, stop: int) -> bytes:
    return b"".join([chunk async for chunk in store.read_blob(digest, start, stop)])


# Entries


def test_the_first_writer_wins(store: Store) -> None:
    assert run(store.get("r/a")) is None
    assert run(store.add("r/a", b"first")) == b"first"
    assert run(store.add("r/a", b"second")) == b"first"
    assert run(store.get("r/a")) == b"first"


def test_remove(store: Store) -> None:
    run(store.add("r/a", b"first"))
    assert run(store.remove("r/a")) is True
    assert run(store.remove("r/a")) is False
    assert run(store.get("r/a")) is None
    assert run(store.add("r/a", b"second")) == b"second"


@pytest.mark.parametrize(
    "value", [b"", b"\0", bytes(range(256)), b"x" * 1_000_000], ids=["empty", "zero", "all", "1 MB"]
)
def test_values_are_any_bytes(value: bytes, store: Store, maker: Maker, tmp_path: Path) -> None:
    assert run(store.add("r/a", value)) == value
    with closing(maker.open(tmp_path)) as again:
        assert run(again.get("r/a")) == value


def test_entries_of_a_prefix(store: Store) -> None:
    keys = ["r/a", "r/b", "r", "r0", "g/r/a", "R/a", "r/%", "r/_"]
    for key in keys:
        run(store.add(key, key.encode()))
    assert run(everything(store)) == {key: key.encode() for key in keys}
    assert sorted(run(everything(store, "r/"))) == ["r/%", "r/_", "r/a", "r/b"]
    assert run(everything(store, "r/_")) == {"r/_": b"r/_"}
    assert run(everything(store, "nothing/")) == {}


def test_entries_while_others_write(store: Store) -> None:
    """What was there before and is not removed is seen, once."""

    async def work() -> None:
        for number in range(50):
            await store.add(f"r/{number:03}", b"before")
        seen = []
        async for key, _ in store.entries("r/"):
            seen.append(key)
            await store.add(f"r/new-{len(seen)}", b"during")
            if key == "r/010":
                await store.remove("r/020")
        assert len(seen) == len(set(seen))
        assert {f"r/{number:03}" for number in range(50)} - {"r/020"} <= set(seen)

    anyio.run(work)


def test_the_state_tells_of_what_is_added_and_removed_and_of_nothing_else(
    store: Store, maker: Maker, tmp_path: Path
) -> None:
    async def work(other: Store) -> None:
        seen = [store.generation()]

        async def changed() -> None:
            """The state is one that never was before, and stays."""
            now = store.generation()
            assert now not in seen
            assert (now, await store.get("m/x"), store.generation()) == (now, None, now)
            seen.append(now)

        for writer in (store, other):
            await writer.add("r/a", b"first")
            await changed()
            assert await writer.get("r/a") == b"first"
            assert await writer.add("r/a", b"second") == b"first"
            await writer.get_many(["r/a", "r/b"])
            assert await writer.remove("r/b") is False
            assert await writer.remove("r/a") is True
            await changed()

    with closing(maker.open(tmp_path)) as other:
        run(work(other))


def test_the_state_does_not_tell_of_what_is_frozen_where_nothing_was(
    store: Store, maker: Maker, tmp_path: Path
) -> None:
    async def work(other: Store) -> None:
        first = store.generation()
        for number, writer in enumerate((store, other)):
            await writer.freeze(f"r/{number}", b"record", DIGEST, file(tmp_path))
            assert store.generation() == first
        await store.remove("r/0")
        assert store.generation() != first

    with closing(maker.open(tmp_path)) as other:
        run(work(other))


def test_what_was_read_after_the_state_is_at_least_as_new(store: Store, maker: Maker, tmp_path: Path) -> None:
    """A writer goes on all the time: whenever the state has not changed, a second look finds the same."""
    numbers = range(300)

    async def write(other: Store) -> None:
        for number in numbers:
            await other.add(f"r/{number}", b"x")

    async def count() -> int:
        return sum(value is not None for value in [await store.get(f"r/{number}") for number in numbers[:20]])

    async def look() -> None:
        same = 0
        while await count() < 20 or not same:
            before = store.generation()
            found = await count()
            again = await count()
            if store.generation() == before:
                assert found == again
                same += 1

    with closing(maker.open(tmp_path)) as other, ThreadPoolExecutor(1) as threads:
        writing = threads.submit(anyio.run, write, other)
        anyio.run(look)
        writing.result()


def test_a_value_of_another_kind_is_refused(store: Store, tmp_path: Path) -> None:
    """What this program did not write is never taken for an entry."""
    index = tmp_path / "store" / "index" / "cache.db"
    with closing(sqlite3.connect(index)) as database, database:
        insert = "INSERT INTO Cache (key, raw, store_time, mode, value) VALUES (?, 1, 0, ?, ?)"
        database.execute(insert, ("r/pickled", 4, pickle.dumps(1)))
        database.execute(insert, ("r/text", 1, "text"))
    for key in ("r/pickled", "r/text"):
        with pytest.raises(StoreError, match="did not write"):
            run(store.get(key))


RACER = """
import sys
from pathlib import Path
import anyio
from tests.store.test_store import MAKERS

store = MAKERS[sys.argv[1]].open(Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()

async def race():
    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(add, number)

async def add(number):
    print((await store.add("r/race", f"{sys.argv[3]}-{number}".encode())).decode(), flush=True)

anyio.run(race)
store.close()
"""


def test_a_race_of_fifty_in_five_processes(store: Store, maker: Maker, tmp_path: Path) -> None:
    """One value, the same for all, and it is there after all have gone."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, maker.name, str(tmp_path), f"{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            text=True,
        )
        for number in range(5)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    winners = [line for racer in racers for line in racer.communicate(timeout=60)[0].splitlines()]
    assert [racer.returncode for racer in racers] == [0] * 5
    assert len(winners) == 50
    assert len(set(winners)) == 1
    assert run(store.get("r/race")) == winners[0].encode()


def test_a_race_of_fifty_threads(store: Store) -> None:
    with ThreadPoolExecutor(50) as pool:
        winners = list(pool.map(lambda number: run(store.add("r/race", b"%d" % number)), range(50)))
    assert len(set(winners)) == 1


# Blobs


def test_freeze_takes_the_file_in(store: Store, maker: Maker, tmp_path: Path) -> None:
    path = file(tmp_path)
    assert run(store.freeze("r/a", b"record", DIGEST, path)) == b"record"
    assert not path.exists()
    restarted = maker.open(tmp_path)
    for opened in (store, restarted):
        assert run(opened.get("r/a")) == b"record"
        assert run(opened.check(DIGEST, len(BODY))) is True
        assert run(opened.check(DIGEST, len(BODY) - 1)) is False
        assert opened.blob_path(DIGEST).read_bytes() == BODY
    restarted.close()


def test_freeze_again_changes_nothing(store: Store, tmp_path: Path) -> None:
    """The same or other bytes under a key that has its record; the same bytes under another key."""
    other = b"other"
    run(store.freeze("r/a", b"record", DIGEST, file(tmp_path)))
    assert run(store.freeze("r/a", b"again", DIGEST, file(tmp_path))) == b"record"
    assert run(store.freeze("r/a", b"other", hashlib.sha256(other).hexdigest(), file(tmp_path, other))) == b"record"
    assert run(store.freeze("r/b", b"second", DIGEST, file(tmp_path))) == b"second"
    assert run(everything(store, "r/")) == {"r/a": b"record", "r/b": b"second"}
    assert run(read(store, DIGEST, 0, len(BODY))) == BODY


def test_a_reader_is_not_disturbed_by_a_second_freeze(store: Store, tmp_path: Path) -> None:
    async def work() -> bytes:
        await store.freeze("r/a", b"record", DIGEST, file(tmp_path))
        chunks = []
        async for chunk in store.read_blob(DIGEST, 0, len(BODY)):
            chunks.append(chunk)
            await store.freeze(f"r/{len(chunks)}", b"record", DIGEST, file(tmp_path))
        return b"".join(chunks)

    assert anyio.run(work) == BODY


def test_freeze_twenty_at_once(store: Store, tmp_path: Path) -> None:
    paths = [file(tmp_path) for _ in range(20)]

    async def one(number: int) -> None:
        assert await store.freeze(f"r/{number % 4}", b"record", DIGEST, paths[number]) == b"record"

    async def work() -> None:
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(one, number)

    anyio.run(work)
    assert run(read(store, DIGEST, 0, len(BODY))) == BODY
    assert len(run(everything(store))) == 4


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, len(BODY)), (0, 1), (len(BODY) - 1, len(BODY)), (CHUNK - 1, CHUNK + 1), (5, CHUNK * 2 + 5), (7, 7), (0, 0)],
)
def test_a_range_of_a_blob(start: int, stop: int, store: Store, tmp_path: Path) -> None:
    run(store.freeze("r/a", b"record", DIGEST, file(tmp_path)))
    assert run(read(store, DIGEST, start, stop)) == BODY[start:stop]


def test_an_empty_blob(store: Store, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"").hexdigest()
    run(store.freeze("r/a", b"record", digest, file(tmp_path, b"")))
    assert run(store.check(digest, 0)) is True
    assert run(read(store, digest, 0, 0)) == b""


def test_a_blob_that_is_missing_or_short(store: Store, tmp_path: Path) -> None:
    assert run(store.check(DIGEST, len(BODY))) is False
    with pytest.raises(StoreError):
        run(read(store, DIGEST, 0, 1))
    run(store.freeze("r/a", b"record", DIGEST, file(tmp_path)))
    with pytest.raises(StoreError):
        run(read(store, DIGEST, 0, len(BODY) + 1))


def test_a_file_that_is_missing_is_not_frozen(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        run(store.freeze("r/a", b"record", DIGEST, tmp_path / "nothing"))
    assert run(store.get("r/a")) is None


def test_sweep_removes_what_nothing_names(store: Store, tmp_path: Path) -> None:
    bodies = {name: name.encode() * 10 for name in ("kept", "shared", "removed")}
    digests = {name: hashlib.sha256(body).hexdigest() for name, body in bodies.items()}
    for key, name in (("r/1", "kept"), ("r/2", "shared"), ("r/3", "shared"), ("r/4", "removed")):
        run(store.freeze(key, digests[name].encode(), digests[name], file(tmp_path, bodies[name])))
    run(store.add("r/5", b""))
    assert run(store.sweep(lambda value: value.decode() or None)) == 0
    run(store.remove("r/3"))
    run(store.remove("r/4"))
    assert run(store.sweep(lambda value: value.decode() or None)) == len(bodies["removed"])
    assert {name: run(store.check(digest, len(bodies[name]))) for name, digest in digests.items()} == {
        "kept": True,
        "shared": True,
        "removed": False,
    }


def test_sweep_while_others_freeze(store: Store, tmp_path: Path) -> None:
    """What is frozen while it sweeps keeps its bytes."""
    bodies = [b"%d" % number * 100 for number in range(30)]
    digests = [hashlib.sha256(body).hexdigest() for body in bodies]
    paths = [file(tmp_path, body) for body in bodies]
    done = threading.Event()

    def sweep() -> int:
        freed = 0
        while not done.is_set():
            freed += run(store.sweep(bytes.decode))
        return freed

    with ThreadPoolExecutor(1) as pool:
        sweeping = pool.submit(sweep)
        for digest, path in zip(digests, paths, strict=True):
            run(store.freeze(f"r/{digest}", digest.encode(), digest, path))
        done.set()
        assert sweeping.result() == 0
    for digest, body in zip(digests, bodies, strict=True):
        assert run(read(store, digest, 0, len(body))) == body


# The log


def test_a_log_is_read_in_its_order(store: Store) -> None:
    log, other = Log(store, "one"), Log(store, "two")
    assert run(log.read()) == []
    for number in range(12):
        assert run(log.append(number, b"%d" % number)) is True
    assert run(log.read()) == [b"%d" % number for number in range(12)]
    assert run(log.read(10)) == [b"10", b"11"]
    assert run(log.read(12)) == run(other.read()) == []


def test_a_number_of_a_log_is_given_once(store: Store) -> None:
    log = Log(store, "one")
    assert run(log.append(0, b"a")) is True
    assert run(log.append(0, b"b")) is False
    assert run(log.read()) == [b"a"]


def test_appends_that_race_are_all_in_the_log(store: Store) -> None:
    """Whoever loses a number takes the next."""
    log = Log(store, "race")

    def append(value: bytes) -> None:
        number = 0
        while not run(log.append(number, value)):
            number += 1

    values = [b"%d" % number for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(append, values))
    assert sorted(run(log.read())) == sorted(values)


def numbers(store: Store) -> TypedLog[int]:
    return TypedLog(store, "numbers", "numbers", lambda number: b"%d" % number, int)


def test_a_typed_log_gives_what_was_appended_by_anyone(store: Store) -> None:
    one, other = numbers(store), numbers(store)
    run(one.append(1))
    run(other.append(2))
    run(one.append(2))
    assert list(run(one.all())) == list(run(other.all())) == list(run(numbers(store).all())) == [1, 2, 2]


def test_a_typed_log_decodes_each_value_once(store: Store) -> None:
    decoded: list[bytes] = []

    def decode(value: bytes) -> int:
        decoded.append(value)
        return int(value)

    log = TypedLog(store, "numbers", "numbers", lambda number: b"%d" % number, decode)
    for number in range(6):
        run(numbers(store).append(number))
        run(log.all())
    assert decoded == [b"%d" % number for number in range(6)]


def test_a_value_that_was_decided_on_before_another_came_is_not_appended(store: Store) -> None:
    one, other = numbers(store), numbers(store)
    run(one.all())
    assert run(other.try_append(1)) is True
    assert run(one.try_append(2)) is False
    assert list(run(one.all())) == [1]
    assert run(one.try_append(2)) is True
    assert list(run(other.all())) == [1, 2]


def test_tasks_that_read_and_append_to_one_typed_log_at_once(store: Store) -> None:
    """None of them has a value twice, and none misses one."""
    log = numbers(store)

    async def work() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(log.append, number)
                tasks.start_soon(log.all)
                tasks.start_soon(numbers(store).append, 100 + number)

    run(work())
    found = list(run(log.all()))
    assert sorted(found) == [*range(20), *range(100, 120)]
    assert found == list(run(numbers(store).all()))


def test_a_typed_log_that_is_cut_goes_on_behind_what_is_left(store: Store) -> None:
    log = numbers(store)
    for number in range(5):
        run(log.append(number))
    run(log.cut(2))
    run(log.append(9))
    assert list(run(log.all())) == list(run(numbers(store).all())) == [0, 1, 9]


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "remove", "get"]), st.binary(max_size=3)), max_size=15
    )
)
@settings(max_examples=examples(25), deadline=None)
def test_entries_behave_like_a_dictionary(steps: Sequence[tuple[str, str, bytes]]) -> None:
    """Every implementation against the simplest one."""
    for maker in MAKERS.values():
        with temporary(maker) as store:
            model: dict[str, bytes] = {}
            for key, what, value in steps:
                if what == "add":
                    assert run(store.add(key, value)) == model.setdefault(key, value)
                elif what == "remove":
                    assert run(store.remove(key)) == (model.pop(key, None) is not None)
                assert run(store.get(key)) == model.get(key)
            assert run(everything(store)) == model


def test_what_is_frozen_anew_in_the_middle_of_a_sweep_keeps_its_bytes(store: Store, tmp_path: Path) -> None:
    """The entries are read without a lock, so a blob that nothing named can have got an entry by then."""
    bodies = [b"kept", b"frozen anew", b"removed"]
    digests = [hashlib.sha256(body).hexdigest() for body in bodies]
    for digest, body in zip(digests, bodies, strict=True):
        run(store.freeze(f"r/{digest}", digest.encode(), digest, file(tmp_path, body)))
    for digest in digests[1:]:
        run(store.remove(f"r/{digest}"))

    def named(value: bytes) -> str:
        if value.decode() == digests[0]:
            run(store.freeze("r/0", digests[1].encode(), digests[1], file(tmp_path, bodies[1])))
        return value.decode()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: run(store.sweep(named))).result(30) == len(bodies[2])
    assert run(read(store, digests[1], 0, len(bodies[1]))) == bodies[1]
    assert run(store.check(digests[1], len(bodies[1])))


# The embedded store


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("column", ["value", "key", "file"])
def test_a_pickle_is_refused_and_never_unpickled(column: str, tmp_path: Path) -> None:
    """Modes 4 (a pickle) and 2 (a file outside the database) of diskcache, and a key that is a pickle."""
    store, bomb = LocalStore(tmp_path / "store"), tmp_path / "bomb"
    run(store.add("r/good", b"good"))
    run(store.add("r/bad", b"good"))
    value: bytes | str
    with closing(sqlite3.connect(tmp_path / "store/index/cache.db")) as database, database:
        if column == "key":
            sql, value = "UPDATE Cache SET key = ?, raw = 0 WHERE key = 'r/bad'", pickle.dumps(Bomb(bomb))
        elif column == "value":
            sql, value = "UPDATE Cache SET mode = 4, value = ? WHERE key = 'r/bad'", pickle.dumps(Bomb(bomb))
        else:
            (tmp_path / "store/index/bad.val").write_bytes(pickle.dumps(Bomb(bomb)))
            sql, value = "UPDATE Cache SET mode = 4, value = NULL, filename = ? WHERE key = 'r/bad'", "bad.val"
        database.execute(sql, (value,))
    with pytest.raises(StoreError):
        run(everything(store, ""))
    if column != "key":
        with pytest.raises(StoreError):
            run(store.get("r/bad"))
        with pytest.raises(StoreError):
            run(store.add("r/bad", b"new"))
    assert run(store.get("r/good")) == b"good"
    assert not bomb.exists()
    store.close()
    assert pickle.loads(pickle.dumps(Bomb(bomb))) is None
    assert bomb.exists(), "the bomb does work"


def test_settings_that_a_database_brings_along_do_not_evict(tmp_path: Path) -> None:
    """diskcache keeps its settings in the database; ours must win."""
    LocalStore(tmp_path / "store").close()
    with closing(sqlite3.connect(tmp_path / "store/index/cache.db")) as database, database:
        for key, value in (("eviction_policy", "least-recently-used"), ("cull_limit", 100), ("size_limit", 1)):
            database.execute("UPDATE Settings SET value = ? WHERE key = ?", (value, key))
    store = LocalStore(tmp_path / "store")
    for number in range(50):
        run(store.add(f"r/{number}", b"x" * 10_000))
    assert len(run(everything(store))) == 50
    store.close()


def test_what_is_in_the_folder(tmp_path: Path) -> None:
    """Names that a person finds in the documentation, closed to others; blobs by the hash of their bytes."""
    folder = tmp_path / "store"
    store = LocalStore(folder)
    run(store.freeze("r/a", b"record", DIGEST, file(tmp_path)))
    store.close()
    assert {path.name for path in folder.iterdir()} == {"VERSION", "index", "blobs", "spool", "lock", "reserve"}
    assert (folder / f"blobs/{DIGEST[:2]}/{DIGEST}").read_bytes() == BODY
    assert [stat.S_IMODE((folder / name).stat().st_mode) for name in (".", "index", "blobs", "spool")] == [0o700] * 4


@pytest.mark.parametrize("left", [["VERSION.new"], ["index", "blobs"], ["index", "blobs", "spool", "VERSION.new"]])
def test_a_folder_whose_making_was_interrupted(left: list[str], tmp_path: Path) -> None:
    for name in left:
        (tmp_path / name).write_text("1") if name == "VERSION.new" else (tmp_path / name).mkdir()
    store = LocalStore(tmp_path)
    assert run(store.add("r/a", b"x")) == b"x"
    store.close()


def test_a_damaged_blob_is_mended_by_the_next_that_has_its_bytes(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    run(store.freeze("r/a", b"record", DIGEST, file(tmp_path)))
    store.blob_path(DIGEST).write_bytes(b"damaged")
    run(store.freeze("r/b", b"record", DIGEST, file(tmp_path)))
    assert run(read(store, DIGEST, 0, len(BODY))) == BODY
    store.close()
