"""The cache of bodies on a node: what is evicted when, and that it may fail or vanish at any time."""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from httpcache.store import local_cache
from httpcache.store.base import Condition
from httpcache.store.local_cache import LocalCache
from tests.support.engines import part

pytestmark = pytest.mark.anyio

SIZE = 1_000_000
LIMIT = 3 * SIZE + 100_000  # room for three, and the database

Open = Callable[..., LocalCache]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens the same cache each time."""
    found: list[LocalCache] = []

    def open_it(limit: int = LIMIT) -> LocalCache:
        found.append(LocalCache(tmp_path / "cache", limit))
        return found[-1]

    yield open_it
    for each in found:
        each.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes uses at once, and sweeps at every occasion."""
    monkeypatch.setattr(local_cache, "NOTE_EVERY", 0.0)
    monkeypatch.setattr(local_cache, "SWEEP_EVERY", 0.0)


def body(number: int, size: int = SIZE) -> bytes:
    return number.to_bytes(2) * (size // 2)


def digest(number: int, size: int = SIZE) -> str:
    return sha256(body(number, size)).hexdigest()


async def keep(cache: LocalCache, folder: Path, *numbers: int, size: int = SIZE) -> None:
    for number in numbers:
        await cache.keep(digest(number, size), part(folder, body(number, size)))


def there(cache: LocalCache, numbers: range) -> list[int]:
    """Those of the bodies that are cached; to look is to use them."""
    return [number for number in numbers if cache.condition(digest(number), SIZE) is not Condition.BROKEN]


async def settled(cache: LocalCache) -> None:
    """Wait until the thread has done what it was given."""
    await cache._run(lambda: None)


def files(folder: Path) -> int:
    """How many files of bodies there are, by whatever names."""
    return len({path.stat().st_ino for path in folder.rglob("*") if path.is_file() and "cache.db" not in path.name})


async def test_what_is_kept_is_there_after_a_restart(opened: Open, tmp_path: Path) -> None:
    await keep(opened(), tmp_path, 1)
    again = opened()
    assert again.condition(digest(1), SIZE) is Condition.UNREAD
    assert await again.check(digest(1), SIZE)
    assert again.condition(digest(1), SIZE) is Condition.SOUND
    assert again.path(digest(1)).read_bytes() == body(1)
    assert again.condition(digest(1), SIZE - 1) is Condition.BROKEN
    assert not await again.has(digest(2))


@pytest.mark.usefixtures("impatient")
async def test_what_was_not_used_for_longest_goes_first(opened: Open, tmp_path: Path) -> None:
    cache, other = opened(), opened()
    await keep(cache, tmp_path, 1, 2, 3)
    assert there(other, range(1, 2)) == [1]  # another process uses the oldest
    await settled(other)
    await keep(cache, tmp_path, 4)
    assert there(cache, range(1, 5)) == there(other, range(1, 5)) == [1, 3, 4]


async def test_no_more_is_evicted_than_must_be(opened: Open, tmp_path: Path) -> None:
    cache = opened()
    for number in range(20):
        await keep(cache, tmp_path, number)
        assert there(cache, range(20)) == [*range(max(0, number - 2), number + 1)]


async def test_one_that_is_large_takes_the_place_of_several(opened: Open, tmp_path: Path) -> None:
    cache = opened()
    await keep(cache, tmp_path, 1, 2, 3)
    await keep(cache, tmp_path, 9, size=2 * SIZE)
    assert there(cache, range(1, 4)) == [3]
    assert cache.condition(digest(9, 2 * SIZE), 2 * SIZE) is Condition.SOUND
    await keep(cache, tmp_path, 9, size=4 * SIZE)
    assert there(cache, range(1, 4)) == [3]  # what does not fit evicts nothing


@pytest.mark.usefixtures("impatient")
async def test_a_file_that_was_evicted_can_be_opened_for_a_while(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = opened()
    await keep(cache, tmp_path, 1)
    path = cache.path(digest(1))
    await keep(cache, tmp_path, 2, 3, 4)
    assert cache.condition(digest(1), SIZE) is Condition.BROKEN
    await keep(cache, tmp_path, 5)
    assert path.read_bytes() == body(1)
    monkeypatch.setattr(local_cache, "LEAVING", -1.0)
    await keep(cache, tmp_path, 6)
    assert not path.exists()
    assert files(tmp_path / "cache") == 3


@pytest.mark.usefixtures("impatient")
async def test_one_that_is_leaving_can_come_back(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = opened()
    await keep(cache, tmp_path, 1)
    await cache.drop([digest(1)])
    assert cache.condition(digest(1), SIZE) is Condition.BROKEN
    await keep(cache, tmp_path, 1)
    monkeypatch.setattr(local_cache, "LEAVING", -1.0)
    await keep(cache, tmp_path, 2)
    assert there(cache, range(1, 3)) == [1, 2]
    assert cache.path(digest(1)).read_bytes() == body(1)


async def test_the_same_body_twice_counts_once(opened: Open, tmp_path: Path) -> None:
    cache = opened()
    await keep(cache, tmp_path, 1, 2, 3, 3, 3, 3)
    assert there(cache, range(1, 4)) == [1, 2, 3]


async def test_a_damaged_file_is_not_sound_and_can_be_replaced(opened: Open, tmp_path: Path) -> None:
    cache = opened()
    await keep(cache, tmp_path, 1)
    cache.path(digest(1)).write_bytes(body(2))
    assert cache.condition(digest(1), SIZE) is Condition.UNREAD
    assert not await cache.check(digest(1), SIZE)
    assert not await cache.has(digest(1))
    await keep(cache, tmp_path, 1)
    assert cache.condition(digest(1), SIZE) is Condition.SOUND


@pytest.mark.usefixtures("impatient")
async def test_what_killed_processes_leave_behind_is_deleted(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download; a file that was not entered in the database; a name that was not linked yet."""
    cache = opened()
    await keep(cache, tmp_path, 1)
    cache.create()
    held = part(tmp_path / "cache" / "kept", body(2))
    held.rename(held.with_name("a" * 32))
    assert files(tmp_path / "cache") == 3
    monkeypatch.setattr(local_cache, "LEAVING", -1.0)
    await keep(cache, tmp_path, 1)
    assert files(tmp_path / "cache") == 2  # the download may be under way
    monkeypatch.setattr(local_cache, "ABANDONED", -1.0)
    await keep(cache, tmp_path, 1)
    assert files(tmp_path / "cache") == 1
    assert cache.path(digest(1)).read_bytes() == body(1)


def _vanish(folder: Path) -> None:
    shutil.rmtree(folder)


def _lose_database(folder: Path) -> None:
    for path in (folder / "kept").glob("cache.db*"):
        path.unlink()


def _break_database(folder: Path) -> None:
    for path in (folder / "kept").glob("cache.db*"):
        path.write_bytes(os.urandom(50_000))


def _lose_bodies(folder: Path) -> None:
    shutil.rmtree(folder / "bodies")


def _lose_files(folder: Path) -> None:
    shutil.rmtree(folder / "kept")


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("damage", [_vanish, _lose_database, _break_database, _lose_bodies, _lose_files])
async def test_it_may_be_deleted_at_any_time(
    damage: Callable[[Path], None], running: bool, opened: Open, tmp_path: Path
) -> None:
    cache = opened()
    await keep(cache, tmp_path, 1)
    if not running:
        cache.close()
    damage(tmp_path / "cache")
    if not running:
        cache = opened()
    for number in (2, 3, 4):  # the first attempt may find out that something is wrong
        file = part(tmp_path, body(number))
        await cache.keep(digest(number), file)
        assert not file.exists()
    assert await cache.check(digest(4), SIZE)
    assert cache.path(digest(4)).read_bytes() == body(4)


async def test_a_pickle_is_not_read(opened: Open, tmp_path: Path) -> None:
    """Whoever can write to the folder could else run code."""

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    cache = opened()
    await keep(cache, tmp_path, 1)
    with closing(sqlite3.connect(tmp_path / "cache" / "kept" / "cache.db")) as database, database:
        database.execute("UPDATE Cache SET mode = 4, filename = NULL, value = ?", (pickle.dumps(Bomb()),))
        database.execute("INSERT INTO Cache (key, raw, mode) VALUES (?, 0, 4)", (pickle.dumps(Bomb()),))
    await cache._run(cache._note_used)
    await keep(opened(), tmp_path, 1, 2, 3, 4)
    assert not (tmp_path / "exploded").exists()


async def test_a_failure_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_bytes(b"a file")
    cache = LocalCache(tmp_path / "cache", LIMIT)
    await keep(cache, tmp_path, 1, 2, 3)
    assert there(cache, range(1, 4)) == []
    assert not await cache.check(digest(1), SIZE)
    cache.close()
    assert len(caplog.records) == 1


@pytest.mark.usefixtures("impatient")
async def test_twenty_at_once_in_four_caches(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They evict each other's bodies, and sweep while others link names; what is there is right."""
    monkeypatch.setattr(local_cache, "LEAVING", 0.0)
    caches = [opened() for _ in range(4)]

    async def use(cache: LocalCache, first: int) -> None:
        for number in range(first, first + 20):
            await keep(cache, tmp_path, number % 7)
            for each in there(cache, range(7)):
                try:
                    assert cache.path(digest(each)).read_bytes() == body(each)
                except FileNotFoundError:
                    continue  # there is no grace

    async with anyio.create_task_group() as group:
        for number, cache in enumerate(caches):
            group.start_soon(use, cache, number)
    monkeypatch.setattr(local_cache, "LEAVING", -1.0)
    await keep(caches[0], tmp_path, 8)
    assert files(tmp_path / "cache") == len(there(caches[0], range(9))) <= 3


KEEPER = """
import sys
from hashlib import sha256
from pathlib import Path
import anyio
from httpcache.store.local_cache import LocalCache

async def work(folder, first, limit, size):
    cache = LocalCache(folder / "cache", limit)
    while True:
        first += 1
        body = (first % 7).to_bytes(2) * (size // 2)
        file = cache.create()
        file.write_bytes(body)
        await cache.keep(sha256(body).hexdigest(), file)
        print("kept", flush=True)

anyio.run(work, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
"""


@pytest.mark.usefixtures("impatient")
async def test_processes_can_be_killed_at_any_time(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there afterwards is right, and no bytes are left that nobody evicts."""
    random = Random(3)
    for turn in range(12):
        command = [sys.executable, "-c", KEEPER, str(tmp_path), str(turn), str(LIMIT), str(SIZE)]
        async with await anyio.open_process(command, stderr=None) as process:
            assert process.stdout
            assert await process.stdout.receive()
            await anyio.sleep(random.random() / 10)
            process.kill()
    monkeypatch.setattr(local_cache, "LEAVING", -1.0)
    monkeypatch.setattr(local_cache, "ABANDONED", -1.0)
    cache = opened()
    for number in (*range(7), *range(7)):
        await keep(cache, tmp_path, number)
        for each in there(cache, range(7)):
            assert await cache.check(digest(each), SIZE)
            assert cache.path(digest(each)).read_bytes() == body(each)
    assert there(cache, range(7)) == [4, 5, 6]
    assert files(tmp_path / "cache") == 3
