"""What is particular to the index in PostgreSQL: its tables, connections that get lost, and what processes know of."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import anyio
import psycopg
import pytest

from httpcache.errors import Damaged, StoreError, StoreFull
from httpcache.store import postgres_connection, postgres_pool, postgres_schema
from httpcache.store.base import Columns, PinTotals, Place
from httpcache.store.log import Log
from httpcache.store.postgres_index import PostgresIndex
from httpcache.store.postgres_listener import BOUND
from httpcache.store.postgres_schema import upgrade
from httpcache.store.store import Store
from tests.support.engines import BLOBS, part, record_of
from tests.support.postgres import Postgres, shared
from tests.support.relay import Relay

pytestmark = pytest.mark.anyio

TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND datname = current_database()
"""
COLUMNS = Columns("a-2024-01-02", "https://one/x", "d1", 10)


@pytest.fixture
def url() -> str:
    """The address of a new index."""
    made = shared().database()
    upgrade(made)
    return made


@pytest.fixture(scope="module")
def own() -> Iterator[Postgres]:
    """A server that the tests may stop."""
    server = Postgres()
    yield server
    server.close()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresIndex]:
    index = PostgresIndex(url)
    await index.open()
    try:
        yield index
    finally:
        await index.close()


@pytest.fixture
async def index(url: str) -> AsyncIterator[PostgresIndex]:
    async with opened(url) as made:
        yield made


def relayed(url: str, relay: Relay) -> str:
    """The same database through a relay."""
    return url.replace(f":{shared().port}/", f":{relay.port}/")


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not holds():  # noqa: ASYNC110
            await anyio.sleep(0.02)


def known(index: PostgresIndex) -> bool:
    """Whether the generation can be relied on."""
    return index.generation() == index.generation()


async def working(index: PostgresIndex) -> bytes | None:
    """What a key has, as soon as there is an answer."""
    with anyio.fail_after(60):
        while True:
            try:
                return await index.get("h/a")
            except StoreError:
                await anyio.sleep(0.1)


# The tables


@pytest.mark.parametrize(
    ("version", "text"),
    [(None, "httpcache index upgrade"), (0, "has version 0.*httpcache index upgrade"), (99, "newer than this program")],
    ids=str,
)
async def test_tables_of_another_version(version: int | None, text: str) -> None:
    """A node says what to do, and makes nothing."""
    url = shared().database()
    if version is not None:
        upgrade(url)
        shared().execute(f"UPDATE schema_version SET version = {version}", url)
    tables = shared().execute("SELECT * FROM pg_tables WHERE schemaname = 'public'", url)
    with pytest.raises(StoreError, match=text):
        await PostgresIndex(url).open()
    assert shared().execute("SELECT * FROM pg_tables WHERE schemaname = 'public'", url) == tables
    if version == 99:
        with pytest.raises(StoreError, match=text):
            upgrade(url)


def test_five_that_upgrade_at_once() -> None:
    url = shared().database()
    with ThreadPoolExecutor(5) as threads:
        assert sorted(threads.map(upgrade, [url] * 5)) == [False] * 4 + [True]


