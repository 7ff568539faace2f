"""Times `as_of` of a project that was observed once, and of one that was observed on each of 365 days.

Both have the same page on the day that is asked for, and their logs are written by the functions that the mirror has.
In the year half of the files arrive; on days without a new file one is yanked, or is not yanked any more.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import blake2b, sha256
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final, Literal

import anyio
import msgspec

from httpcache.store.local import LocalStore
from httpcache.store.log import Log
from pypi_adapter.history.history import DAY, Entry, History, Observation, encode_entry
from pypi_adapter.history.project_log import ProjectLog
from pypi_adapter.history.snapshot_cache import SnapshotCache, StoredSnapshot
from pypi_adapter.simple.model import File, Page

SIZES: Final = (5, 50, 5000)
"""Files that the project has at the end of the year."""
DAYS: Final = 365
_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_HOUR: Final = timedelta(hours=1)
_REGISTRY: Final = "pypi"
_SHORTEST: Final = 0.001
"""Seconds that a measurement takes at least: what is shorter is repeated in it."""


class AsOf(msgspec.Struct, frozen=True):
    """The median times in seconds for a project with `files` files: observed once, and on each of `DAYS` days.

    `day` is which day's page is asked for, and rendered as JSON. `source` is where it comes from: the compact form of
    the history in "memory"; a process that knows nothing of the project, finds the "form" in cache/ if there is one and
    reads the log from there on; one that has to read all of the "log". `ratio` is of the second to the first.
    `stored_once`, `stored_daily`: bytes of the logs, encoded.
    """

    files: int
    day: int
    source: Literal["memory", "form", "log"]
    once: float
    daily: float
    ratio: float
    stored_once: int
    stored_daily: int


def measure(rounds: int) -> list[AsOf]:
    """Return the times for each size, for the year's last day and its first, from each source."""
    with TemporaryDirectory(prefix="httpcache-bench-") as folder, closing(LocalStore(Path(folder) / "data")) as store:
        return [found for size in SIZES for day in (DAYS, 1) for found in anyio.run(_measure, store, size, day, rounds)]


async def _measure(store: LocalStore, size: int, day: int, rounds: int) -> list[AsOf]:
    pages = list(_pages(size))
    instant = _instant(day)
    logs = {
        "once": _log([(instant, pages[day - 1])]),
        "daily": _log([(_instant(number), page) for number, page in enumerate(pages, 1)]),
    }
    histories = {name: History(entries) for name, entries in logs.items()}
    assert histories["once"].as_of(instant) == histories["daily"].as_of(instant)
    stored = {name: [encode_entry(entry) for entry in entries] for name, entries in logs.items()}
    for name, values in stored.items():
        log = Log(store, f"{_REGISTRY}/{_project(name, size, day)}")
        for number, value in enumerate(values):
            await log.append(number, value)

    snapshots, empty = _Shelf(store.folder / "cache"), _Shelf(store.folder / "empty")
    kept: dict[str, ProjectLog] = {}

    async def page(known: ProjectLog) -> bytes:
        snapshot_page = await known.as_of(instant)
        assert snapshot_page
        return snapshot_page.json()

    async def read(name: str, where: SnapshotCache) -> ProjectLog:
        known = ProjectLog(store, _REGISTRY, _project(name, size, day), "", where)
        await known.read_log()
        return known

    async def from_memory(name: str) -> None:
        await page(kept[name])

    async def from_form(name: str) -> None:
        await page(await read(name, snapshots))

    async def from_log(name: str) -> None:
        await page(await read(name, empty))

    for name in logs:
        kept[name] = await read(name, snapshots)
        await page(kept[name])
    for form in snapshots.made:
        snapshots.write(form)
    assert await page(kept["once"]) == (await page(kept["daily"])).replace(b"demo-daily", b"demo-once")
    found = []
    sources: list[tuple[Literal["memory", "form", "log"], Callable[[str], Awaitable[None]]]]
    sources = [("memory", from_memory), ("form", from_form), ("log", from_log)]
    for source, work in sources:
        times = await _times(work, tuple(logs), rounds)
        once, daily = (median(times[name]) for name in logs)
        stored_once, stored_daily = (sum(map(len, stored[name])) for name in logs)
        found.append(AsOf(size, day, source, once, daily, daily / once, stored_once, stored_daily))
    return found


class _Shelf(SnapshotCache):
    """A shelf on which nothing is put while it is timed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, lambda work: None)
        self.made: list[StoredSnapshot] = []

    def put(self, form: StoredSnapshot) -> None:
        self.made.append(form)


async def _times(work: Callable[[str], Awaitable[None]], names: tuple[str, ...], rounds: int) -> dict[str, list[float]]:
    """Return the seconds that work took for each name, in turns: what else the machine does meets both alike."""
    times: dict[str, list[float]] = {name: [] for name in names}
    repeat = {name: max(1, round(_SHORTEST / await _time(work, name, 1))) for name in names}
    for _ in range(rounds):
        for name in names:
            times[name].append(await _time(work, name, repeat[name]))
    return times


async def _time(work: Callable[[str], Awaitable[None]], name: str, repeat: int) -> float:
    started = time.perf_counter()
    for _ in range(repeat):
        await work(name)
    return (time.perf_counter() - started) / repeat


def _log(observed: list[tuple[int, Page]]) -> list[Entry]:
    history, entries = History(), []
    for instant, page in observed:
        entries.append(history.observe(Observation(instant, page)))
        history.extend(entries[-1])
    return entries


def _project(name: str, size: int, day: int) -> str:
    return f"demo-{name}-{size}-{day}"


def _instant(day: int) -> int:
    """The end of a day, in microseconds."""
    return int(_BEGIN.timestamp()) * 1_000_000 + day * DAY


def _pages(size: int) -> Iterator[Page]:
    """The pages at the ends of the days."""
    before = size // 2
    uploaded = {number: (number - before) * (DAYS - 1) // (size - before) + 2 for number in range(before, size)}
    files = [_file(number, uploaded.get(number, number - before)) for number in range(size)]
    yanked: set[int] = set()
    arrived = before
    for day in range(1, DAYS + 1):
        count = before + sum(born <= day for born in uploaded.values())
        if count == arrived:
            yanked ^= {day % count}
        arrived = count
        shown = [msgspec.structs.replace(files[n], yanked=n in yanked) for n in range(count)]
        yield Page("demo", tuple(shown), tuple(f"1.{n}.0" for n in range(count)), serial=1000 + day)


def _file(number: int, day: int) -> File:
    """A wheel that is uploaded at one o'clock on a day of the year."""
    name = f"demo-1.{number}.0-py3-none-any.whl"
    address = blake2b(name.encode(), digest_size=32).hexdigest()
    return File(
        filename=name,
        url=f"https://files.example/packages/{address[:2]}/{address[2:4]}/{address[4:]}/{name}",
        hashes={"sha256": sha256(name.encode()).hexdigest()},
        requires_python=">=3.11",
        size=10_000 + number,
        upload_time=f"{_BEGIN + timedelta(days=day - 1) + _HOUR:%Y-%m-%dT%H:%M:%S.%fZ}",
        core_metadata={"sha256": sha256(address.encode()).hexdigest()},
    )
