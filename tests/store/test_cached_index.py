"""What an index on other machines is asked for, and what of it is known in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from httpcache.store import keys
from httpcache.store.base import Columns, Index, Range
from httpcache.store.cached_index import CachedIndex
from tests.support.engines import sqlite

pytestmark = pytest.mark.anyio

BODY = b"body"
RECORD = Columns("a-2024-01-02", "https://one/x", sha256(BODY).hexdigest(), len(BODY))


class Counted:
    """Another index, with a note of what it is asked, and whether it can say its generation."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.asked: list[str] = []
        self.knows = True

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        return getattr(self._index, name)

    def generation(self) -> Hashable:
        return self._index.generation() if self.knows else object()


@pytest.fixture
async def counted(tmp_path: Path) -> AsyncIterator[Counted]:
    async with sqlite(tmp_path) as index:
        await index.add("r/1", b"value", RECORD, BODY)
        await index.add("r/2", b"other", RECORD, BODY)
        yield Counted(index)


async def test_what_is_known_is_not_asked_for(counted: Counted) -> None:
    index = CachedIndex(counted)
    for _ in range(3):
        assert await index.get("r/1") == b"value"
        assert await index.get_many(["r/1", "r/2"]) == [b"value", b"other"]
        assert await index.body(RECORD.digest) == BODY
    assert counted.asked == ["get_many", "get_many", "body"]


async def test_that_another_value_is_not_there_is_known_until_something_changes(counted: Counted) -> None:
    index = CachedIndex(counted)
    for _ in range(3):
        assert await index.get("h/1") is None
    assert counted.asked == ["get_many"]
    await counted._index.add("h/1", b"value")
    assert await index.get("h/1") == b"value"


async def test_a_record_that_is_not_there_is_asked_for_each_time(counted: Counted) -> None:
    """It can be frozen at any time, which does not count."""
    index = CachedIndex(counted)
    assert await index.get("r/3") is None
    await counted._index.add("r/3", b"frozen", RECORD, BODY, counts=False)
    assert await index.get("r/3") == b"frozen"


async def test_nothing_is_known_after_a_change(counted: Counted) -> None:
    index = CachedIndex(counted)
    assert await index.get("r/1") == b"value"
    await counted._index.remove("r/1")
    assert await index.get("r/1") is None
    assert await index.get("r/2") == b"other"
    assert await index.get("r/2") == b"other"
    assert counted.asked.count("get_many") == 3


async def test_nothing_is_known_while_it_cannot_be_told_whether_something_has_changed(counted: Counted) -> None:
    index = CachedIndex(counted)
    assert await index.get("r/1") == b"value"
    counted.knows = False
    for _ in range(2):
        assert await index.get("r/1") == b"value"
    counted.knows = True
    for _ in range(2):
        assert await index.get("r/1") == b"value"
    assert counted.asked.count("get_many") == 4


async def test_a_change_while_a_value_is_read(counted: Counted) -> None:
    """It may be of before the change, and is not kept."""
    index = CachedIndex(counted)
    get_many = counted._index.get_many

    async def slow(keys: Sequence[str]) -> list[bytes | None]:
        values = await get_many(keys)
        await counted._index.remove("r/2")
        return values

    counted._index.get_many = slow  # type: ignore[method-assign]
    assert await index.get("r/1") == b"value"
    counted._index.get_many = get_many  # type: ignore[method-assign]
    await index.get("r/1")
    assert counted.asked.count("get_many") == 2


LIMIT = 100


def entry(log: str, number: int) -> str:
    """The key of an entry of a log."""
    return keys.numbered(keys.log(log), number)


async def read_on(index: CachedIndex, log: str, start: int = 0) -> list[bytes]:
    """The entries of a log from a number on."""
    prefix = keys.log(log)
    return [value for _, value in await index.page(prefix, entry(log, start - 1) if start else prefix, LIMIT)]


async def test_what_is_new_in_several_logs_is_one_request(counted: Counted) -> None:
    """Those that were read last; and nothing is asked for again until something changes."""
    index = CachedIndex(counted)
    for name in "ab":
        await counted._index.add(entry(name, 0), b"0")
        assert await read_on(index, name) == [b"0"]
        assert await read_on(index, name, 1) == []
    counted.asked.clear()
    for name in "abb":
        assert await read_on(index, name, 1) == []
    assert counted.asked == []
    await counted._index.add(entry("b", 1), b"1")
    await counted._index.add(entry("c", 0), b"2")
    assert await read_on(index, "c") == [b"2"]
    assert await read_on(index, "a", 1) == []
    assert await read_on(index, "b", 1) == [b"1"]
    assert counted.asked == ["pages"]
    assert await read_on(index, "b") == [b"0", b"1"]  # another page of it
    assert counted.asked == ["pages", "pages"]


async def test_no_page_is_known_while_it_cannot_be_told_whether_something_has_changed(counted: Counted) -> None:
    index = CachedIndex(counted)
    counted.knows = False
    for expected in ([], [b"0"]):
        assert await read_on(index, "a") == expected
        await counted._index.add(entry("a", 0), b"0")
    assert counted.asked == ["pages", "pages"]


async def test_a_change_while_a_page_is_read(counted: Counted) -> None:
    """What is new is not missed: the page may be of before it, and is not kept."""
    index = CachedIndex(counted)
    pages = counted._index.pages

    async def slow(ranges: Sequence[Range]) -> list[list[tuple[str, bytes]]]:
        found = await pages(ranges)
        await counted._index.add(entry("a", 0), b"0")
        return found

    counted._index.pages = slow  # type: ignore[method-assign]
    assert await read_on(index, "a") == []
    counted._index.pages = pages  # type: ignore[method-assign]
    assert await read_on(index, "a") == [b"0"]


async def test_pages_of_records_are_asked_for_each_time(counted: Counted) -> None:
    """They can be frozen at any time, which does not count."""
    index = CachedIndex(counted)
    assert [key for key, _ in await index.page("r/")] == ["r/1", "r/2"]
    await counted._index.add("r/3", b"frozen", RECORD, BODY, counts=False)
    assert [key for key, _ in await index.page("r/")] == ["r/1", "r/2", "r/3"]


async def test_a_damaged_body_is_not_kept(tmp_path: Path) -> None:
    async with sqlite(tmp_path) as inner:
        counted = Counted(inner)
        await inner.add("r/1", b"value", RECORD, b"bOdy")
        index = CachedIndex(counted)
        assert await index.body(RECORD.digest) == b"bOdy"
        await inner.add("r/1", b"value", RECORD, BODY)
        assert [await index.body(RECORD.digest) for _ in range(2)] == [BODY, BODY]
        assert counted.asked.count("body") == 2
