"""PostgreSQL against SQLite, the two indexes of a store, on the same work: operations a second in one process.

Both have the same records, written straight into their tables. PostgreSQL is that of the tests, on this machine, so a
round trip costs what a socket costs; between machines the time of the network comes on top of each. Its shared buffers
have 16 MB, and the system's cache the rest. Nothing is kept in memory by the mirror: what it keeps (`CachedIndex`, and
answers) is in the works of nodes.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

import psycopg

from httpcache.store import keys
from httpcache.store.base import Index, Place
from httpcache.store.file_blobs import FileBlobs
from httpcache.store.local import LocalStore
from httpcache.store.log import Log
from httpcache.store.postgres_index import PostgresIndex
from httpcache.store.postgres_schema import upgrade
from httpcache.store.record import Record, columns, encode
from httpcache.store.seal import sealed
from httpcache.store.store import Store

from . import records
from .peers import PIN

SQLITE: Final = "SQLite"
POSTGRES: Final = "PostgreSQL"
LOG: Final = 365
BODY: Final = 1_000
"""Bytes of a small body."""

Operation = Callable[[], Awaitable[object]]


def fill(url: str, count: int) -> None:
    """Make the tables in an empty database, and write the records that `records.fill` writes into a folder."""
    upgrade(url)
    digest = "0" * 64
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        with cursor.copy("COPY entries (key, value) FROM STDIN") as copy:
            for number in range(count):
                key, frozen = records.entry(number, digest)
                copy.write_row((key, sealed(key, encode(frozen))))
        cursor.execute("ALTER TABLE records DISABLE TRIGGER count_record")  # it is slow within one large transaction
        with cursor.copy("COPY records FROM STDIN") as copy:
            for number in range(count):
                key, frozen = records.entry(number, digest)
                copy.write_row((key, *columns(frozen)))
        cursor.execute("ALTER TABLE records ENABLE TRIGGER count_record")
        cursor.execute("INSERT INTO pins SELECT pin, 0, count(*), sum(size) FROM records GROUP BY pin")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


@asynccontextmanager
async def stores(folder: Path, url: str) -> AsyncIterator[dict[str, Store]]:
    """Open a filled folder and a filled database; the store on PostgreSQL has no blobs of its own."""
    local = LocalStore(folder)
    index = PostgresIndex(url)
    try:
        await index.open()
        yield {SQLITE: local, POSTGRES: Store(index, FileBlobs(folder), local.spool)}
    finally:
        await index.close()
        local.close()


def measure(folder: Path, url: str, count: int, seconds: float, rounds: int) -> Iterator[tuple[str, str, float]]:
    """Yield works, columns, and operations a second; both take turns in each work."""
    yield from asyncio.run(_measure(folder, url, count, seconds, rounds))


async def _measure(folder: Path, url: str, count: int, seconds: float, rounds: int) -> list[tuple[str, str, float]]:
    found = []
    async with stores(folder, url) as opened:
        works = {column: dict(_works(store, count)) for column, store in opened.items()}
        for store in opened.values():
            for number in range(LOG):
                await Log(store, "read").append(number, _BODY)
        for _ in range(rounds):
            for work in works[SQLITE]:
                at_once = 16 if "16" in work else 1
                for column, operations in works.items():
                    found.append((work, column, await _rate(operations[work], seconds, at_once)))
    return found


def _works(store: Store, count: int) -> Iterator[tuple[str, Operation]]:
    index = store.index
    draw = random.Random(1)
    numbers = itertools.count()
    appended = itertools.count()

    async def get() -> None:
        assert await index.get(records.entry(draw.randrange(count), "")[0])

    async def add() -> None:
        await _add(index, next(numbers))

    async def append() -> None:
        assert await Log(store, "append").append(next(appended), _BODY)

    async def read() -> None:
        assert len(await Log(store, "read").read()) == LOG

    async def page() -> None:
        key, frozen = records.entry(draw.randrange(count), "")
        await index.records(PIN, after=Place(frozen.url, key), limit=100)

    async def totals() -> None:
        assert await index.pins()

    yield "get", get
    yield "add a record with a small body", add
    yield "the same, 16 at once", add
    yield "append to a log", append
    yield f"read a log of {LOG}", read
    yield "page of 100 records of a pin", page
    yield "totals of the pins", totals


_BODY: Final = bytes(BODY)


async def _add(index: Index, number: int) -> None:
    body = number.to_bytes(8, "big") + _BODY
    name = sha256(body).hexdigest()
    frozen = Record(name, "added", f"http://127.0.0.1:9/{number}", "", name, len(body), 0.0, headers={})
    await index.add(keys.record(name), encode(frozen), columns(frozen), body, counts=False)


async def _rate(operation: Operation, seconds: float, at_once: int) -> float:
    started = time.perf_counter()

    async def repeat() -> int:
        for done in itertools.count(1):
            await operation()
            if time.perf_counter() - started > seconds:
                return done
        raise AssertionError

    counts = await asyncio.gather(*(repeat() for _ in range(at_once)))
    return sum(counts) / (time.perf_counter() - started)
