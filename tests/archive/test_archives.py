"""Archives between stores: whatever is in them, damaged anywhere, cut off anywhere, beside what is there already."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import textwrap
import tracemalloc
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from httpcache.adapter import adapters
from httpcache.archive import importing, layout, writing
from httpcache.command import carrying
from httpcache.command.progress import Lines
from httpcache.errors import MirrorError
from httpcache.freezing.download import absence_key
from httpcache.settings_file import SettingsFile
from httpcache.store import keys
from httpcache.store.layout import prepare
from httpcache.store.local import LocalStore
from httpcache.store.log import Log
from httpcache.store.record import Absence, Record
from httpcache.target import Target
from pypi_adapter.registry.requested_projects import AHEAD, RequestedProjects
from tests.support.examples import examples

PIN = "a-2024-01-02"


def opened(folder: Path) -> LocalStore:
    prepare(folder)
    return LocalStore(folder)


async def freeze(store: LocalStore, name: str, body: bytes, *, pin: str = PIN, scope: str = "") -> None:
    target = Target(pin, f"https://example.com/{name}")
    record = Record(target.key, pin, target.url, target.url, hashlib.sha256(body).hexdigest(), len(body), 1.0, scope)
    file = store.spool / "body"
    file.write_bytes(body)
    await store.freeze(keys.record(target.key), record, file)


async def contents(store: LocalStore) -> dict[str, bytes]:
    """Every entry, and every body that a record of PIN has."""
    return {key: value async for key, value in store.entries("")}


async def export(store: LocalStore, path: Path, *selected: str) -> None:
    wanted = carrying.Wanted(selected or (PIN,), path)
    await carrying.export(store, wanted=wanted, adapters=list(adapters()), file=SettingsFile(), progress=Lines())


async def take(store: LocalStore, path: Path) -> str:
    return (await carrying.take(store, path=path, trust=None, progress=Lines())).text


@given(
    bodies=st.dictionaries(st.text("abc", min_size=1, max_size=3), st.binary(max_size=3), max_size=6),
    big=st.lists(st.integers(16_000, 40_000), max_size=2),
    absent=st.sets(st.text("xyz", min_size=1, max_size=2), max_size=3),
    rules=st.lists(st.binary(min_size=1, max_size=4), max_size=4),
    ours=st.sets(st.text("abc", min_size=1, max_size=3), max_size=3),
    batch=st.integers(1, 5),
)
@settings(max_examples=examples(40), deadline=None)
def test_what_goes_in_comes_out(
    bodies: dict[str, bytes], big: list[int], absent: set[str], rules: list[bytes], ours: set[str], batch: int
) -> None:
    """Of any store, into one that has a part of it already; a second import changes nothing."""

    async def work(folder: Path) -> None:
        everything = bodies | {f"big{size}": bytes(size) for size in big} | {"always": b"x"}
        with closing(opened(folder / "one")) as one, closing(opened(folder / "two")) as two:
            for name, body in everything.items():
                await freeze(one, name, body)
            for name in absent:
                target = Target(PIN, f"https://example.com/{name}")
                await one.freeze_absence(absence_key(target.key, ""), Absence(target.key, PIN, target.url, 404, 1.0))
            await Log(one, "pypi/ address").append(0, b"https://example.com/simple/")
            for number, value in enumerate(rules):
                await Log(one, "pypi/ passes x").append(number, value)
            for name in ours & set(everything):
                await freeze(two, name, everything[name])
            await export(one, folder / "archive")
            await take(two, folder / "archive")
            wanted = {key: value for key, value in (await contents(one)).items() if key.startswith(keys.RECORDS)}
            assert await contents(two) == wanted
            for body in everything.values():
                assert await two.check(hashlib.sha256(body).hexdigest(), len(body))
            assert "imported 0 entries" in await take(two, folder / "archive")
            assert [path for path in two.spool.iterdir() if path.name != "body"] == []

    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(importing, "BATCH", batch)
        anyio.run(work, Path(folder))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small archive with everything in it that an archive can have."""
    folder = tmp_path_factory.mktemp("archive")

    async def work() -> None:
        with closing(opened(folder / "data")) as store:
            for name, body in (("empty", b""), ("small", b"small"), ("big", bytes(range(256)) * 80)):
                await freeze(store, name, body)
            await Log(store, "pypi/ address").append(0, b"https://example.com/simple/")
            await export(store, folder / "archive", PIN, "pypi")

    anyio.run(work)
    return folder / "archive"


def members(path: Path) -> list[layout.Member]:
    found, place = [], 0
    with path.open("rb") as file:
        while member := layout.next_member(file, place):
            found.append(member)
            place = member.end
    return found


