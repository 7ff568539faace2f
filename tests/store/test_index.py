"""What every Index promises: one suite for all implementations."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from httpcache.store import keys
from httpcache.store.base import Columns, Index, New, PinTotals, Place, Range, Sized
from tests.support.engines import INDEXES, IndexMaker
from tests.support.examples import examples

pytestmark = pytest.mark.anyio

A, B = Columns("a-2024-01-02", "https://one/x", "d1", 10), Columns("a-2024-01-02", "https://one/y", "d2", 5)


@pytest.fixture
async def index(maker: IndexMaker, tmp_path: Path) -> AsyncIterator[Index]:
    async with maker(tmp_path) as opened:
        yield opened


async def everything(index: Index, prefix: str = "") -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    after = ""
    while page := await index.page(prefix, after, 3):
        assert [key for key, _ in page] == await index.keys(prefix, after, 3)
        found |= page
        after = page[-1][0]
    assert list(found) == sorted(found)
    return found


async def listed(index: Index, pin: str, address: str | None = None) -> list[tuple[Place, bytes]]:
    found: list[tuple[Place, bytes]] = []
    after = None
    while page := await index.records(pin, address=address, after=after, limit=2):
        found += page
        after = page[-1].place
    return found


async def test_the_first_writer_wins(index: Index) -> None:
    assert await index.get("h/a") is None
    assert await index.add("h/a", b"first") == b"first"
    assert await index.add("h/a", b"second") == b"first"
    assert await index.get("h/a") == b"first"
    assert await index.get_many(["h/b", "h/a", "h/c", "h/a"]) == [None, b"first", None, b"first"]


async def test_remove(index: Index) -> None:
    await index.add("h/a", b"first")
    assert await index.remove("h/a") is True
    assert await index.remove("h/a") is False
    assert await index.get("h/a") is None
    assert await index.add("h/a", b"second") == b"second"


@pytest.mark.parametrize(
    "value", [b"", b"\0", bytes(range(256)), b"x" * 1_000_000], ids=["empty", "zero", "all", "1 MB"]
)
async def test_values_are_any_bytes(value: bytes, index: Index, maker: IndexMaker, tmp_path: Path) -> None:
    assert await index.add("h/a", value) == value
    async with maker(tmp_path) as again:
        assert await again.get("h/a") == value


async def test_pages_of_a_prefix(index: Index) -> None:
    keys = ["r/a", "r/b", "r", "r0", "g/r/a", "R/a", "r/%", "r/_", "r/ä", "r/\U0001f600"]
    for key in keys:
        await index.add(key, key.encode())
    assert await everything(index) == {key: key.encode() for key in keys}
    assert list(await everything(index, "r/")) == ["r/%", "r/_", "r/a", "r/b", "r/ä", "r/\U0001f600"]
    assert await everything(index, "r/_") == {"r/_": b"r/_"}
    assert await everything(index, "nothing/") == {}
    assert await index.page("r/", "r/a", 1) == [("r/b", b"r/b")]
    ranges = [Range("r/", "r/a", 1), Range("nothing/"), Range("r/"), Range("r/", "r/ä"), Range("r/_", limit=5)]
    assert await index.pages(ranges) == [await index.page(*each) for each in ranges]
    assert await index.pages([]) == []


async def test_pages_while_others_write(index: Index) -> None:
    """What was there before and is not removed is seen, once."""
    for number in range(50):
        await index.add(f"h/{number:03}", b"before")
    seen: list[str] = []
    while page := await index.page("h/", seen[-1] if seen else "", 7):
        seen += [key for key, _ in page]
        await index.add(f"h/{len(seen):03}-new", b"during")
        if len(seen) == 14:
            await index.remove("h/020")
    assert len(seen) == len(set(seen))
    assert {f"h/{number:03}" for number in range(50)} - {"h/020"} <= set(seen)


async def test_the_generation_tells_of_what_counts_and_of_nothing_else(
    index: Index, maker: IndexMaker, tmp_path: Path
) -> None:
    async with maker(tmp_path) as other:
        seen = [index.generation()]

        async def changed() -> None:
            """The generation becomes one that never was before, and stays."""
            with anyio.fail_after(5):
                while (now := index.generation()) in seen:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            assert (now, await index.get("m/x"), index.generation()) == (now, None, now)
            seen.append(now)

        for writer in (index, other):
            await writer.add("h/a", b"first")
            await changed()
            assert await writer.get("h/a") == b"first"
            assert await writer.add("h/a", b"second") == b"first"
            await writer.get_many(["h/a", "h/b"])
            assert await writer.remove("h/b") is False
            await writer.add(f"r/{len(seen)}", b"record", A, b"body", counts=False)
            assert index.generation() == seen[-1]
            assert await writer.remove("h/a") is True
            await changed()


async def test_records_are_listed_by_address(index: Index) -> None:
    rows = {
        "r/3": ("b-2024-01-02", "https://one/x"),
        "r/2": ("a-2024-01-02", "https://one/y"),
        "r/1": ("a-2024-01-02", "https://one/x"),
        "r/4": ("a-2024-01-02", "https://one/x"),
        "r/5": ("a-2024-01-02", "https://one/ä"),
        "r/6": ("a-2024-01-02x", "https://one/x"),
    }
    for key, (pin, address) in rows.items():
        await index.add(key, key.encode(), Columns(pin, address))
    await index.add("h/x", b"no record")
    found = await listed(index, "a-2024-01-02")
    assert found == [(Place(rows[key][1], key), key.encode()) for key in ("r/1", "r/4", "r/2", "r/5")]
    assert [place.key for place, _ in await listed(index, "a-2024-01-02", "https://one/x")] == ["r/1", "r/4"]
    assert await listed(index, "a-2024-01-02", "https://one/") == await listed(index, "nothing") == []


async def test_records_are_listed_by_size(index: Index) -> None:
    """In pages that miss and repeat nothing, also where many have the same size."""
    sizes = {f"r/{number}": number // 3 * 1_000_000_000_000 for number in range(9)}
    for key, size in sizes.items():
        await index.add(key, key.encode(), Columns("a-2024-01-02", "https://one/x", "d" if size else "", size))
    await index.add("r/other", b"other", Columns("b-2024-01-02", "https://one/x", "d", 5))
    wanted = [Sized(sizes[key], key, key.encode()) for key in sorted(sizes, key=lambda key: (sizes[key], key))[::-1]]
    assert await index.largest("a-2024-01-02") == wanted
    found: list[Sized] = []
    while page := await index.largest("a-2024-01-02", after=found[-1][:2] if found else None, limit=2):
        found += page
    assert found == wanted
    assert await index.largest("nothing") == []


async def test_the_totals_of_pins_are_kept(index: Index) -> None:
    assert await index.pins() == []
    assert await index.totals(A.pin) == PinTotals(A.pin, 0, 0)
    await index.add("r/1", b"1", A)
    await index.add("r/1", b"again", A)
    await index.add("r/2", b"2", B)
    await index.add("r/3", b"3", Columns("b-2024-01-02", "https://one/absent"))
    assert await index.pins() == [PinTotals(A.pin, 2, 15), PinTotals("b-2024-01-02", 1, 0)]
    await index.remove("r/1")
    await index.remove("r/3")
    await index.remove("r/3")
    assert await index.pins() == [await index.totals(A.pin)] == [PinTotals(A.pin, 1, 5)]


async def test_digests_that_no_record_has(index: Index) -> None:
    await index.add("r/1", b"1", A)
    await index.add("r/2", b"2", A._replace(address="https://one/z"))
    await index.add("r/3", b"3", B)
    assert await index.unused(["d1", "d2", "d3"]) == {"d3"}
    await index.remove("r/1")
    await index.remove("r/3")
    assert await index.unused(["d1", "d2"]) == {"d2"}


async def test_a_body_comes_with_its_record(index: Index) -> None:
    await index.add("r/1", b"1", A, b"body")
    assert await index.body("d1") == b"body"
    assert await index.body("d2") is None
    await index.add("r/1", b"late", B, b"lost")  # another writer was first: its record names another body
    assert await index.body("d2") is None
    await index.add("r/2", b"2", A, b"mended")  # whoever has the bytes repairs those of a damaged body
    assert await index.body("d1") == b"mended"
    await index.add("r/1", b"late", A, b"mended again")
    assert await index.body("d1") == b"mended again"


async def test_many_at_once(index: Index, maker: IndexMaker, tmp_path: Path) -> None:
    """Each key and body as if it were added by itself; one change of the generation, and none if nothing was added."""
    await index.add("r/1", b"first", A, b"damaged")
    entries = [
        New("r/3", b"3", B._replace(digest="d3"), b"333"),
        New("r/1", b"late", A, b"mended"),
        New(keys.numbered(keys.log("x"), 0), b"of a log"),
        New("r/2", b"2", Columns("b-2024-01-02", "https://one/absent")),
        New("r/4", b"4", B._replace(digest="d3"), b"333"),
        New("r/5", b"5", B._replace(digest="d5"), b""),
        New("r/6", b"6", B),
    ]
    winners = [b"3", b"first", b"of a log", b"2", b"4", b"5", b"6"]
    before = index.generation()
    async with maker(tmp_path) as other:
        assert await index.add_many(entries) == winners
        assert index.generation() != before
        with anyio.fail_after(5):
            while await other.get("r/6") is None:  # noqa: ASYNC110
                await anyio.sleep(0.01)
    before = index.generation()
    assert await index.add_many(entries) == winners
    assert await index.add_many([]) == []
    assert index.generation() == before
    assert await index.pins() == [PinTotals(A.pin, 5, 30), PinTotals("b-2024-01-02", 1, 0)]
    assert [await index.body(digest) for digest in ("d1", "d2", "d3", "d5")] == [b"mended", None, b"333", b""]
    assert await index.get_many([entry.key for entry in entries]) == winners


async def test_many_at_once_by_many(index: Index) -> None:
    """In any order, beside single ones: each key has one winner, and nobody waits for ever."""
    results: list[dict[str, bytes]] = []
    keys = [f"r/{number:02}" for number in range(40)]

    async def add(writer: int) -> None:
        own = keys if writer % 2 else keys[::-1]
        entries = [New(key, b"%d" % writer, Columns(f"p{writer % 3}", "x", f"d{number % 5}", 4), b"body")
                   for number, key in enumerate(own)]  # fmt: skip
        if writer < 4:
            results.append(dict(zip(own, await index.add_many(entries), strict=True)))
        else:
            results.append({entry.key: await index.add(*entry) for entry in entries})

    async with anyio.create_task_group() as group:
        for writer in range(6):
            group.start_soon(add, writer)
    assert len({tuple(sorted(found.items())) for found in results}) == 1
    assert sum(pin.entries for pin in await index.pins()) == len(keys)


async def test_bodies_that_no_record_has_are_removed(index: Index) -> None:
    for key, columns, body in (
        ("r/1", A, b"1"),
        ("r/2", A, b"1"),
        ("r/3", B, b"22"),
        ("r/4", B._replace(digest="d3"), b"333"),
    ):
        await index.add(key, b"x", columns, body)
    assert await index.remove_bodies(list(await index.unused_bodies())) == 0
    for key in ("r/1", "r/3", "r/4"):
        await index.remove(key)
    assert await index.remove_bodies(["d1", "d2", "d9"]) == 2
    assert [await index.body(digest) for digest in ("d1", "d2", "d3")] == [b"1", None, b"333"]
    assert await index.remove_bodies(list(await index.unused_bodies())) == 3
    assert [await index.body(digest) for digest in ("d1", "d2", "d3")] == [b"1", None, None]


async def test_no_problems(index: Index) -> None:
    await index.add("r/1", b"1", A, b"1")
    assert await index.problems() == []


RACER = """
import sys
from pathlib import Path
import anyio
from tests.support.engines import INDEXES

