"""The usage journal: what it sums up over processes, its bounds, and what it does when it cannot be written."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from httpcache.errors import StoreError
from httpcache.store import side_database, usage
from httpcache.store.layout import prepare
from httpcache.store.local import LocalStore
from httpcache.store.sqlite_usage import FILE, SqliteUsage
from httpcache.store.usage import READERS, Journal, Reader, Subject, Usage, Use, Used, UsedEntry, Uses, summed
from tests.support.engines import IndexMaker
from tests.support.examples import examples

pytestmark = pytest.mark.anyio

PIN, OTHER, DATE = "a-2024-01-02", "b-2024-01-02", "2024-01-02"
X, Y, Z = (Subject(PIN, name, f"https://one/{name}") for name in "xyz")
THERE = Subject(OTHER, "there", "https://one/there")
PAGE = Subject(DATE)


@pytest.fixture
async def journal(maker: IndexMaker, tmp_path: Path) -> AsyncIterator[Usage]:
    async with maker(tmp_path) as index:
        yield index.usage


async def test_a_new_journal_is_empty(journal: Usage) -> None:
    assert await journal.pins() == {}
    assert await journal.pin(PIN) is None
    assert await journal.entries(["x"]) == {}
    assert await journal.of_pin(PIN) == []
    assert await journal.readers("x") == []
    await journal.remove(["x"])


async def test_hits_and_bytes_add_up(journal: Usage) -> None:
    await journal.add([Use(X, "c1", 2, 20), Use(X, "c2", 1, 10), Use(Y, "c1", 1, 5), Use(PAGE, "c1", 4, 40)], 100.0)
    await journal.add([Use(X, "c2", 3, 30), Use(THERE, "c2", 1, 0)], 200.0)
    assert await journal.pins() == {
        DATE: Used(4, 40, 100.0, 100.0),
        PIN: Used(7, 65, 100.0, 200.0),
        OTHER: Used(1, 0, 200.0, 200.0),
    }
    assert await journal.pin(PIN) == Used(7, 65, 100.0, 200.0)
    assert await journal.entries(["x", "y", "none"]) == {
        "x": Used(6, 60, 100.0, 200.0),
        "y": Used(1, 5, 100.0, 100.0),
    }
    assert await journal.readers("x") == [Reader("c2", 4, 100.0, 200.0), Reader("c1", 2, 100.0, 100.0)]
    assert await journal.of_pin(DATE) == []  # an index has no entries


async def test_a_clock_that_is_set_back_makes_no_use_older(journal: Usage) -> None:
    await journal.add([Use(X, "c", 1, 1)], 200.0)
    await journal.add([Use(X, "c", 1, 1)], 100.0)
    assert await journal.entries(["x"]) == {"x": Used(2, 2, 200.0, 200.0)}


async def test_entries_by_last_use_in_pages(journal: Usage) -> None:
    at = {Y: 300.0, X: 100.0, Z: 200.0}
    for subject, now in at.items():
        await journal.add([Use(subject, "c", 1, 1)], now)
    await journal.add([Use(Subject(PIN, "z2", "https://one/z2"), "c", 1, 1)], 200.0)  # as old as another one
    for oldest in (False, True):
        found: list[UsedEntry] = []
        while page := await journal.of_pin(PIN, behind=found[-1] if found else None, limit=2, oldest=oldest):
            found += page
        order = [entry.key for entry in found]
        assert order == (["x", "z", "z2", "y"] if oldest else ["y", "z2", "z", "x"])
        assert {entry.key: entry.address for entry in found}["x"] == "https://one/x"


async def test_the_last_readers_are_kept(journal: Usage) -> None:
    await journal.add([Use(X, f"early{number:02}", 1, 1) for number in range(READERS)], 100.0)
    await journal.add([Use(X, f"late{number:02}", 1, 1) for number in range(READERS - 1)], 200.0)
    names = [reader.client for reader in await journal.readers("x")]
    assert names == [f"late{number:02}" for number in range(READERS - 1)] + ["early00"]
    assert (await journal.entries(["x"]))["x"].hits == 2 * READERS - 1


async def test_what_is_removed_is_gone(journal: Usage) -> None:
    await journal.add([Use(X, "c", 2, 20), Use(Y, "c", 1, 5), Use(THERE, "c", 1, 7)], 100.0)
    await journal.remove(["x", "there", "none"])
    assert await journal.pins() == {PIN: Used(1, 5, 100.0, 100.0)}
    assert await journal.entries(["x", "y", "there"]) == {"y": Used(1, 5, 100.0, 100.0)}
    assert await journal.readers("x") == []
    assert [entry.key for entry in await journal.of_pin(PIN)] == ["y"]


async def test_pins_have_a_bound(maker: IndexMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can ask for the index at any instant. Those that were used last stay."""
    for module in ("sqlite_usage", "postgres_usage"):
        dropping = f"httpcache.store.{module}._DROP_PINS"
        monkeypatch.setattr(dropping, _attribute(dropping).replace(f"OFFSET {usage.PINS}", "OFFSET 3"))
    async with maker(tmp_path) as index:
        for number in range(6):
            await index.usage.add([Use(Subject(f"{number}"), "c", 1, 1)], float(number))
    async with maker(tmp_path) as index:
        await index.usage.add([Use(Subject("5"), "c", 1, 1)], 6.0)
        assert sorted(await index.usage.pins()) == ["3", "4", "5"]