def refused(data: Path, path: Path) -> str:
    """Why an archive is not imported, after checking that nothing was changed."""

    async def work() -> str:
        with closing(opened(data)) as store:
            before = await contents(store)
            with pytest.raises(MirrorError) as caught:
                await take(store, path)
            assert await contents(store) == before
            assert list(store.spool.glob("*.*")) == []
            assert not list((data / "blobs").rglob("?" * 64)) or before
        return caught.value.text

    return anyio.run(work)


def test_one_damaged_byte_is_noticed_wherever_it_is(archive: Path, tmp_path: Path) -> None:
    """In the head of each member, in its bytes, in the padding behind them, and at the end."""
    whole = archive.read_bytes()
    found = members(archive)
    assert len(found) == 6
    places = {place for each in found for place in (each.start - layout.BLOCK, each.start - layout.BLOCK + 130)}
    places |= {each.start + part for each in found for part in (0, each.size // 2, each.size - 1) if each.size}
    places |= {each.end - 1 for each in found if each.size} | {len(whole) - 1024, len(whole) - 1}
    damaged = tmp_path / "damaged"
    for place in sorted(places):
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert refused(tmp_path / "data", damaged), place


def test_one_that_was_cut_off_is_noticed_wherever_that_was(archive: Path, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    ends = {0, 1, 511, 512, *range(1024, len(whole), 1777), len(whole) - 1024, len(whole) - 512, len(whole) - 1}
    ends |= {each.end for each in members(archive)}
    cut = tmp_path / "cut"
    for end in sorted(ends):
        cut.write_bytes(whole[:end])
        assert refused(tmp_path / "data", cut), end
    cut.write_bytes(whole + b"x")
    assert refused(tmp_path / "data", cut)


def rewritten(archive: Path, path: Path, change: bytes, into: bytes) -> Path:
    """The archive with a change of its manifest, and all digests right."""
    with archive.open("rb") as file:
        bodies = [(member.name, b"".join(layout.chunks(file, member))) for member in members(archive)]
    manifest = bodies[1][1].replace(change, into, 1)
    assert manifest != bodies[1][1]
    sums = layout.sums(hashlib.sha256(bodies[0][1]).hexdigest(), hashlib.sha256(manifest).hexdigest())
    bodies[1:3] = [(layout.MANIFEST, manifest), (layout.SUMS, sums)]
    with path.open("wb") as out:
        for name, body in bodies:
            out.write(layout.member(name, len(body)) + body + layout.padding(len(body)))
        out.write(layout.END)
    return path


@pytest.mark.parametrize(
    ("change", "into", "said"),
    [
        (b'"key":"r/', b'"key":"m/', "is not the key of a record"),
        (b'"key":"r/', b'"key":"g/', "is not the key of a record"),
        (b'"pin":"a-2024', b'"pin":"b-2024', "contradicts itself"),
        (b'"length":1', b'"length":2', "too few values"),
        (b'"number":0', b'"number":1', "not in the order"),
        (b'"size":5}', b'"size":6}', "contradicts itself"),
        (b'{"line":"body"', b'{"line":"other"', "is not one of this format"),
        (b'{"line":"body"', b'{"line":"body","left":true', "leaves out"),
        (b'{"line":"log"', b'{"line":"body"', "is not one of this format"),
    ],
)
def test_a_manifest_that_makes_no_sense(archive: Path, tmp_path: Path, change: bytes, into: bytes, said: str) -> None:
    assert said in refused(tmp_path / "data", rewritten(archive, tmp_path / "archive", change, into))


def test_conflicts(archive: Path, tmp_path: Path) -> None:
    """Another body under an address, an absence in place of none, another beginning of a log: nothing is changed."""

    async def record(store: LocalStore) -> None:
        await freeze(store, "small", b"other")

    async def log(store: LocalStore) -> None:
        await Log(store, "pypi/ address").append(0, b"https://example.org/simple/")

    for number, (prepared, said) in enumerate(
        ((record, "/https://example.com/small is frozen"), (log, "pypi/ address"))
    ):
        data = tmp_path / f"{number}"

        async def work(data: Path = data, prepared: object = prepared) -> None:
            with closing(opened(data)) as store:
                await prepared(store)  # type: ignore[operator]

        anyio.run(work)
        assert said in refused(data, archive)


def test_a_target_that_is_ahead_keeps_what_it_has(archive: Path, tmp_path: Path) -> None:
    async def work() -> None:
        with closing(opened(tmp_path / "data")) as store:
            await take(store, archive)
            await Log(store, "pypi/ address").append(1, b"https://example.org/simple/ 5")
            before = await contents(store)
            await take(store, archive)
            assert await contents(store) == before

    anyio.run(work)


# Cut off


def test_an_export_that_was_cut_off_goes_on(archive: Path, tmp_path: Path) -> None:
    """From wherever it was; what is there is not written again, and what came since is for the next export."""
    whole, data = archive.read_bytes(), archive.parent / "data"
    begins = members(archive)[2].end
    path = tmp_path / "archive"
    part = writing.part_of(path)

    async def work() -> None:
        with closing(LocalStore(data)) as store:
            await export(store, path, PIN, "pypi")

    for end in [0, 1, 700, begins - 1, begins, begins + 1, begins + 512, *range(begins, len(whole), 3331)]:
        part.write_bytes(whole[:end])
        anyio.run(work)
        assert not part.exists()
        if end >= begins:  # the manifest was there, and stands
            assert path.read_bytes() == whole
    part.write_bytes(whole[: begins + 600] + b"damaged" + whole[begins + 607 :])
    anyio.run(work)
    assert path.read_bytes() == whole


def test_the_part_of_another_export_is_left_alone(archive: Path, tmp_path: Path) -> None:
    part = writing.part_of(tmp_path / "archive")
    part.write_bytes(archive.read_bytes())

    async def work() -> None:
        with closing(LocalStore(archive.parent / "data")) as store:
            await export(store, tmp_path / "archive", PIN)

    with pytest.raises(MirrorError, match="begun by another export"):
        anyio.run(work)
    assert part.read_bytes() == archive.read_bytes()


def test_an_import_that_was_killed_is_run_again(archive: Path, tmp_path: Path) -> None:
    """Killed at every write: what is there then is whole, and the second import adds the rest."""
    killed = textwrap.dedent("""
        import os, sys
        from pathlib import Path
        from httpcache.archive import importing
        from httpcache.command.cli import main
        from httpcache.store.sqlite_index import SqliteIndex
        left, add = int(sys.argv[1]), SqliteIndex.add_many
        async def dying(self, *arguments, **named):
            global left
            left -= 1
            if not left:
                os._exit(9)
            return await add(self, *arguments, **named)
        SqliteIndex.add_many = dying
        importing.BATCH = 2
        sys.exit(main(["import", "--data", sys.argv[2], sys.argv[3]]))
    """)

    async def again(data: Path) -> dict[str, bytes]:
        with closing(opened(data)) as store:
            await take(store, archive)
            for name in members(archive)[3:]:
                assert await store.check(name.name.removeprefix(layout.BODIES), name.size)
            return await contents(store)

    expected = anyio.run(again, tmp_path / "whole")
    for left in (1, 2):
        data = tmp_path / f"{left}"
        ran = subprocess.run([sys.executable, "-c", killed, f"{left}", data, archive], check=False)
        assert ran.returncode == 9
        assert anyio.run(again, data) == expected


# Size


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    """One with 60,000 values is written and checked in the memory of one with 6,000, give or take."""
    measured = textwrap.dedent("""
        import hashlib, io, resource, sys
        from pathlib import Path
        from httpcache.archive import checking, layout, writing
        from httpcache.archive.layout import *
        import anyio, httpcache.command.carrying as carrying
        from httpcache.command.progress import Lines
        from httpcache.store.layout import prepare
        from httpcache.store.local import LocalStore
        from httpcache.store.scratch import scratch
        count, folder = int(sys.argv[1]), Path(sys.argv[2])
        prepare(folder / "data")
        def lines():
            yield encode(LogLine("pypi/ x", count))
            for number in range(count):
                yield encode(ValueLine(number, b"x" * 500))
        head = Header(format=1, made="", selected=("x",), records=0, logs=1, values=count, bodies=0, bytes=0, private=0)
        async def work():
            store = LocalStore(folder / "data")
            with writing.complete(folder / "archive") as part:
                await writing.bodies(store, part, writing.begin(part, head, lines(), None), lambda: None)
            with scratch(folder, checking.TABLES) as database, (folder / "archive").open("rb") as file:
                await checking.check(store, file, database, None, lambda: None)
            store.close()
        anyio.run(work)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """)

    def peak(count: int) -> int:
        folder = tmp_path / f"{count}"
        folder.mkdir()
        ran = subprocess.run(
            [sys.executable, "-c", measured, f"{count}", folder], capture_output=True, text=True, check=True
        )
        return int(ran.stdout)

    assert peak(60_000) < peak(6_000) + 12_000  # KiB; the values are 30 MB


def test_memory_does_not_grow_with_the_names_of_projects(tmp_path: Path) -> None:
    """Those that an index knows without having observed them, as a rule nearly all."""

    async def peak(count: int) -> int:
        folder = tmp_path / f"{count}"
        folder.mkdir()
        with closing(opened(folder / "data")) as store:
            await Log(store, "pypi/ address").append(0, b"https://example.com/simple/")
            names = RequestedProjects(store, "pypi", AHEAD).log.raw
            for number in range(count // 100):
                await names.append(number, "\n".join(f"project-{number}-{each}" for each in range(100)).encode())
            tracemalloc.start()
            try:
                await export(store, folder / "archive", "pypi")
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    anyio.run(peak, 100)  # what is imported and kept
    assert anyio.run(peak, 20_000) < anyio.run(peak, 2_000) + 1_000_000  # bytes; a set of the names has 3 MB
