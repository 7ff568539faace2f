"""Snapshots in the data folder: when one counts, what is done where none does, and when one is written."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import anyio
import anyio.lowlevel
import msgspec
import pytest

from httpcache.store import keys
from httpcache.store.local import LocalStore
from httpcache.store.log import Log
from pypi_adapter.addresses import linked, token
from pypi_adapter.capture.project_capture import ListEntry, capture_project
from pypi_adapter.history import snapshot_cache as shelves
from pypi_adapter.history.cached_snapshot import LONG, MANY
from pypi_adapter.history.history import Entry, History, Observation, encode_entry
from pypi_adapter.history.project_log import ProjectLog, entries_log
from pypi_adapter.history.serials import Proof, Proofs
from pypi_adapter.history.snapshot import take_snapshot
from pypi_adapter.history.snapshot_cache import FORMAT, SnapshotCache, StoredSnapshot
from pypi_adapter.registry.registry import Registry
from pypi_adapter.simple.model import File, Page
from tests.support.inprocess import running

DAY = 86_400_000_000
START = 1_700_000_000_000_000
BASE = "/base"


def look(number: int) -> int:
    return START + number * DAY


def page(count: int, yanked: int = -1) -> Page:
    """A page of so many files, one of which is yanked."""
    files = []
    for number in range(count):
        name = f"p-1.{number}-py3-none-any.whl"
        digest = sha256(name.encode()).hexdigest()
        url = f"https://files.example.org/{digest}/{name}"
        files.append(File(name, url, {"sha256": digest}, size=1, yanked=number == yanked))
    return Page("p", tuple(files), tuple(f"1.{number}" for number in range(count)))


class Process:
    """What one process knows of the project, and what it does beside the requests."""

    def __init__(self, folder: Path, store: LocalStore, base: str = BASE) -> None:
        self.store = store
        self.works: list[Callable[[], Awaitable[object]]] = []
        self.snapshots = SnapshotCache(folder / "cache", self.works.append)
        self.known = ProjectLog(store, "pypi", "p", base, self.snapshots)

    async def json(self, number: int) -> bytes:
        """The page at a look, which has to be known; whatever was to be done beside is done."""
        await self.known.read_log()
        snapshot_page = await self.known.as_of(look(number))
        for work in self.works:
            await work()
        assert snapshot_page
        return snapshot_page.json()

    async def truth(self, number: int) -> bytes:
        """The page as the log alone has it."""
        history = History(await entries_log(self.store, "pypi", "p").all())
        snapshot_page = take_snapshot(history, lambda file: linked(file, BASE, "p")).at(look(number))
        assert snapshot_page
        return snapshot_page.json()


async def observe(process: Process, number: int, seen: Page | None) -> None:
    observation = Observation(look(number), seen)
    await process.known.read_log()
    assert await process.known.append(look(number), lambda history: history.observe(observation, believed=True))


@asynccontextmanager
async def logged(folder: Path, count: int, looks: int) -> AsyncIterator[Callable[[], Process]]:
    """A log of so many looks at a page of so many files, a file yanked at each; makes processes that know nothing."""
    store = LocalStore(folder / "data")
    try:
        writer = Process(folder, store)
        for number in range(looks):
            await observe(writer, number, page(count, number % count))
        yield lambda: Process(folder, store)
    finally:
        store.close()


def forms(folder: Path) -> list[Path]:
    found = folder / "cache"
    return sorted(found.iterdir()) if found.is_dir() else []


async def lose(store: LocalStore, number: int) -> None:
    """Lose an entry of the log: an answer that does not change was not made of it."""
    assert await store.remove(keys.numbered(keys.log("pypi/p"), number))


def test_a_form_stands_for_the_log_up_to_its_last_entry(tmp_path: Path) -> None:
    async def work() -> None:
        async with logged(tmp_path, 5, LONG + 1) as process:
            expected = [await process().json(number) for number in range(LONG + 1)]
            assert len(forms(tmp_path)) == 1
            await lose(process().store, 0)
            again = process()
            assert [await again.json(number) for number in range(LONG + 1)] == expected
            assert again.works == []

    anyio.run(work)


def test_what_comes_after_a_form_is_followed_at_once(tmp_path: Path) -> None:
    """Entries by which nothing had changed, without the log before; and one by which something had."""

    async def work() -> None:
        async with logged(tmp_path, 5, LONG + 1) as process:
            await process().json(0)
            reader, writer = process(), process()
            assert await reader.json(LONG) == await reader.truth(LONG)
            await writer.known.read_log()
            await writer.known.confirm(look(LONG + 1))
            await lose(reader.store, 0)
            assert await reader.json(LONG + 1) == await reader.json(LONG)
            assert await process().json(LONG + 1) == await reader.json(LONG)
        async with logged(tmp_path / "other", 5, LONG + 1) as process:
            await process().json(0)
            early, late, writer = process(), process(), process()
            await early.json(LONG)
            await observe(writer, LONG + 1, page(6, 2))
            await observe(writer, LONG + 2, None)
            await observe(writer, LONG + 3, page(7))
            for number in (0, LONG, LONG + 1, LONG + 3):
                assert await early.json(number) == await early.truth(number) == await late.json(number)
            assert await early.known.as_of(look(LONG + 2)) is None

    anyio.run(work)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_file_is_found_without_the_log_before(where: str, tmp_path: Path) -> None:
    """In a process that has answered a date, and in one that knows nothing yet."""

    async def work() -> None:
        async with logged(tmp_path, 5, LONG + 1) as process:
            one = process()
            await one.json(0)
            await lose(one.store, 0)
            known = one.known if where == "memory" else process().known
            await known.read_log()
            for file in page(5, LONG % 5).files:
                assert await known.listing(token(file), file.filename) == file

    anyio.run(work)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def turn_into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


SPOILT: dict[str, Callable[[SnapshotCache, Path, StoredSnapshot], object]] = {
    "empty": lambda snapshots, path, stored: path.write_bytes(b""),
    "cut": lambda snapshots, path, stored: path.write_bytes(path.read_bytes()[:-1]),
    "damaged checksum": lambda snapshots, path, stored: flip(path, 0),
    "damaged": lambda snapshots, path, stored: flip(path, -1),
    "other format": lambda snapshots, path, stored: snapshots.write(msgspec.structs.replace(stored, format=FORMAT + 1)),
    "other base": lambda snapshots, path, stored: snapshots.write(msgspec.structs.replace(stored, base="")),
    "other last entry": lambda snapshots, path, stored: snapshots.write(msgspec.structs.replace(stored, last=b"x")),
    "longer than the log": lambda snapshots, path, stored: snapshots.write(msgspec.structs.replace(stored, length=99)),
    "of no entry": lambda snapshots, path, stored: snapshots.write(msgspec.structs.replace(stored, length=0)),
    "a folder": lambda snapshots, path, stored: turn_into_folder(path),
    "not there": lambda snapshots, path, stored: path.unlink(),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_form_that_does_not_count_is_as_if_it_were_not_there(how: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with logged(tmp_path, 5, LONG + 2) as process:
            good = process()
            await good.json(0)
            (path,) = forms(tmp_path)
            stored = await good.snapshots.get("pypi/p", BASE)
            assert stored
            wrong = StoredSnapshot(
                stored.log, stored.base, stored.length, stored.last, take_snapshot(History(), lambda file: file)
            )
            good.snapshots.write(wrong)  # would be believed
            assert await good.snapshots.get("pypi/p", BASE) == wrong
            SPOILT[how](good.snapshots, path, wrong)
            again = process()
            for number in range(LONG + 2):
                assert await again.json(number) == await again.truth(number)
            assert again.works  # it is made again
            if how != "a folder":
                assert await good.snapshots.get("pypi/p", BASE) == stored

    anyio.run(work)


def test_a_form_of_another_log_under_its_name(tmp_path: Path) -> None:
    async def work() -> None:
        async with logged(tmp_path, 5, LONG + 1) as process:
            good = process()
            await good.json(0)
            (path,) = forms(tmp_path)
            os.replace(path, path.with_name(sha256(b"pypi/q").hexdigest()))
            assert await good.snapshots.get("pypi/q", BASE) is None

    anyio.run(work)


@pytest.mark.parametrize(
    ("count", "looks", "written"),
    [(5, LONG, False), (5, LONG + 1, True), (MANY, 1, False), (MANY + 1, 1, True)],
)
def test_a_form_is_written_where_that_pays(count: int, looks: int, written: bool, tmp_path: Path) -> None:
    async def work() -> None:
        async with logged(tmp_path, count, looks) as process:
            assert forms(tmp_path) == []  # to observe writes none
            await process().json(0)
            assert bool(forms(tmp_path)) == written

    anyio.run(work)


def test_many_entries_without_a_change_are_taken_into_the_form(tmp_path: Path) -> None:
    """Else each process would read them all."""

    async def work() -> None:
        async with logged(tmp_path, MANY + 1, 1) as process:
            one = process()
            await one.json(0)
            for number in range(1, LONG + 3):
                await one.known.confirm(look(number))
            await one.json(0)
            stored = await one.snapshots.get("pypi/p", BASE)
            assert stored
            assert stored.length == LONG + 2
            assert await process().json(LONG + 2) == await one.truth(0)

    anyio.run(work)


def test_a_folder_that_cannot_be_used_fails_no_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is told once."""

    async def work() -> None:
        async with logged(tmp_path, 5, LONG + 1) as process:
            (tmp_path / "cache").write_bytes(b"a file")
            one = process()
            for number in range(LONG + 1):
                assert await one.json(number) == await one.truth(number)
            assert len(one.works) == 1
            await one.works[0]()

    anyio.run(work)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the folder cache/ cannot be written, so first requests take longer"
    ]