def _attribute(path: str) -> str:
    module, _, name = path.rpartition(".")
    found: str = getattr(__import__(module, fromlist=[name]), name)
    return found


USES = st.lists(
    st.builds(
        Use, st.sampled_from([X, Y, THERE, PAGE]), st.sampled_from(["c1", "c2"]), st.integers(1, 9), st.integers(0, 99)
    ),
    max_size=6,
)


@given(parts=st.lists(USES, max_size=5))
@settings(max_examples=examples(30), deadline=None)
def test_it_is_the_sum_of_what_its_processes_add(parts: list[list[Use]]) -> None:
    """Two connections stand for two processes; in the end every count is what a plain sum says."""

    async def work(folder: Path) -> None:
        prepare(folder)
        journals = [SqliteUsage(folder, read_only=False) for _ in range(2)]
        for number, part in enumerate(parts):
            await journals[number % 2].add(part, float(number))
        whole = [use for part in parts for use in part]
        hits, size = Counter[str](), Counter[str]()
        readers = Counter[tuple[str, str]]()
        for subject, client, count, length in whole:
            for name in {subject.pin, subject.key} - {""}:
                hits[name] += count
                size[name] += length
            if subject.key:
                readers[subject.key, client] += count
        for one in journals:
            found = await one.pins() | await one.entries(["x", "y", "there"])
            assert {name: used.hits for name, used in found.items()} == hits
            assert {name: used.bytes for name, used in found.items()} == {name: size[name] for name in hits}
            assert {(key, each.client): each.hits for key in hits for each in await one.readers(key)} == readers
            one.close()

    with TemporaryDirectory() as folder:
        anyio.run(work, Path(folder))


def test_a_sum_says_nothing_twice() -> None:
    sums = summed([Use(X, "c", 1, 2), Use(Y, "c", 3, 4), Use(X, "d", 5, 6), Use(PAGE, "c", 7, 8)])
    assert sums.pins == {DATE: (7, 8), PIN: (9, 12)}
    assert sums.entries == {"x": (X, 6, 8), "y": (Y, 3, 4)}
    assert sums.readers == {("x", "c"): 1, ("x", "d"): 5, ("y", "c"): 3}


# What a process notes


class Recording:
    """Usage that fails as long as it is told to."""

    def __init__(self) -> None:
        self.uses: list[Use] = []
        self.error: StoreError | None = None
        self.calls = 0

    async def add(self, uses: list[Use], now: float) -> None:
        self.calls += 1
        if self.error:
            raise self.error
        self.uses += uses


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "EVERY", 0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(tmp_path / "data")
    return tmp_path / "data"


async def calls(recording: Recording, more: int) -> None:
    before = recording.calls
    with anyio.fail_after(20):
        while recording.calls < before + more:  # noqa: ASYNC110
            await anyio.sleep(0.01)


@pytest.mark.usefixtures("quickly")
async def test_what_was_noted_is_added_in_time_and_at_the_end() -> None:
    recording = Recording()
    journal = Journal(recording)  # type: ignore[arg-type]
    async with journal.running():
        journal.note(X, "c", 10)
        journal.note(X, "c", 5)
        await calls(recording, 1)
        assert recording.uses == [Use(X, "c", 2, 15)]
        journal.note(Y, "c", 1)
    assert recording.uses[1:] == [Use(Y, "c", 1, 1)]


@pytest.mark.usefixtures("quickly")
async def test_what_cannot_be_written_is_dropped_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "httpcache")
    recording = Recording()
    journal = Journal(recording)  # type: ignore[arg-type]
    async with journal.running():
        recording.error = StoreError("the disk is full")
        for _ in range(3):
            journal.note(X, "c", 10)
            await calls(recording, 1)
        recording.error = None
        journal.note(Y, "c", 1)
        await calls(recording, 1)
    assert recording.uses == [Use(Y, "c", 1, 1)]
    assert caplog.messages == [
        "how the mirror is used is not recorded for now: the disk is full",
        "how the mirror is used is recorded again",
    ]


