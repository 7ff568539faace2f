"""Measures `httpcache capture`: a full pass over a generated catalogue, daily passes after it, `as_of` after a year.

`make bench-capture` does it with 700,000 projects, `make bench-capture ARGS="--projects 7000 --changed 200"` with a
hundredth. The catalogue (benchmarks.catalogue) is a process of its own, and what it takes is not counted. Each pass is
the installed command as an operator runs it, in a process of its own, into a folder that is empty before the full pass.

seconds, CPU      of the capture's process from its start to its end, user and system
peak memory       the most that was resident of it, SQLite's mapped pages included
stored            growth of what is allocated to the files of the data folder: the index, once its journal is taken in
                  (what the process had left of that is told apart: it has a bound of some megabytes), the blobs, and
                  the rest; without the `reserve`, which has one size from the start
changed files     files that are on a changed project's page after the day and were not before, that were before and are
                  not after, or that are on both and differ (yanked, for example). Files of a project that left the
                  registry or was quarantined as a whole do not count, though what is stored for that does.
requests          what the catalogue's server answered, by kind
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from subprocess import run
from tempfile import TemporaryDirectory
from typing import Final

import anyio
import httpx
import msgspec

from benchmarks import asof
from benchmarks.asof import AsOf
from benchmarks.catalogue import Day, Running
from benchmarks.machine import machine
from httpcache.store.local import LocalStore
from pypi_adapter.registry.passes import Passes

PROJECTS: Final = 700_000
CHANGED: Final = 20_000
MB: Final = 1_000_000
MEMORY: Final = 500 * MB
"""Target: the peak of any pass, in bytes."""
CPU_SECONDS: Final = 120.0
"""Target: of a daily pass."""
BYTES_A_FILE: Final = 2_000
"""Target: bytes stored for each changed file."""
RATIO: Final = 2.0
"""Target: how many times as long `as_of` takes after 365 observations."""
_COST: Final = Path(__file__).with_name("cost.py")
_FIGURES: Final = ("due", "asked", "changed", "rescued", "lost", "withheld", "requests")
_WHOLE: Final = ("delete project", "quarantine")
_AT_ONCE: Final = 100
"""Projects whose pages are kept while files are counted."""


class Stored(msgspec.Struct, frozen=True):
    """Bytes allocated in a data folder: the `index`, `blobs`, and all `others`."""

    index: int
    blobs: int
    others: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(msgspec.structs.astuple(self))

    def since(self, before: Stored) -> Stored:
        """How much each has grown."""
        new, old = msgspec.structs.asdict(self), msgspec.structs.asdict(before)
        return Stored(**{name: new[name] - old[name] for name in new})


class Cost(msgspec.Struct, frozen=True):
    """What benchmarks.cost writes: times in seconds, memory in bytes."""

    exit_code: int
    seconds: float
    cpu_seconds: float
    peak_memory: int


class Measured(msgspec.Struct, frozen=True):
    """One pass: its cost, the growth of the data folder and the bytes left in SQLite's journal, the answers of the
    upstream by kind, its own figures.

    `changed_projects` by kind and `changed_files`: what the day before it had changed; none for the full pass.
    `projects_a_second` are those that were looked at.
    """

    title: str
    cost: Cost
    stored: Stored
    journal: int
    requests: dict[str, int]
    done: dict[str, int]
    projects_a_second: float
    changed_projects: dict[str, int] = {}
    changed_files: int | None = None
    bytes_a_changed_file: float | None = None


class Report(msgspec.Struct, frozen=True):
    """Everything that was measured, and on what."""

    machine: str
    projects: int
    changed: int
    passes: list[Measured]
    as_of: list[AsOf]


def main() -> None:
    """Measure, print a table, and write all figures as JSON if that was asked for."""
    parser = argparse.ArgumentParser(description="Measure the capture over a generated catalogue.")
    parser.add_argument("--projects", type=int, default=PROJECTS, help="in the catalogue (%(default)s)")
    parser.add_argument("--changed", type=int, default=CHANGED, help="projects that change in a day (%(default)s)")
    parser.add_argument("--days", type=int, default=1, help="daily passes after the full one (%(default)s)")
    parser.add_argument("--rounds", type=int, default=50, help="times that as_of is measured (%(default)s)")
    parser.add_argument(
        "--folder", type=Path, help="where the data folder is made, and removed; else with temporary files"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="httpcache-bench-", dir=options.folder) as folder:
        passes = list(_passes(Path(folder), options.projects, options.changed, options.days))
    report = Report(machine(), options.projects, options.changed, passes, asof.measure(options.rounds))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    print("\n".join(lines(report)))


# --- passes


def _passes(folder: Path, projects: int, changed: int, days: int) -> Iterator[Measured]:
    with Running(projects) as upstream, httpx.Client(base_url=upstream.url, timeout=600, trust_env=False) as client:
        yield _pass(folder, upstream, "full pass")
        for number in range(1, days + 1):
            day = upstream.change(changed, seed=number)
            found = _pass(folder, upstream, f"daily pass {number}")
            files = _changed_files(upstream, client, day)
            yield msgspec.structs.replace(
                found,
                changed_projects={kind: len(names) for kind, names in day.changed.items()},
                changed_files=files,
                bytes_a_changed_file=found.stored.total / max(files, 1),
            )


def _pass(folder: Path, upstream: Running, title: str) -> Measured:
    print(f"{title} ...", file=sys.stderr, flush=True)
    data, file = folder / "data", folder / "cost"
    before, asked = stored(data), Counter(upstream.counts())
    httpcache = Path(sys.executable).with_name("httpcache")
    command = [httpcache, "capture", "--data", data, "--pypi-upstream", upstream.url, "--pypi-capture", "all"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HTTPCACHE_")}
    run([sys.executable, _COST, file, *map(str, command)], env=clean, check=True, stdout=sys.stderr)
    cost = msgspec.json.decode(file.read_bytes(), type=Cost)
    if cost.exit_code:
        sys.exit(f"the capture failed with exit code {cost.exit_code}")
    journal, grown = _allocated(data / "index" / "index.db-wal"), stored(data).since(before)
    requests, done = dict(Counter(upstream.counts()) - asked), anyio.run(_last_pass, data)
    return Measured(title, cost, grown, journal, requests, done, done["due"] / cost.seconds)


def stored(data: Path) -> Stored:
    """Return what the files of a data folder take on the disk, after SQLite has taken its journal into the index."""
    index = data / "index" / "index.db"
    if index.exists():
        with closing(sqlite3.connect(index)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sizes: Counter[str] = Counter()
    for path in data.rglob("*"):
        if path.is_file() and path != data / "reserve":
            sizes[path.relative_to(data).parts[0]] += _allocated(path)
    named = {name: sizes.pop(name, 0) for name in ("index", "blobs")}
    return Stored(**named, others=sizes.total())


def _allocated(path: Path) -> int:
    return path.stat().st_blocks * 512 if path.exists() else 0


async def _last_pass(data: Path) -> dict[str, int]:
    """Return the figures of the last pass: how many projects `failed`, and those of `Pass` that are numbers."""
    with closing(LocalStore(data)) as store:
        done = (await Passes(store, "pypi").all())[-1]
    return {"failed": len(done.failed)} | {name: getattr(done, name) for name in _FIGURES}


class _Listed(msgspec.Struct, rename="kebab", frozen=True):
    """What a page says of a file that can change."""

    filename: str
    hashes: dict[str, str]
    requires_python: str | None
    yanked: bool | str


class _Files(msgspec.Struct):
    files: list[_Listed]


def _changed_files(upstream: Running, client: httpx.Client, day: Day) -> int:
    """Count the files that a day has changed, from the pages after it and before it."""
    names = [name for kind, some in day.changed.items() if kind not in _WHOLE for name in some]
    count = 0
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        after = [_files(client, name) for name in some]
        upstream.fault("stale", len(some))
        before = [_files(client, name) for name in some]
        for old, new in zip(before, after, strict=True):
            count += sum(old.get(key) != new.get(key) for key in old.keys() | new.keys())
    return count


def _files(client: httpx.Client, name: str) -> dict[tuple[str, str], _Listed]:
    """Return the files on a project's page by name and sha256; none if there is no page."""
    answer = client.get(f"{name}/")
    if answer.status_code == 404:
        return {}
    page = msgspec.json.decode(answer.raise_for_status().content, type=_Files)
    return {(file.filename, file.hashes["sha256"]): file for file in page.files}