def test_the_oldest_forms_are_removed_where_all_take_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "LIMIT", 3 * 4096)
    monkeypatch.setattr(shelves, "CHECK_BYTES", 0)
    snapshots = SnapshotCache(tmp_path / "cache", lambda work: None)
    snapshot = take_snapshot(History([Entry(START)]), lambda file: file)
    others = tmp_path / "cache" / "bodies"  # older than any snapshot
    others.mkdir(parents=True)
    os.utime(others, (0, 0))
    for number in range(6):
        snapshots.write(StoredSnapshot(f"log {number}", BASE, 1, b"", snapshot))
        os.utime(snapshots._path(f"log {number}"), (number, number))
    left = {path.name for path in forms(tmp_path) if path != others}
    newest = [sha256(f"log {number}".encode()).hexdigest() for number in (3, 4, 5)]
    assert newest[-1] in left
    assert left <= set(newest)
    assert others.is_dir()


def test_a_capture_writes_no_form(tmp_path: Path) -> None:
    """A pass goes over all projects, and answers from none."""

    async def work() -> None:
        async with running(tmp_path) as mirror:
            history, log = History(), Log(mirror.store, "pypi/p")
            for number in range(LONG + 2):
                seen = msgspec.structs.replace(page(5, number % 5), serial=number)
                entry = history.observe(Observation(look(number), seen))
                history.extend(entry)
                assert await log.append(number, encode_entry(entry))
            registry = Registry("pypi", "http://127.0.0.1:9/simple/", mirror, loss_seconds=900)
            await Proofs(mirror.store, "pypi").append(Proof(look(1), "p", 0, 1))
            captured = await capture_project(registry, "p", ListEntry(listed=True, serial=LONG, always=False), 0)
            assert not captured.asked
            await anyio.wait_all_tasks_blocked()
            assert forms(tmp_path / "data") == []
            view = await registry.as_of("p", look(LONG))
            assert view.page is not None
            with anyio.fail_after(10):
                while not forms(tmp_path / "data"):
                    await anyio.lowlevel.checkpoint()

    anyio.run(work)
