"""First builds from the real PyPI: `make bench-real`, or `python -m benchmarks.real`. Never part of CI.

A handful of named sets, each at a date: uv alone with `--exclude-newer`, this mirror cold, and the same mirror warm, in
turns. In each turn the mirror is started in an empty folder. What is locked has to be the same each time. The rest is
as in `make bench` (speed/cold.py), which has a generated registry, and so can be compared over time.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from .machine import machine
from .speed import clients
from .speed.choice import some_of
from .speed.cold import INSTALL, RESOLVE
from .speed.notes import Notes, say
from .speed.peers import mirror_version, serve
from .speed.process import Unavailable
from .speed.report import FIRST_BUILD, OURS, SERVER_CPU, STRAIGHT, WARM, Report, Table, Values, first_builds

_OURS: Final = OURS[0]


@dataclass(frozen=True)
class RealSet:
    """What is asked for at a date, for which Python; only wheels, since to build an sdist says nothing of a mirror."""

    name: str
    wanted: tuple[str, ...]
    date: str
    python: str

    @property
    def title(self) -> str:
        """What is asked for, and when."""
        return f"{' '.join(self.wanted)}, {self.date}"


SETS: Final = (
    RealSet("requests", ("requests",), "2019-03-01", "3.7"),
    RealSet("science", ("numpy", "pandas", "scikit-learn", "matplotlib"), "2019-11-20", "3.7"),
    RealSet("aws", ("boto3", "awscli"), "2020-07-04", "3.8"),
    RealSet("streamlit", ("streamlit", "plotly", "altair"), "2023-04-20", "3.11"),
    RealSet("dask", ("dask[complete]", "xarray", "netcdf4"), "2024-02-01", "3.11"),
    RealSet("litellm", ("litellm", "instructor"), "2024-12-24", "3.12"),
    RealSet("vllm", ("vllm",), "2025-10-10", "3.12"),
    RealSet("mlflow", ("mlflow", "ray[default]"), "2026-03-03", "3.12"),
)
_NAMES: Final = tuple(some.name for some in SETS)


class RealBuilds:
    """The turns; `values` and `notes` grow.

    `upstream` is the URL of an index in the place of PyPI, `options` are further ones of the mirror.
    """

    def __init__(self, folder: Path, upstream: str | None = None, *options: str) -> None:
        self.values = Values()
        self.notes = Notes()
        self._folder = folder
        self._straight = clients.index(upstream) if upstream else ()
        self._options = ("--pypi-upstream", upstream, *options) if upstream else options
        self._locked: dict[str, list[str]] = {}

    def run(self, work: str, some: RealSet, rounds: int) -> None:
        """Measure `RESOLVE` or `INSTALL` of a set, straight, cold and warm, in turns."""
        with self.notes.noting(f"{work}, {some.name}"):
            if some.name not in self._locked:  # once, not counted: caches on the way have what is asked for
                self._locked[some.name] = self._compile(some, *self._newest(some))[1]
            for number in range(rounds):
                say(f"{work}, {some.name}: round {number + 1} of {rounds}")
                self._add(work, some, STRAIGHT, self._seconds(work, some, *self._newest(some)))
                self._mirror(work, some)

    def _mirror(self, work: str, some: RealSet) -> None:
        """Start a mirror with nothing, and run uv through it twice."""
        folder = self._folder / "mirror"
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            child, url = serve(folder, stack, *self._options)
            index = clients.index(f"{url}/{some.date}/")
            before = child.cpu_at_rest()
            seconds = self._seconds(work, some, *index)
            self.values.add(f"{work} {some.name}", SERVER_CPU, _OURS, child.cpu_at_rest() - before)
            self._add(work, some, _OURS, seconds)
            self._add(work, some, f"{_OURS}{WARM}", self._seconds(work, some, *index))

    def _newest(self, some: RealSet) -> tuple[str, ...]:
        """The options of uv without a mirror: files uploaded before the date."""
        return (*self._straight, "--exclude-newer", f"{some.date}T00:00:00Z")

    def _seconds(self, work: str, some: RealSet, *options: str) -> float:
        """Run uv once. Raises Unavailable where it fails, or locks something else than straight."""
        if work == INSTALL:
            locked, python = self._locked[some.name], ("--python-version", some.python)
            return clients.install_seconds(self._folder, locked, *python, *options)
        seconds, locked = self._compile(some, *options)
        if locked != self._locked[some.name]:
            different = sorted(set(locked) ^ set(self._locked[some.name]))
            raise Unavailable(f"uv locks something else than straight: {' '.join(different)}")
        return seconds

    def _compile(self, some: RealSet, *options: str) -> tuple[float, list[str]]:
        return clients.compile_seconds(self._folder, some.wanted, "--python-version", some.python, *options)

    def _add(self, work: str, some: RealSet, column: str, seconds: float) -> None:
        self.values.add(f"{work} {some.name}", FIRST_BUILD, column, seconds)


def main() -> int:
    """Measure and print the tables; 1 if something could not be measured, or was not locked as straight."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        report = _measure(options)
    except Unavailable as error:
        print(f"benchmarks.real: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print("\n".join(lines(report)))
    return 1 if report.notes else 0


def _options() -> argparse.Namespace:
    works = (RESOLVE, INSTALL)
    parser = argparse.ArgumentParser(prog="benchmarks.real", description="Measure first builds from the real PyPI.")
    parser.add_argument("--only", type=some_of(works), default=works, metavar="WORK,...", help=", ".join(works))
    parser.add_argument("--sets", type=some_of(_NAMES), default=_NAMES, metavar="SET,...", help=", ".join(_NAMES))
    parser.add_argument("--rounds", type=int, default=3, help="medians are taken over (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where all files are made, and removed; else with temporary files")
    return parser.parse_args()


def _measure(options: argparse.Namespace) -> Report:
    versions = {"mirror": mirror_version(), "uv": clients.version()}
    sets = [some for some in SETS if some.name in options.sets]
    with TemporaryDirectory(prefix="httpcache-bench-", dir=options.folder) as folder:
        builds = RealBuilds(Path(folder))
        for work in options.only:
            for some in sets:
                builds.run(work, some, options.rounds)
    return Report(
        machine=machine(),
        versions=versions,
        small=False,
        seconds=0,
        rounds=options.rounds,
        workers=1,
        titles={f"{work} {some.name}": f"{work}: {some.title}" for some in sets for work in options.only},
        figures=builds.values.figures,
        notes=builds.notes,
    )


def lines(report: Report) -> Iterator[str]:
    """Write a report as text."""
    yield report.machine
    yield ", ".join(report.versions.values())
    yield f"medians; {report.rounds} rounds"
    yield from first_builds(report, Table(report.figures))
    if report.notes:
        yield from ("", "NOTES", *report.notes)


if __name__ == "__main__":
    sys.exit(main())