# --- the table


def lines(report: Report) -> list[str]:
    """Write a report as text, with the targets beside what was measured."""
    return [
        report.machine,
        f"{report.projects:,} projects in the catalogue, {report.changed:,} changed a day",
        "",
        *_table([["", *(found.title for found in report.passes), "target"], *_pass_rows(report.passes)]),
        "",
        *_scaled(report),
        f"as_of in milliseconds, by observations in the log (target: {asof.DAYS} at most {RATIO:g} times as long as 1)",
        *_table([["", "1", str(asof.DAYS), "times"], *map(_as_of_row, report.as_of)]),
    ]


def _pass_rows(passes: list[Measured]) -> Iterator[list[str]]:
    rows: list[tuple[str, Callable[[Measured], float | None], str]] = [
        ("projects looked at", lambda found: found.done["due"], ""),
        ("  asked for", lambda found: found.done["asked"], ""),
        ("  changed", lambda found: found.done["changed"], ""),
        ("  failed", lambda found: found.done["failed"], ""),
        ("seconds", lambda found: found.cost.seconds, ""),
        ("CPU seconds", lambda found: found.cost.cpu_seconds, f"{CPU_SECONDS:g} for {CHANGED:,} changed projects"),
        ("projects a second", lambda found: found.projects_a_second, ""),
        ("peak memory, MB", lambda found: found.cost.peak_memory / MB, f"{MEMORY / MB:g} with {PROJECTS:,} projects"),
        ("stored, MB", lambda found: found.stored.total / MB, ""),
        ("  index", lambda found: found.stored.index / MB, ""),
        ("  blobs", lambda found: found.stored.blobs / MB, ""),
        ("  others", lambda found: found.stored.others / MB, ""),
        ("journal left, MB", lambda found: found.journal / MB, ""),
        ("changed files", lambda found: found.changed_files, ""),
        ("  bytes stored for each", lambda found: found.bytes_a_changed_file, f"{BYTES_A_FILE:,}"),
        ("deleted files rescued", lambda found: found.done["rescued"], ""),
        ("  gone already", lambda found: found.done["lost"], ""),
        ("  withheld", lambda found: found.done["withheld"], ""),
        ("requests by the capture's count", lambda found: found.done["requests"], ""),
        ("  by the upstream's", lambda found: sum(found.requests.values()), ""),
    ]
    for title, figure, target in rows:
        yield [title, *(_number(figure(found)) for found in passes), target]
    for kind in sorted({kind for found in passes for kind in found.requests}):
        yield [f"    {kind}", *(_number(found.requests.get(kind, 0)) for found in passes), ""]


