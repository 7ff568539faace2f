"""The store on its engines: bodies and their records, what is collected, and logs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import anyio
import msgspec
import pytest

from httpcache.errors import Damaged, StoreError
from httpcache.store.base import Condition, PinTotals
from httpcache.store.log import Log, TypedLog
from httpcache.store.record import Absence, Record, encode
from httpcache.store.sqlite_schema import connect
from httpcache.store.store import SMALL, Store
from tests.support.engines import STORES, StoreMaker, part, read, record_of

pytestmark = pytest.mark.anyio

SIZES = (0, 1, SMALL, SMALL + 1, 10 * SMALL)


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def maker(request: pytest.FixtureRequest) -> StoreMaker:
    found: StoreMaker = request.param
    return found


@pytest.fixture
async def store(maker: StoreMaker, tmp_path: Path) -> AsyncIterator[Store]:
    async with maker(tmp_path) as opened:
        yield opened


async def freeze(store: Store, folder: Path, key: str, body: bytes, name: str = "name") -> Record:
    record = record_of(body, name)
    assert await store.freeze(key, record, part(folder, body)) == record
    return record


async def entries(store: Store) -> dict[str, bytes]:
    return {key: value async for key, value in store.entries("")}


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_frozen(size: int, store: Store, maker: StoreMaker, tmp_path: Path) -> None:
    body = os.urandom(size)
    record = await freeze(store, tmp_path, "r/a", body)
    async with maker(tmp_path) as restarted:
        for opened in (store, restarted):
            assert await opened.get("r/a") == encode(record)
            assert opened.condition(record.digest, size) is not Condition.BROKEN
            assert await opened.check(record.digest, size) is True
            assert opened.condition(record.digest, size) is (Condition.SOUND if size > SMALL else Condition.UNREAD)
            assert await read(opened, record) == body
            assert await read(opened, record, size // 3, size // 2) == body[size // 3 : size // 2]
            small = await opened.small_body(record.digest, size)
            assert small == (body if size <= SMALL else None)
            assert small is not None or opened.blob_path(record.digest).read_bytes() == body
    assert await store.index.pins() == [PinTotals(record.pin, 1, size)]


@pytest.mark.parametrize("size", SIZES)
async def test_a_body_that_is_missing(size: int, store: Store) -> None:
    record = record_of(os.urandom(size))
    assert await store.check(record.digest, size) is False
    with pytest.raises(StoreError):
        await read(store, record)


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_that_is_missing_is_not_frozen(size: int, store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        await store.freeze("r/a", record_of(bytes(size)), tmp_path / "nothing")
    assert await store.get("r/a") is None


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("other_size", SIZES)
async def test_what_is_frozen_again_changes_nothing(size: int, other_size: int, store: Store, tmp_path: Path) -> None:
    """The same or other bytes under a key that has its record; the same bytes under another key."""
    body, other = os.urandom(size), b"x" * other_size
    record = await freeze(store, tmp_path, "r/a", body)
    late = record_of(other, "other")
    for again, content in ((record, body), (msgspec.structs.replace(record, created=2.0), body), (late, other)):
        assert await store.freeze("r/a", again, part(tmp_path, content)) == record
    if other != body:
        assert await store.check(late.digest, other_size) is (other_size > SMALL)  # left over, until it is collected
    await freeze(store, tmp_path, "r/b", body, "b")
    assert set(await entries(store)) == {"r/a", "r/b"}
    assert await read(store, record) == body


async def test_an_absence(store: Store) -> None:
    absence = Absence("key", "a-2024-01-02", "https://example.com/no", 404, 1.0)
    assert await store.freeze_absence("r/a", absence) == absence
    assert (
        await store.freeze_absence("r/a", Absence("key", "a-2024-01-02", "https://example.com/no", 410, 2.0)) == absence
    )
    assert await store.index.pins() == [PinTotals("a-2024-01-02", 1, 0)]
    assert [value for _, value in await store.index.records("a-2024-01-02")] == [encode(absence)]


@pytest.mark.parametrize("some", [False, True], ids=["all", "some"])
@pytest.mark.parametrize("size", SIZES[1:])
async def test_what_no_record_names_is_collected(size: int, some: bool, maker: StoreMaker, tmp_path: Path) -> None:
    bodies = [bytes([number]) * size for number in range(4)]
    async with maker(tmp_path, grace=0.0) as store:
        records = [await freeze(store, tmp_path, f"r/{number}", body) for number, body in enumerate(bodies)]
        await freeze(store, tmp_path, "r/shared", bodies[0])
        assert await store.collect() == 0
        for key in ("r/0", "r/1", "r/2"):
            await store.remove(key)
        wanted = [record.digest for record in records[:2]] if some else None
        assert await store.collect(wanted) == (size if some else 2 * size)
        async with maker(tmp_path) as fresh:  # which remembers nothing
            sound = [await fresh.check(record.digest, size) for record in records]
        assert sound == [True, False, some, True]
        assert await store.collect() == (size if some else 0)


@pytest.mark.parametrize("size", SIZES[1:])
async def test_what_is_frozen_while_others_collect_keeps_its_bytes(size: int, store: Store, tmp_path: Path) -> None:
    bodies = [b"%4d" % number + bytes(size) for number in range(20)]
    records = [record_of(body, f"{number}") for number, body in enumerate(bodies)]
    with anyio.CancelScope() as collecting:
        async with anyio.create_task_group() as group:

            async def collect() -> None:
                while True:
                    await store.collect()

            group.start_soon(collect)
            for turn in range(3):
                for number, (body, record) in enumerate(zip(bodies, records, strict=True)):
                    await store.freeze(f"r/{number}", record, part(tmp_path, body))
                    assert await read(store, record) == body
                    if turn < 2:
                        await store.remove(f"r/{number}")
            collecting.cancel()
    for body, record in zip(bodies, records, strict=True):
        assert await read(store, record) == body


async def test_a_small_body_that_is_damaged(tmp_path: Path) -> None:
    """It is never served, and whoever brings the bytes again mends it."""
    async with STORES["local"](tmp_path) as store:
        record = await freeze(store, tmp_path, "r/a", b"body")
        with closing(connect(tmp_path / "store/index/index.db")) as database:
            database.execute("UPDATE bodies SET body = ?", (b"bOdy",))
        with pytest.raises(Damaged):
            await read(store, record)
        assert await store.check(record.digest, record.size) is False
        await freeze(store, tmp_path, "r/a", b"body")
        assert await read(store, record) == b"body"


# Logs


async def test_a_log_is_read_in_its_order(store: Store) -> None:
    log, other = Log(store, "one"), Log(store, "two")
    assert await log.read() == []
    for number in range(12):
        assert await log.append(number, b"%d" % number) is True
        assert await log.read() == [b"%d" % each for each in range(number + 1)]
    assert await log.read(10) == [b"10", b"11"]
    assert await log.read(12) == await other.read() == []


async def test_nothing_behind_a_gap_is_read(store: Store) -> None:
    log = Log(store, "one")
    for number in (0, 1, 2, 4, 5):
        await log.append(number, b"%d" % number)
    assert await log.read() == [b"0", b"1", b"2"]
    assert await log.read(3) == []
    assert await log.read(4) == [b"4", b"5"]


async def test_a_number_of_a_log_is_given_once(store: Store) -> None:
    log = Log(store, "one")
    assert await log.append(0, b"a") is True
    assert await log.append(0, b"b") is False
    assert await log.read() == [b"a"]


async def test_appends_that_race_are_all_in_the_log(store: Store) -> None:
    """Whoever loses a number takes the next."""
    log = Log(store, "race")

    async def append(value: bytes) -> None:
        number = 0
        while not await log.append(number, value):
            number += 1

    values = [b"%d" % number for number in range(40)]
    async with anyio.create_task_group() as group:
        for value in values:
            group.start_soon(append, value)
    assert sorted(await log.read()) == sorted(values)


async def test_a_long_log_takes_few_requests(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A year of daily observations."""
    log = Log(store, "long")
    async with anyio.create_task_group() as group:
        for number in range(365):
            group.start_soon(log.append, number, b"%d" % number)
    asked: list[int] = []
    page = store.index.page

    async def counting(prefix: str, after: str = "", limit: int = 1000) -> list[tuple[str, bytes]]:
        asked.append(limit)
        return await page(prefix, after, limit)

    monkeypatch.setattr(store.index, "page", counting)
    assert len(await log.read()) == 365
    assert len(asked) == 1
    asked.clear()
    assert await log.read(365) == []
    assert len(asked) == 1