async def test_an_upgrade_keeps_the_entries(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(url) as index:
        await index.add("r/a", b"value", COLUMNS, b"body")
    steps = postgres_schema.STEPS
    monkeypatch.setattr(postgres_schema, "STEPS", [*steps, "CREATE TABLE more (x text); SELECT 1 / 0"])
    with pytest.raises(StoreError):
        upgrade(url)
    assert shared().execute("SELECT to_regclass('more'), version FROM schema_version", url) == [(None, len(steps))]
    monkeypatch.setattr(postgres_schema, "STEPS", [*steps, "CREATE TABLE more (x text)"])
    assert upgrade(url) is True
    assert upgrade(url) is False
    async with opened(url) as index:
        assert await index.get("r/a") == b"value"
        assert await index.body("d1") == b"body"


def test_a_database_whose_text_is_not_utf8() -> None:
    server = shared()
    server.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(StoreError, match="UTF8"):
        upgrade(f"postgresql://postgres@127.0.0.1:{server.port}/latin")


async def test_a_database_that_would_lose_what_it_has_committed(url: str) -> None:
    shared().execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET synchronous_commit = off")
    with pytest.raises(StoreError, match="synchronous_commit"):
        await PostgresIndex(url).open()


async def test_a_pooler_before_the_database(url: str) -> None:
    """It gives out numbers of sessions of its own."""
    async with Relay.before(shared().port) as relay:
        relay.alter = lambda data: re.sub(
            rb"K\0\0\0\x0c.{8}", b"K\0\0\0\x0c\0\0\0\x01\0\0\0\x01", data, flags=re.DOTALL
        )
        with pytest.raises(StoreError, match="pooler"):
            await PostgresIndex(relayed(url, relay)).open()


@pytest.mark.parametrize("url", ["http://user:secret@host/x", "host=x secret", "postgresql://user:secret@[::1/x"])
def test_an_address_that_cannot_be_read(url: str) -> None:
    with pytest.raises(StoreError, match="write postgresql://") as caught:
        PostgresIndex(url)
    assert "secret" not in caught.value.text


def test_an_embedded_mirror_does_not_import_it() -> None:
    code = "import sys, httpcache.command.cli, httpcache.store.local; print('psycopg' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


# Entries


async def test_values_that_were_changed(index: PostgresIndex, url: str) -> None:
    for key in ("h/a", "h/b", "h/c", "h/d"):
        await index.add(key, key.encode())
    shared().execute("UPDATE entries SET value = value || 'x'::bytea WHERE key = 'h/a'", url)
    shared().execute("UPDATE entries SET value = (SELECT value FROM entries WHERE key = 'h/d') WHERE key = 'h/b'", url)
    shared().execute("UPDATE entries SET value = '' WHERE key = 'h/c'", url)
    for key in ("h/a", "h/b", "h/c"):
        for work in (index.get(key), index.add(key, b"other"), index.get_many([key]), index.page(key)):
            with pytest.raises(Damaged, match=key):
                await work
    assert await index.get("h/d") == b"h/d"
    assert await index.keys("h/") == ["h/a", "h/b", "h/c", "h/d"]
    assert [re.findall(r"h/\w", line) for line in await index.problems()] == [["h/a"], ["h/b"], ["h/c"]]


async def test_addresses_that_are_longer_than_a_key_of_a_tree(index: PostgresIndex) -> None:
    """In the order of their bytes, with pages that end between any two of them."""
    same = "https://one/" + "".join(Random(1).choices("éabcdefghijklmnopqrstuvwxyz", k=10_000))
    rows = sorted((address, f"r/{number}") for number in range(3) for address in (same, same + "a", same[:400], "x"))
    rows = [(address, f"{key}-{len(address)}") for address, key in rows]
    for address, key in rows:
        await index.add(key, key.encode(), Columns("p", address))
    found: list[Place] = []
    while page := await index.records("p", after=found[-1] if found else None, limit=1):
        found += [each.place for each in page]
    assert found == sorted(map(Place._make, rows))
    assert [each.place.address for each in await index.records("p", address=same)] == [same] * 3


async def test_totals_are_exact_whoever_writes(url: str) -> None:
    """Several at once into the same pin, from many connections, with some that remove."""
    async with opened(url) as one, opened(url) as other, anyio.create_task_group() as group:

        async def write(index: PostgresIndex, number: int) -> None:
            await index.add(f"r/{number}", b"x", COLUMNS._replace(size=number))
            if number % 3 == 0:
                await index.remove(f"r/{number}")

        for number in range(60):
            group.start_soon(write, (one, other)[number % 2], number)
            group.start_soon(write, (other, one)[number % 2], number)
    left = shared().execute("SELECT count(*), sum(size) FROM records", url)
    async with opened(url) as index:
        assert [tuple(await index.totals(COLUMNS.pin))[1:]] == left
        assert await index.pins() == [await index.totals(COLUMNS.pin)]
        for number in range(60):
            await index.remove(f"r/{number}")
        assert await index.pins() == []
        assert await index.totals(COLUMNS.pin) == PinTotals(COLUMNS.pin, 0, 0)


async def test_a_body_is_there_as_long_as_its_record_whoever_collects(url: str) -> None:
    """Records come and go in two processes, some with a body of their own, while a third removes what none has."""
    async with opened(url) as one, opened(url) as other, opened(url) as collector:
        with anyio.CancelScope() as collecting:
            async with anyio.create_task_group() as group:

                async def collect(digest: str) -> None:
                    while True:
                        await collector.remove_bodies([digest])

                async def freeze(index: PostgresIndex, key: str, digest: str) -> None:
                    for _ in range(40):
                        await index.add(key, b"record", COLUMNS._replace(digest=digest), b"body")
                        assert await index.body(digest) == b"body"
                        await index.remove(key)

                for digest in ("d1", "d2", "d3"):
                    group.start_soon(collect, digest)
                async with anyio.create_task_group() as writers:
                    for key, index, digest in (
                        ("r/1", one, "d1"),
                        ("r/2", other, "d1"),
                        ("r/3", one, "d2"),
                        ("r/4", other, "d3"),
                    ):
                        writers.start_soon(freeze, index, key, digest)
                collecting.cancel()
        await one.remove_bodies(list(await one.unused_bodies()))
        assert [await one.body(digest) for digest in ("d1", "d2", "d3")] == [None] * 3


async def test_a_key_that_is_removed_and_added_all_the_time(url: str) -> None:
    """Whoever adds gets a value that was added, and one that was added is there."""
    async with opened(url) as one, opened(url) as other, anyio.create_task_group() as group:

        async def change(index: PostgresIndex, name: str) -> None:
            for number in range(40):
                winner = await index.add("r/a", f"{name} {number}".encode(), COLUMNS, b"body")
                assert re.fullmatch(rb"(one|other) \d+", winner)
                await index.remove("r/a")

        group.start_soon(change, one, "one")
        group.start_soon(change, other, "other")
    async with opened(url) as index:
        assert (
            await index.pins(),
            await index.keys(""),
            await index.remove_bodies(list(await index.unused_bodies())),
        ) == ([], [], 4)


# Errors


@pytest.mark.parametrize(
    ("code", "kind", "again"),
    [
        ("53100", StoreFull, False),  # disk_full
        ("XX001", Damaged, False),  # data_corrupted
        ("53200", StoreError, True),  # out_of_memory
        ("53300", StoreError, True),  # too_many_connections
        ("57014", StoreError, True),  # query_canceled
        ("40P01", StoreError, True),  # deadlock_detected
        ("25006", StoreError, True),  # read_only_sql_transaction
        ("08006", StoreError, True),  # connection_failure
        ("42501", StoreError, False),  # insufficient_privilege
    ],
)
async def test_errors_of_the_server(
    code: str, kind: type[StoreError], again: bool, index: PostgresIndex, url: str
) -> None:
    shared().execute(
        f"""CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'a secret' USING ERRCODE = '{code}'; END $$;
        CREATE TRIGGER fail BEFORE INSERT ON entries FOR EACH ROW EXECUTE FUNCTION fail()""",
        url,
    )
    with pytest.raises(StoreError) as caught:
        await index.add("h/a", b"x")
    assert type(caught.value) is kind
    assert ("retry-after" in caught.value.headers) is again
    assert "secret" not in caught.value.text
    assert await index.get("h/a") is None


async def test_a_lock_that_is_held_for_long(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_connection, "PATIENCE", 1)
    async with opened(url) as index:
        with psycopg.connect(url) as other:
            other.execute("LOCK TABLE entries")
            reading = index.get("h/a")
            for work in (index.add("h/a", b"x"), reading, index.remove("h/a")):
                before = index.generation()
                with pytest.raises(StoreError, match="try again") as caught:
                    await work
                assert (work is reading) or index.generation() != before  # it may have been made
                assert caught.value.headers["retry-after"]
        assert await index.add("h/a", b"x") == b"x"


async def test_a_server_with_no_connection_left(url: str) -> None:
    """What has one goes on, also with more requests at once than it has connections; others wait for their turn."""
    shared().execute(f"ALTER DATABASE {url.rpartition('/')[2]} CONNECTION LIMIT 2")
    async with opened(url) as index:
        await index.add("h/a", b"x")
        with pytest.raises(StoreError, match="try again") as caught:
            await PostgresIndex(url).open()
        assert caught.value.headers["retry-after"]
        found: list[bytes | None] = []

        async def get() -> None:
            found.append(await index.get("h/a"))

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(get)
        assert found == [b"x"] * 50
    async with opened(url) as index:
        assert await index.get("h/a") == b"x"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL], ids=lambda how: how.name)
