"""The builds of a store: what is known of each, its bounds, and that nothing that was noted is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from httpcache.errors import StoreError
from httpcache.store import builds as bounds
from httpcache.store import postgres_builds, recorder, sqlite_builds
from httpcache.store.builds import Build, Builds, File, Taken, UsedIndex, Uses
from httpcache.store.layout import prepare
from httpcache.store.local import LocalStore
from httpcache.store.record import Record
from httpcache.store.recorder import Recorder
from httpcache.store.sqlite_builds import SqliteBuilds
from tests.support.engines import IndexMaker
from tests.support.examples import examples

pytestmark = pytest.mark.anyio

DATE, PIN = "2024-01-02", "tools-2024-01-02"


def file(build: str, name: str, through: str = DATE, size: int = 10, *, private: bool = False) -> File:
    return File(build, through, "files", f"{name}/x/{name}.whl", f"key of {name}", name * 8, size, private, "pip/24.0")


def uses(*files: File, at: float = 100.0) -> Uses:
    indexes = {UsedIndex(each.build, each.through): (at, at + 1) for each in files}
    return Uses(indexes, dict.fromkeys(files, at))


@pytest.fixture
async def builds(maker: IndexMaker, tmp_path: Path) -> AsyncIterator[Builds]:
    async with maker(tmp_path) as index:
        yield index.builds


async def test_there_are_none_at_first(builds: Builds) -> None:
    assert await builds.all() == []
    assert await builds.get("b") is None
    assert await builds.files("b") == []
    assert await builds.that_took(["key of a"]) == []
    await builds.prune(1000.0)


async def test_what_a_build_took(builds: Builds) -> None:
    one, two = file("b1", "one"), file("b1", "two", PIN, 5, private=True)
    await builds.add(uses(one, two))
    await builds.add(uses(one, file("b2", "one"), at=200.0))
    await builds.add(Uses({UsedIndex("b3", "live"): (300.0, 300.0)}, {}))
    assert await builds.all() == [
        Build("b3", 300.0, 300.0, ("live",), 0, 0),
        Build("b1", 100.0, 201.0, (DATE, PIN), 2, 15),
        Build("b2", 200.0, 201.0, (DATE,), 1, 10),
    ]
    assert await builds.get("b1") == Build("b1", 100.0, 201.0, (DATE, PIN), 2, 15)
    assert await builds.files("b1") == [Taken(one, 100.0), Taken(two, 100.0)]
    assert await builds.that_took(["key of one", "none"]) == ["b1", "b2"]
    assert await builds.that_took([]) == []


async def test_old_builds_are_pruned(builds: Builds) -> None:
    await builds.add(uses(file("b1", "one")))
    await builds.add(uses(file("b2", "two"), at=200.0))
    await builds.prune(150.0)
    assert [build.label for build in await builds.all()] == ["b2"]
    assert await builds.files("b1") == []
    assert await builds.that_took(["key of one"]) == []


async def test_the_bounds(maker: IndexMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, statement, old, new in (
        (sqlite_builds, "_ADD_INDEX", bounds.INDEXES, 2),
        (sqlite_builds, "_OLD", bounds.BUILDS, 2),
        (postgres_builds, "_ADD_INDEXES", bounds.INDEXES, 2),
        (postgres_builds, "_ADD_FILES", bounds.FILES, 3),
        (postgres_builds, "_PRUNE", bounds.BUILDS, 2),
    ):
        text = getattr(module, statement)
        assert str(old) in text
        monkeypatch.setattr(module, statement, text.replace(str(old), str(new)))
    for holder in (bounds, sqlite_builds):
        monkeypatch.setattr(holder, "FILES", 3)
    monkeypatch.setattr(bounds, "INDEXES", 2)
    async with maker(tmp_path) as index:
        await index.builds.add(uses(*(file("b", name) for name in "abcd"), *(file("b", "a", f"{n}") for n in "123")))
        await index.builds.add(uses(file("b", "e"), file("b", "a", "4")))
        build = await index.builds.get("b")
        assert build is not None
        assert (build.files, len(build.indexes), build.is_whole) == (3, 2, False)
        await index.builds.add(uses(*(file(label, "a") for label in ("c", "d", "e")), at=200.0))
        await index.builds.prune(0.0)
        assert [each.label for each in await index.builds.all()] == ["c", "d"]
        assert all(each.is_whole for each in await index.builds.all())


USES = st.lists(
    st.builds(file, st.sampled_from("bc"), st.sampled_from("xyz"), st.sampled_from([DATE, PIN])), max_size=5
)


@given(parts=st.lists(USES, max_size=4))
@settings(max_examples=examples(20), deadline=None)
def test_it_is_the_union_of_what_its_processes_add(parts: list[list[File]]) -> None:
    async def work(folder: Path) -> None:
        prepare(folder)
        one, two = SqliteBuilds(folder, read_only=False), SqliteBuilds(folder, read_only=False)
        for number, files in enumerate(parts):
            await (one, two)[number % 2].add(uses(*files, at=100.0 + number))
        expected: dict[File, float] = {}
        for number, files in enumerate(parts):
            for each in files:
                expected.setdefault(each, 100.0 + number)
        for label in "bc":
            assert dict(await one.files(label)) == {each: at for each, at in expected.items() if each.build == label}
        one.close()
        two.close()

    with TemporaryDirectory() as folder:
        anyio.run(work, Path(folder))


RECORD = Record("key", "files", "a/b/a.whl", "https://h/a.whl", "d" * 64, 10, 1.0)


async def test_what_cannot_be_added_is_added_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the index is gone for a while, and then there again: nothing that was noted is lost."""
    monkeypatch.setattr(recorder, "EVERY", 0.01)
    prepare(tmp_path)
    store = LocalStore(tmp_path)
    writer = Recorder(store.builds, 1e9)
    (tmp_path / "index/builds.db").mkdir()
    async with writer.running():
        writer.note("b", DATE, "pip/24.0 {...}", RECORD)
        await anyio.sleep(0.1)
        writer.note("b", DATE, "evil\nagent", None)
        writer.note("b", PIN, "(none)", RECORD)
        with pytest.raises(StoreError):
            await store.builds.all()
        (tmp_path / "index/builds.db").rmdir()
    build = await store.builds.get("b")
    assert build is not None
    assert (build.indexes, build.files) == ((DATE, PIN), 2)
    assert [(taken.file.through, taken.file.client) for taken in await store.builds.files("b")] == [
        (DATE, "pip/24.0"),
        (PIN, ""),
    ]
    store.close()


async def test_memory_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorder, "NOTED", 4)
    prepare(tmp_path)
    store = LocalStore(tmp_path)
    writer = Recorder(store.builds, 1e9)
    for number in range(10):
        writer.note(f"b{number}", DATE, "", RECORD)
    async with writer.running():
        pass
    assert sorted(build.label for build in await store.builds.all()) == ["b0", "b1"]
    assert [each.message for each in caplog.records if "not recorded in full" in each.message] == [
        "builds take more than can be recorded: what build b2 took is not recorded in full"
    ]
    store.close()