def numbers(store: Store) -> TypedLog[int]:
    return TypedLog(store, "numbers", "numbers", lambda number: b"%d" % number, int)


async def test_a_typed_log_gives_what_was_appended_by_anyone(store: Store) -> None:
    one, other = numbers(store), numbers(store)
    await one.append(1)
    await other.append(2)
    await one.append(2)
    assert list(await one.all()) == list(await other.all()) == list(await numbers(store).all()) == [1, 2, 2]


async def test_a_typed_log_decodes_each_value_once(store: Store) -> None:
    decoded: list[bytes] = []

    def decode(value: bytes) -> int:
        decoded.append(value)
        return int(value)

    log = TypedLog(store, "numbers", "numbers", lambda number: b"%d" % number, decode)
    for number in range(6):
        await numbers(store).append(number)
        await log.all()
    assert decoded == [b"%d" % number for number in range(6)]


async def test_a_value_that_was_decided_on_before_another_came_is_not_appended(store: Store) -> None:
    one, other = numbers(store), numbers(store)
    await one.all()
    assert await other.try_append(1) is True
    assert await one.try_append(2) is False
    assert list(await one.all()) == [1]
    assert await one.try_append(2) is True
    assert list(await other.all()) == [1, 2]


async def test_tasks_that_read_and_append_to_one_typed_log_at_once(store: Store) -> None:
    """None of them has a value twice, and none misses one."""
    log = numbers(store)
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(log.append, number)
            tasks.start_soon(log.all)
            tasks.start_soon(numbers(store).append, 100 + number)
    found = list(await log.all())
    assert sorted(found) == [*range(20), *range(100, 120)]
    assert found == list(await numbers(store).all())


async def test_a_typed_log_that_is_cut_goes_on_behind_what_is_left(store: Store) -> None:
    log = numbers(store)
    for number in range(5):
        await log.append(number)
    await log.cut(2)
    await log.append(9)
    assert list(await log.all()) == list(await numbers(store).all()) == [0, 1, 9]