async def test_a_restart_under_load(how: signal.Signals, own: Postgres) -> None:
    """What was acknowledged is there, what failed says to try again, and the index works again by itself."""
    url = own.database()
    upgrade(url)
    added: dict[str, bytes] = {}
    failed: list[StoreError] = []
    async with opened(url) as index, opened(url) as other:
        with anyio.CancelScope() as load:
            async with anyio.create_task_group() as group:

                async def write(name: int) -> None:
                    for number in range(1_000_000):
                        key = f"h/{name}-{number}"
                        try:
                            added[key] = await index.add(key, key.encode(), COLUMNS, b"body")
                            assert await index.get(key) == key.encode()
                        except StoreError as error:
                            failed.append(error)

                for name in range(10):
                    group.start_soon(write, name)
                await until(lambda: len(added) > 50)
                before = other.generation()
                await anyio.to_thread.run_sync(own.stop, how)
                await anyio.to_thread.run_sync(own.start)
                seen = len(added)
                await until(lambda: len(added) > seen + 50 and known(index) and known(other))
                load.cancel()
        assert other.generation() != before
        assert {error.headers.get("retry-after") for error in failed} <= {"10"}
        for key, value in added.items():
            assert await index.get(key) == value == key.encode()
        assert await index.problems() == []
        assert (await index.totals(COLUMNS.pin)).entries == len(await index.records(COLUMNS.pin, limit=1_000_000))