async def test_what_is_noted_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "NOTED", 2)
    recording = Recording()
    journal = Journal(recording)  # type: ignore[arg-type]
    async with journal.running():
        for client in ("a", "b", "c", "a"):
            journal.note(X, client, 1)
        kept = Uses(Y, 1)
        journal.begin(kept, "a")
        assert kept.clients == {}
    assert recording.uses == [Use(X, "a", 2, 2), Use(X, "b", 1, 1)]


@pytest.mark.usefixtures("quickly")
async def test_uses_that_are_counted_elsewhere_are_added_once() -> None:
    """Whoever has the uses of an answer counts them there; each addition takes what has come since the last one."""
    recording = Recording()
    journal = Journal(recording)  # type: ignore[arg-type]
    kept, other = Uses(X, 10), Uses(Y, 1)
    async with journal.running():
        journal.begin(kept, "a")
        kept.clients["a"] += 2
        journal.begin(kept, "b")
        await calls(recording, 1)
        assert recording.uses == [Use(X, "a", 3, 30), Use(X, "b", 1, 10)]
        assert kept.clients == {}
        journal.begin(kept, "a")
        journal.begin(other, "a")
        journal.note(X, "a", 5)
    assert recording.uses[2:] == [Use(X, "a", 1, 5), Use(X, "a", 1, 10), Use(Y, "a", 1, 1)]


# The database beside the index


async def test_damage_to_the_journal_reaches_nothing_else(folder: Path) -> None:
    (folder / FILE).write_bytes(b"no database" * 1000)
    with closing(LocalStore(folder)) as store:
        with pytest.raises(StoreError):
            await store.usage.add([Use(X, "c", 1, 1)], 1.0)
        with pytest.raises(StoreError):
            await store.usage.pins()
        await store.add("h/key", b"value")
        assert await store.get("h/key") == b"value"
        assert await store.problems() == []
        (folder / FILE).unlink()
        await store.usage.add([Use(X, "c", 1, 1)], 1.0)  # a new one begins
        assert await store.usage.pins() == {PIN: Used(1, 1, 1.0, 1.0)}


async def test_a_journal_that_is_deleted_while_it_is_open_begins_anew(folder: Path) -> None:
    with closing(SqliteUsage(folder, read_only=False)) as journal:
        await journal.add([Use(X, "c", 1, 1)], 1.0)
        for end in ("", "-wal", "-shm"):
            (folder / f"{FILE}{end}").unlink()
        assert await journal.pins() == {}
        await journal.add([Use(Y, "c", 2, 2)], 2.0)
        assert await journal.pins() == {PIN: Used(2, 2, 2.0, 2.0)}


async def test_a_journal_that_another_process_is_making_is_empty(folder: Path) -> None:
    """Its file is there before its tables are."""
    with closing(sqlite3.connect(folder / FILE)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    reading = SqliteUsage(folder, read_only=False)
    assert await reading.pins() == {}
    assert await reading.readers("x") == []
    await reading.add([Use(X, "c", 1, 1)], 1.0)
    assert list(await reading.pins()) == [PIN]
    reading.close()


async def test_a_folder_that_is_read_only_can_be_read(folder: Path) -> None:
    with closing(SqliteUsage(folder, read_only=False)) as journal:
        await journal.add([Use(X, "c", 1, 1)], 1.0)
    with closing(SqliteUsage(folder, read_only=True)) as journal:
        assert await journal.pins() == {PIN: Used(1, 1, 1.0, 1.0)}
        with pytest.raises(StoreError, match="read-only"):
            await journal.add([Use(X, "c", 1, 1)], 1.0)


async def test_another_process_that_holds_the_lock_is_waited_for_and_no_longer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_database, "PATIENCE", 0.1)
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(closing(SqliteUsage(folder, read_only=False)))
        await journal.add([Use(X, "c", 1, 1)], 1.0)
        other = stack.enter_context(closing(sqlite3.connect(folder / FILE, isolation_level=None)))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError):
            await SqliteUsage(folder, read_only=False).add([Use(X, "c", 1, 1)], 2.0)
        other.execute("ROLLBACK")
        await journal.add([Use(X, "c", 1, 1)], 3.0)
        assert (await journal.entries(["x"]))["x"].hits == 2


def test_only_its_owner_can_read_it(folder: Path) -> None:
    """The data folder has the rights of its owner alone, so the journal in it need not have its own."""
    assert os.stat(folder).st_mode & 0o077 == 0