async def race():
    async with INDEXES[sys.argv[1]](Path(sys.argv[2])) as index:
        print("ready", flush=True)
        sys.stdin.readline()
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(add, index, number)

async def add(index, number):
    print((await index.add("r/race", f"{sys.argv[3]}-{number}".encode())).decode(), flush=True)

anyio.run(race)
"""


async def test_a_race_of_fifty_in_five_processes(index: Index, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """One value, the same for all, and it is there after all have gone."""
    name = request.node.callspec.id
    racers = [
        subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", RACER, name, str(tmp_path), f"{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            text=True,
        )
        for number in range(5)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert await anyio.to_thread.run_sync(racer.stdout.readline) == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    ended = [await anyio.to_thread.run_sync(partial(racer.communicate, timeout=60)) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 5
    winners = [line for output, _ in ended for line in output.splitlines()]
    assert len(winners) == 50
    assert len(set(winners)) == 1
    assert await index.get("r/race") == winners[0].encode()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "many", "remove", "bodies"]),
        st.sampled_from("abcd"),
        st.sampled_from(["p", "q"]),
        st.sampled_from(["x", "y"]),
        st.sampled_from(["", "1", "22"]),
    ),
    max_size=15,
)


@pytest.mark.parametrize("maker", INDEXES.values(), ids=INDEXES)
@given(steps=STEPS)
@settings(max_examples=examples(25), deadline=None)
def test_an_index_behaves_like_a_dictionary(maker: IndexMaker, steps: Sequence[tuple[str, str, str, str, str]]) -> None:
    """Every implementation against the simplest one: values, totals, lists and bodies."""

    async def check(folder: Path) -> None:
        async with maker(folder) as index:
            model: dict[str, tuple[bytes, Columns]] = {}
            bodies: set[str] = set()
            for number, (what, key, pin, address, body) in enumerate(steps):
                columns, value = Columns(pin, address, body, len(body)), b"%d" % number
                if what == "add":
                    winner = await index.add(key, value, columns, body.encode())
                    assert winner == model.setdefault(key, (value, columns))[0]
                    bodies |= {body} & {columns.digest for _, columns in model.values()}
                elif what == "many":
                    several = [New(each, value, columns, body.encode()) for each in (key, "e")]
                    expected = [model.setdefault(each, (value, columns))[0] for each in (key, "e")]
                    assert await index.add_many(several) == expected
                    bodies |= {body} & {columns.digest for _, columns in model.values()}
                elif what == "remove":
                    assert await index.remove(key) == (model.pop(key, None) is not None)
                else:
                    named = {columns.digest for _, columns in model.values()}
                    unused = {body: len(body) for body in bodies - named}
                    assert await index.unused_bodies() == unused
                    assert await index.remove_bodies(list(unused)) == sum(unused.values())
                    bodies &= named
                assert await index.get(key) == (model[key][0] if key in model else None)
            assert await everything(index) == {key: value for key, (value, _) in model.items()}
            entries, sizes = Counter[str](), Counter[str]()
            having = {(columns.digest, columns.pin) for _, columns in model.values()}
            twice = {digest for digest, count in Counter(digest for digest, _ in having).items() if count > 1}
            shared = Counter[str]()
            for digest, pin in having:
                shared[pin] += len(digest) * (digest in twice)
            assert await index.shared() == {pin: size for pin, size in shared.items() if size}
            for _, columns in model.values():
                entries[columns.pin] += 1
                sizes[columns.pin] += columns.size
            assert await index.pins() == [PinTotals(pin, entries[pin], sizes[pin]) for pin in sorted(entries)]
            for pin in "pq":
                places = sorted((c.address, key) for key, (_, c) in model.items() if c.pin == pin)
                assert [place for place, _ in await listed(index, pin)] == places
            assert {body for body in ("", "1", "22") if await index.body(body) is not None} == bodies

    with TemporaryDirectory() as folder:
        anyio.run(check, Path(folder))