async def test_a_server_that_is_away_for_a_while(own: Postgres) -> None:
    """Requests end with an error that says when to come again; nothing is answered from memory meanwhile."""
    url = own.database()
    upgrade(url)
    async with opened(url) as index:
        await index.add("h/a", b"x")
        before = index.generation()
        await anyio.to_thread.run_sync(own.stop)
        await until(lambda: not known(index))
        for work in (index.get("h/a"), index.add("h/b", b"x"), index.remove("h/a"), index.pins()):
            with anyio.fail_after(60), pytest.raises(StoreError) as caught:
                await work
            assert (caught.value.status, caught.value.headers["retry-after"]) == (503, "10")
        with pytest.raises(StoreError):
            await PostgresIndex(url).open()
        await anyio.to_thread.run_sync(own.start)
        assert await working(index) == b"x"
        await until(lambda: known(index))
        assert index.generation() != before


async def test_a_read_whose_connection_gets_lost_is_tried_again(index: PostgresIndex, url: str) -> None:
    """Also if all connections were lost; and an addition, which finds its own value if it was made."""
    await index.add("h/a", b"x")
    for _ in range(3):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(index.get, "h/a")
        shared().execute(TERMINATE, url)
        assert await index.get("h/a") == b"x"
        shared().execute(TERMINATE, url)
        assert await index.add("h/b", b"y") == b"y"


