"""The speed benchmark: `make bench`, or `python -m benchmarks.speed`. Everything runs on 127.0.0.1.

A generated registry on nginx (replica.py) is the upstream. Side by side stand nginx with the same files, nginx as a
caching mirror (nginx.py), proxpi, devpi-server and this mirror (peers.py), each warm and checked to give the same
answers (answers.py). The mirror has two columns: `mirror-dated` is the index of today and the files of `/files/`,
`mirror-pinned` the index and the files behind a pin.

    page-*, wheel-*   wrk: answers a second, CPU of the server for each (load.py)
    mixed             wrk on files that are there, while others are fetched for the first time (mixed.py)
    compile, install  uv with an empty cache (clients.py)
    cold-resolve, cold-install    uv through servers that have nothing yet, over a slow link (cold.py)
    first-fetch, crowd, 4g    downloads that are new to the mirror (fetch.py)
    first-sight       CPU for a date of a project that nobody has asked for (sight.py)
    accounting        what it costs to count a hit (accounting.py)
    records           start, hits and lists with very many records (records.py)
    nodes             nodes over PostgreSQL and SeaweedFS, beside the embedded mirror (nodes.py)
    index             PostgreSQL against SQLite (indexes.py)

Peak memory is sampled all the while (process.py). report.py has the targets.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from benchmarks.machine import machine

from . import clients, mixed
from .bench import Bench
from .choice import some_of
from .cold import INSTALL, RESOLVE
from .notes import say
from .peers import SERVERS
from .process import Sampler, Unavailable
from .replica import FULL, SMALL, Sizes
from .report import Report, lines, targets

LOADS: Final = (*FULL.pages, *FULL.wheels)
COLD: Final = (RESOLVE, INSTALL)
"""Works that start servers of their own."""
WORKS: Final = (
    *COLD,
    *LOADS,
    "mixed",
    "compile",
    "install",
    "first-fetch",
    "crowd",
    "4g",
    "first-sight",
    "accounting",
    "records",
    "nodes",
    "index",
)
SETS: Final = tuple(some.name for some in FULL.sets)
ALONE: Final = ("crowd", "4g", "first-sight", "accounting", "records", "nodes", "index")
"""Works that only the mirror does."""


def main() -> int:
    """Measure, print the tables, write all figures as JSON if that was asked for; 1 if it cannot be done at all."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    try:
        report = _measure(options)
    except Unavailable as error:
        print(f"benchmarks.speed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    say(f"{time.monotonic() - started:.0f} seconds")
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    print("\n".join(lines(report)))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.speed", description="Measure this mirror beside others.")
    parser.add_argument("--seconds", type=float, help="of load in each round (5; small: 1)")
    parser.add_argument("--rounds", type=int, help="medians are taken over (3; small: 1)")
    parser.add_argument("--only", type=some_of(WORKS), default=list(WORKS), metavar="WORK,...", help=", ".join(WORKS))
    parser.add_argument(
        "--servers", type=some_of(tuple(SERVERS)), default=list(SERVERS), metavar="NAME,...", help=", ".join(SERVERS)
    )
    parser.add_argument(
        "--sets", type=some_of(SETS), default=SETS, metavar="SET,...", help=f"of first builds: {', '.join(SETS)} (all)"
    )
    parser.add_argument(
        "--records",
        type=int,
        metavar="N",
        help="in the store that is started (1,000,000; small: 10,000), and in indexes (100,000; 10,000)",
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="of nginx and the mirror (%(default)s)")
    parser.add_argument("--small", action="store_true", help="small files and short runs: about two minutes")
    parser.add_argument("--folder", type=Path, help="where all files are made, and removed; else with temporary files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file")
    options = parser.parse_args()
    options.seconds = options.seconds or (1.0 if options.small else 5.0)
    options.rounds = options.rounds or (1 if options.small else 3)
    return options


def _measure(options: argparse.Namespace) -> Report:
    sizes = SMALL if options.small else FULL
    uv = clients.version()
    with TemporaryDirectory(prefix="httpcache-bench-", dir=options.folder) as folder, Sampler() as sampler:
        bench = Bench(
            Path(folder), sizes, sampler, seconds=options.seconds, rounds=options.rounds, workers=options.workers
        )
        try:
            if cold := [work for work in COLD if work in options.only]:
                bench.first_builds(cold, options.servers, options.sets)
            if others := [work for work in options.only if work not in COLD]:
                bench.start(options.servers)
                _run(bench, others, options.servers, options.records)
        finally:
            bench.close()
    return Report(
        machine=machine(),
        versions={**bench.versions, "uv": uv},
        small=options.small,
        seconds=options.seconds,
        rounds=options.rounds,
        workers=options.workers,
        titles=_titles(sizes),
        figures=bench.figures,
        notes=bench.notes,
        targets=targets(bench.figures),
    )


def _run(bench: Bench, works: list[str], servers: list[str], count: int | None) -> None:
    """Do the works in their order; the last ones are the mirror's alone, when all servers have ended."""
    works = works if "mirror" in servers else [work for work in works if work not in ALONE]
    bench.load([work for work in LOADS if work in works])
    for work, measure in (
        ("mixed", bench.mixed),
        ("compile", bench.compile),
        ("install", bench.install),
        ("first-fetch", bench.first_fetch),
        ("crowd", bench.crowd),
    ):
        if work in works:
            measure()
    bench.stop()
    if "4g" in works:
        bench.large()
    if "first-sight" in works:
        bench.first_sight()
    if "accounting" in works:
        bench.accounting()
    if "records" in works:
        bench.records(count or bench.sizes.records)
    if "nodes" in works:
        bench.nodes()
    if "index" in works:
        bench.index(count or bench.sizes.indexed)
    bench.memory()


def _titles(sizes: Sizes) -> dict[str, str]:
    """What the works were with these sizes."""
    titles = {work: f"{_size(size)} page" for work, size in sizes.pages.items()}
    titles |= {work: f"{_size(size)} wheel" for work, size in sizes.wheels.items()}
    titles |= {f"first sight of {work}": f"first sight of a {_size(size)} page" for work, size in sizes.pages.items()}
    titles["hits alone"] = f"{mixed.FILES} files at random"
    titles["hits beside"] = f"beside {mixed.RATE:g} new files a second"
    titles["compile"] = f"uv pip compile of {sizes.graph} distributions"
    titles["install"] = f"uv pip install of {min(clients.INSTALLED, sizes.graph)} of them"
    titles["first-fetch"] = f"first fetch of {_size(sizes.first_fetch)}"
    for some in sizes.sets:
        titles |= {
            f"{RESOLVE} {some.name}": f"resolve, {some.title}",
            f"{INSTALL} {some.name}": f"install, {some.title}",
        }
    titles["crowd"] = f"{sizes.crowd} clients for {_size(sizes.crowd_file)}"
    titles["4g"] = f"a file of {_size(sizes.large)}"
    return titles


def _size(size: int) -> str:
    for unit, name in ((1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "KB")):
        if size >= unit:
            return f"{size / unit:g} {name}"
    return f"{size} B"


if __name__ == "__main__":
    sys.exit(main())
