"""What is appended to a project's log when several processes append to it, and what of it is replayed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from httpcache.store.local import LocalStore
from pypi_adapter.history.history import Entry, History, Observation
from pypi_adapter.history.project_log import ProjectLog, entries_log
from pypi_adapter.history.snapshot_cache import SnapshotCache
from pypi_adapter.simple.model import File, Page


def file(name: str) -> File:
    return File(name, f"https://files.example.org/{name}", {})


def observed(instant: int, *names: str) -> Callable[[History], Entry]:
    """What an observation at an instant makes of a history."""
    page = Page("p", tuple(map(file, names)))
    return lambda history: history.observe(Observation(instant, page), believed=True)


async def shown(project_log: ProjectLog, instant: int) -> list[str]:
    page = await project_log.as_of(instant)
    return [each.filename for each in page.page().files] if page else []


def test_an_entry_is_made_anew_after_one_of_another_process(tmp_path: Path) -> None:
    """Of a history that has that entry; so no file is shown twice."""

    async def work() -> None:
        with closing(LocalStore(tmp_path)) as store:
            one, other = ProjectLog(store, "pypi", "p"), ProjectLog(store, "pypi", "p")
            lengths: list[int] = []

            def make(history: History) -> Entry:
                lengths.append(history.size)
                return observed(2, "a-1.tar.gz", "a-2.tar.gz")(history)

            first = await one.append(1, observed(1, "a-1.tar.gz"))
            second = await other.append(2, make)
            assert lengths == [0, 1]
            assert await entries_log(store, "pypi", "p").all() == [first, second]
            assert second
            assert [showing.file.filename for showing in second.shown] == ["a-2.tar.gz"]
            assert not one.covers(2)
            await one.read_log()
            assert await shown(one, 2) == await shown(other, 2) == ["a-1.tar.gz", "a-2.tar.gz"]

    anyio.run(work)


def test_what_is_not_appended(tmp_path: Path) -> None:
    """An entry that nobody makes, and one of an instant up to which another process has observed by then."""

    async def work() -> None:
        with closing(LocalStore(tmp_path)) as store:
            one, other = ProjectLog(store, "pypi", "p"), ProjectLog(store, "pypi", "p")
            assert await one.append(1, lambda history: None) is None
            later = await one.append(3, observed(3, "a-1.tar.gz"))
            for instant in (1, 2, 3):
                assert await other.append(instant, observed(instant, "b-1.tar.gz")) is None
            await other.confirm(3)
            assert await entries_log(store, "pypi", "p").all() == [later]
            await other.confirm(4)
            assert await entries_log(store, "pypi", "p").all() == [later, Entry(4)]
            assert await shown(other, 4) == ["a-1.tar.gz"]

    anyio.run(work)


def test_a_log_that_is_dropped_is_freed_at_once(tmp_path: Path) -> None:
    """It can be large, so it must not wait for the garbage collector, which counts objects and not their sizes."""

    async def work() -> None:
        with closing(LocalStore(tmp_path)) as store:
            project_log = ProjectLog(store, "pypi", "p", "", SnapshotCache(tmp_path / "cache", lambda write: None))
            await project_log.append(1, observed(1, "a-1.tar.gz"))
            await project_log.as_of(1)
            await project_log.live(0)
            dropped = weakref.ref(project_log), weakref.ref(await project_log.work(lambda history: history))
            gc.disable()
            try:
                del project_log
                assert [each() for each in dropped] == [None, None]
            finally:
                gc.enable()

    anyio.run(work)


@pytest.mark.parametrize("reads", ["live", "append"])
def test_the_history_is_replayed_when_it_is_needed(reads: str, tmp_path: Path) -> None:
    """A process that has begun with a snapshot needs the rest of the log only then."""
    name, count = "a-1.tar.gz", 10

    async def work() -> None:
        with closing(LocalStore(tmp_path)) as store:
            works: list[Callable[[], Awaitable[object]]] = []
            cache = SnapshotCache(tmp_path / "cache", works.append)
            writer = ProjectLog(store, "pypi", "p", "", cache)
            for instant in range(count):
                await writer.append(instant, observed(instant, name))
            await writer.as_of(0)
            for write in works:
                await write()
            reader = ProjectLog(store, "pypi", "p", "", cache)
            await reader.read_log()
            small = reader.size
            assert await shown(reader, count - 1) == [name]
            assert reader.size == small
            if reads == "live":
                assert await reader.live(0)
            else:
                assert await reader.append(count, observed(count, name))
            assert reader.size > small

    anyio.run(work)