async def test_a_network_that_carries_nothing_more(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections stay open, and nothing comes."""
    monkeypatch.setattr(postgres_pool, "HANGS", 0.5)
    async with (
        Relay.before(shared().port) as relay,
        opened(relayed(url, relay)) as index,
    ):
        await index.add("h/a", b"x")
        before = index.generation()
        relay.passing.clear()
        await until(lambda: not known(index))
        with anyio.fail_after(60), pytest.raises(StoreError) as caught:
            await index.get("h/a")
        assert caught.value.headers["retry-after"]
        relay.passing.set()
        assert await working(index) == b"x"
        await until(lambda: known(index))
        assert index.generation() != before


# What other processes have changed


async def test_what_was_committed_before_a_command_is_known_before_its_answer(url: str) -> None:
    """PostgreSQL's side of the promise."""
    async with (
        await psycopg.AsyncConnection.connect(url, autocommit=True) as listening,
        await psycopg.AsyncConnection.connect(url, autocommit=True) as writing,
    ):
        await listening.execute("LISTEN httpcache")
        for number in range(300):
            await writing.execute("SELECT pg_notify('httpcache', %s)", (f"{number}",))
            await listening.execute("SELECT 1")
            assert [each.payload async for each in listening.notifies(timeout=0)] == [f"{number}"]


@pytest.mark.parametrize("trouble", ["none", "terminated", "cut off"])
async def test_everybody_knows_of_a_change_within_the_bound(trouble: str, url: str) -> None:
    """Whatever happens to the connection that listens: nobody relies on a generation from before the change."""
    async with (
        Relay.before(shared().port) as relay,
        opened(relayed(url, relay)) as reader,
        opened(url) as writer,
    ):
        for number in range(4):
            await until(lambda: known(reader))
            before = reader.generation()
            if trouble == "cut off":
                relay.passing.clear()
            if trouble == "terminated":
                shared().execute(TERMINATE, url)
            await writer.add(f"h/{number}", b"x")
            await anyio.sleep(BOUND)
            assert reader.generation() != before
            await anyio.sleep(BOUND)  # by then a connection from which nothing comes was given up
            relay.passing.set()
            await until(lambda: known(reader))
            assert reader.generation() != before


async def test_a_change_counts_once(index: PostgresIndex, url: str) -> None:
    """Its own notification does not make its process forget what it has read since."""
    async with opened(url) as other:
        seen = {index.generation()}
        for number in range(20):
            await index.add(f"h/{number}", b"x")
            seen.add(index.generation())
        await other.add("h/other", b"x")
        await until(lambda: index.generation() not in seen)
        seen.add(index.generation())
        await anyio.sleep(2 * BOUND)
        assert index.generation() in seen
        assert len(seen) == 22


# What it costs


async def test_requests_of_the_common_operations(url: str, tmp_path: Path) -> None:
    """As the server counts them; docs/scaling.md has the same table."""
    server = shared()
    name = url.rpartition("/")[2]
    server.execute(f"ALTER DATABASE {name} SET log_statement = 'all'")
    async with opened(url) as index, BLOBS["files"](tmp_path) as blobs:
        store = Store(index, blobs, tmp_path)
        log = Log(store, "long")
        for number in range(365):
            await index.add(f"{log._prefix}{number:010}", b"x" * 100)
        await index.get("h/a")

        async def requests(work: Callable[[], object]) -> int:
            def count() -> int:
                return len(
                    re.findall(rf"^{name} LOG:  (?:execute|statement)(?!.*SELECT 1$)", server.log(), re.MULTILINE)
                )

            before = count()
            await work()  # type: ignore[misc]
            return count() - before

        record, large = record_of(b"small"), record_of(b"x" * 100_000, "large")
        counted = {
            "get": await requests(lambda: store.get("h/a")),
            "freeze a small body": await requests(lambda: store.freeze("r/a", record, part(tmp_path, b"small"))),
            "freeze a large body": await requests(lambda: store.freeze("r/b", large, part(tmp_path, b"x" * 100_000))),
            "append": await requests(lambda: log.append(365, b"x")),
            "read a log": await requests(log.read),
            "read what is new": await requests(lambda: log.read(366)),
        }
    assert counted == {
        "get": 1,
        "freeze a small body": 1,
        "freeze a large body": 1,
        "append": 1,
        "read a log": 1,
        "read what is new": 1,
    }