def _scaled(report: Report) -> list[str]:
    """Say what a smaller run would come to at full size: by the number of projects, or of those that changed."""
    if report.projects >= PROJECTS and report.changed >= CHANGED:
        return []
    rows = []
    for number, found in enumerate(report.passes):
        by = CHANGED / report.changed if number else PROJECTS / report.projects
        figures = (found.cost.seconds, found.cost.cpu_seconds, found.stored.total / MB)
        rows.append([found.title, f"{by:.4g}", *(_number(figure * by) for figure in figures)])
    return [
        f"SCALED, not measured: this run had fewer than {PROJECTS:,} projects or {CHANGED:,} changes. These are",
        "measured figures times a factor, the command's start included. Peak memory is not in proportion: not scaled.",
        *_table([["", "factor", "scaled seconds", "scaled CPU seconds", "scaled MB stored"], *rows]),
        "",
    ]


def _as_of_row(found: AsOf) -> list[str]:
    source = {"memory": "in memory", "form": "from cache/", "log": "from the log"}[found.source]
    title = f"{found.files:,} files, day {found.day}, {source}"
    return [title, f"{found.once * 1e3:.3f}", f"{found.daily * 1e3:.3f}", f"{found.ratio:.2f}"]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if isinstance(value, int) or value >= 100 else f"{value:.2f}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Set rows in columns, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if column else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


if __name__ == "__main__":
    main()
