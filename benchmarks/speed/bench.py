"""The measurements, one method each: what runs when, in which turns, and what becomes a figure.

In each round every server has its turn, so that what else the machine does meets all alike; the median over the rounds
is reported. What cannot be measured of a server becomes a note, and the run goes on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from statistics import median

from . import accounting, answers, clients, cold, fetch, indexes, mixed, nodes, records, sight
from .answers import ANY, Answer
from .load import CONNECTIONS, Loaded, load, wire_size, wrk
from .nginx import Nginx
from .notes import Notes, say
from .peers import PIN, SERVERS, Place, Server, mirror, nginx_version
from .process import Sampler, Unavailable
from .replica import Replica, Sizes
from .report import (
    COUNTING,
    CPU,
    FIRST_BYTE,
    HITS,
    LIMIT,
    LS,
    OPERATIONS,
    OURS,
    PAGE,
    PSS,
    RATE,
    READY,
    RSS,
    SECONDS,
    SPEED,
    WRK,
    Figure,
    Values,
)  # fmt: skip

MB = 1e6


class Bench:
    """One run. `figures` and `notes` grow; `close` ends every process that is left."""

    def __init__(self, folder: Path, sizes: Sizes, sampler: Sampler, *, seconds: float, rounds: int, workers: int):
        self.figures: list[Figure] = []
        self.notes = Notes()
        self.versions: dict[str, str] = {}
        self._folder = folder
        self.sizes = sizes
        self._sampler = sampler
        self._seconds = seconds
        self._rounds = rounds
        self._workers = workers
        self._stack = ExitStack()
        self._servers: dict[str, Server] = {}
        self._upstream = Nginx(folder / "upstream", workers, self._stack)
        static = Nginx(folder / "static", workers, self._stack)
        self._replica = Replica(folder / "replica", {"upstream": self._upstream.url, "static": static.url}, sizes)
        self._static = static

    # --- servers

    def start(self, names: list[str]) -> None:
        """Write the replica's files and start the upstream, the static nginx, and the named servers."""
        say("the replica's files")
        self._replica.generate()
        self._upstream.upstream(self._replica.folder)
        child = self._static.static(self._replica.folder)
        index = {LIMIT: f"{self._static.url}/simple/"}
        self._add(Server(LIMIT, nginx_version(), child, self._static.url, index))
        for name in names:
            say(f"start of {name}")
            with self.notes.noting(name):
                self._add(SERVERS[name](self._place(name, self._stack)))

    def stop(self) -> None:
        """End all that runs but the upstream."""
        for server in self._servers.values():
            server.child.stop()
        self._servers = {}

    def close(self) -> None:
        """End every process."""
        self._stack.close()

    def _add(self, server: Server) -> None:
        self._servers[server.name] = server
        self.versions[server.name] = server.version
        self._sampler.watch(server.name, server.child)

    def _place(self, name: str, stack: ExitStack) -> Place:
        return Place(self._folder / name, stack, self._upstream.url, self._workers)

    def _columns(self) -> Iterator[tuple[str, Server, str]]:
        for server in self._servers.values():
            for column, index in server.indexes.items():
                yield column, server, index

    def _add_figure(self, work: str, what: str, column: str, values: list[float]) -> None:
        if values:
            self.figures.append(Figure(work, what, column, values))

    # --- load

    def load(self, works: list[str]) -> None:
        """Warm and compare, then rounds of load for each work."""
        self._sampler.phase = "load"
        for work in works:
            say(f"{work}: one answer of each")
            found = {
                column: answer for column, _, index in self._columns() if (answer := self._warm(work, column, index))
            }
            done: dict[str, list[Loaded]] = {column: [] for column in found}
            for number in range(self._rounds):
                say(f"{work}: round {number + 1} of {self._rounds}")
                for column, server, _ in self._columns():
                    if column in found:
                        with self.notes.noting(f"{work}, {column}"):
                            done[column].append(self._one(server, found[column]))
            for column, runs in done.items():
                self._add_loaded(work, column, runs)

    def _add_loaded(self, work: str, column: str, runs: list[Loaded]) -> None:
        self._add_figure(work, RATE, column, [run.rate for run in runs])
        self._add_figure(work, CPU, column, [1e3 * run.cpu for run in runs])
        self._add_figure(work, WRK, column, [run.wrk for run in runs])
        if errors := sum(run.errors for run in runs):
            self.notes.append(f"{work}, {column}: {errors} errors under load, the figure is not valid")

    def _warm(self, work: str, column: str, index: str) -> Answer | None:
        answer = None
        with self.notes.noting(f"{work}, {column}"):
            if work in self.sizes.pages:
                answer = answers.page(index, work, self._upstream.url)
            else:
                answer = answers.wheel(index, work, self._replica.wheels[work].sha256)
        return answer

    def _one(self, server: Server, found: Answer) -> Loaded:
        """One run of load; longer, up to four times, where all connections would not have two answers each in it."""
        needed = 2 * CONNECTIONS * found.seconds
        seconds = min(max(self._seconds, needed), 4 * self._seconds)
        return load(server.child, found.url, found.accept, found.wire, seconds)

    def mixed(self) -> None:
        """Hits alone, and beside files that are fetched for the first time, in turns."""
        self._sampler.phase = "mixed"
        with self.notes.noting("mixed"):
            self._replica.big("mixed", mixed.SIZE)
            urls = list(self._downloads("/big/mixed?hit="))[1:]
            for _, url in urls:
                mixed.warm(url)
            found = Values()
            for number in range(self._rounds):
                say(f"mixed: round {number + 1} of {self._rounds}")
                new = dict(self._downloads(f"/big/mixed?round={number}&new="))
                for column, url in urls:
                    with self.notes.noting(f"mixed, {column}"):
                        for work, what, value in self._alone_and_beside(column, url, new[column]):
                            found.add(work, what, column, value)
            self.figures += found.figures

    def _alone_and_beside(self, column: str, hits: str, new: str) -> Iterator[tuple[str, str, float]]:
        wire, _ = wire_size(f"{hits}0", ANY)
        newcomers = mixed.Newcomers(new)
        for work, beside in (("hits alone", nullcontext()), ("hits beside", newcomers.running())):
            with beside:
                ran = wrk(hits, ANY, self._seconds, f"{mixed.FILES}")
            if ran.errors:
                raise Unavailable(f"{ran.errors} errors on hits")
            yield work, HITS, ran.rate(wire)
        yield "hits beside", "ms for a new file", 1e3 * median(newcomers.seconds)

    # --- clients

    def compile(self) -> None:
        """`uv pip compile` in turns, after two that are not counted."""
        self._sampler.phase = "uv"
        wanted = self._replica.top()
        self._timed("compile", lambda index: clients.compile_seconds(self._folder, wanted, *clients.index(index)))

    def install(self) -> None:
        """`uv pip install` of what an earlier resolution gave, in turns, after two that are not counted."""
        self._sampler.phase = "uv"
        upstream = self._servers[LIMIT].indexes[LIMIT]
        with self.notes.noting("install"):
            _, locked = clients.compile_seconds(self._folder, self._replica.top(), *clients.index(upstream))
            self._timed(
                "install", lambda index: (clients.install_seconds(self._folder, locked, *clients.index(index)), [])
            )

    def _timed(self, work: str, run: Callable[[str], tuple[float, list[str]]]) -> None:
        seconds: dict[str, list[float]] = {}
        results: dict[str, list[str]] = {}
        say(f"{work}: the first and the second time")
        for column, _, index in self._columns():
            with self.notes.noting(f"{work}, {column}"):
                run(index)  # a mirror fetches
                results[column] = run(index)[1]  # and finds for the first time what it has fetched
                if results[column] != results.get(LIMIT):
                    raise Unavailable("uv locks something else than with the upstream's own files")
                seconds[column] = []
        for number in range(max(self._rounds, 5) if self._rounds > 1 else 1):
            say(f"{work}: round {number + 1}")
            for column, _, index in self._columns():
                if column in seconds:
                    with self.notes.noting(f"{work}, {column}"):
                        self._rest()
                        seconds[column].append(run(index)[0])
        for column, values in seconds.items():
            self._add_figure(work, SECONDS, column, values)

    def _rest(self) -> None:
        """Wait until no server works any more on what the turns before have left it."""
        for server in self._servers.values():
            server.child.cpu_at_rest()

    # --- downloads

    def first_fetch(self) -> None:
        """A large file that nobody has asked for, through the mirrors and from the upstream, in turns."""
        self._sampler.phase = "first fetch"
        size = self.sizes.first_fetch
        with self.notes.noting("first fetch"):
            self._room(3 * size)
            file = self._replica.big("first", size)
            rates: dict[str, list[float]] = {}
            first_bytes: dict[str, list[float]] = {}
            for number in range(self._rounds):
                say(f"first fetch: round {number + 1} of {self._rounds}")
                for column, url in self._downloads(f"/big/first?round={number}"):
                    with self.notes.noting(f"first fetch, {column}"):
                        self._rest()
                        found = fetch.fetch(url, size)
                        rates.setdefault(column, []).append(found.rate)
                        first_bytes.setdefault(column, []).append(1e3 * found.first_byte)
                        self._give_back(size)
            for column, values in rates.items():
                self._add_figure("first-fetch", SPEED, column, values)
                self._add_figure("first-fetch", FIRST_BYTE, column, first_bytes[column])
            file.unlink()

    def _give_back(self, size: int) -> None:
        """Remove what servers have of a file that is not asked for again: the next one finds the same machine.

        Where memory is full of files, and the disk behind with them, it is these that would be measured.
        """
        for server in self._servers.values():
            for path in server.child.folder.rglob("*"):
                if path.is_file() and path.stat().st_size >= size:
                    path.unlink()
        os.sync()

    def _downloads(self, path: str) -> Iterator[tuple[str, str]]:
        """The address of a file of the upstream on those that can be asked for any."""
        yield LIMIT, f"{self._upstream.url}{path}"
        if cache := self._servers.get("nginx-cache"):
            yield cache.name, f"{cache.url}{path}"
        if ours := self._servers.get("mirror"):
            yield OURS[1], f"{ours.url}/{PIN}/{self._upstream.url}{path}"

    def crowd(self) -> None:
        """Many clients at once for a file that the mirror does not have."""
        self._sampler.phase = "crowd"
        size = self.sizes.crowd_file
        say(f"{self.sizes.crowd} clients at once")
        with self.notes.noting("crowd"):
            if "mirror" not in self._servers:
                raise Unavailable("the mirror did not start")
            self._room(2 * size)
            file = self._replica.big("crowd", size)
            url = dict(self._downloads("/big/crowd"))[OURS[1]]
            found = fetch.crowd(url, file, self.sizes.crowd)
            asked = self._upstream.requests.count("/big/crowd")
            self._add_figure("crowd", "upstream requests", "mirror", [asked])
            self._add_figure("crowd", "share right", "mirror", [found.right / found.clients])
            self._add_figure("crowd", "seconds to the last byte", "mirror", [found.seconds])

    def large(self) -> None:
        """The memory of a mirror of its own while it fetches a very large file, and then serves it."""
        size = self.sizes.large
        say(f"a file of {size / 1e9:g} GB")
        with self.notes.noting("4g"), ExitStack() as stack:
            self._room(size)
            self._replica.big("large", size, sparse=True)
            stack.callback(shutil.rmtree, self._folder / "large")
            server = mirror(self._place("large", stack))
            self._sampler.phase = "4g"
            self._sampler.watch("mirror (4g)", server.child)
            for what in ("first fetch", "hit"):
                found = fetch.fetch(f"{server.url}/{PIN}/{self._upstream.url}/big/large", size)
                self._add_figure("4g", f"{SPEED}, {what}", "mirror", [found.rate])

    def _room(self, size: int) -> None:
        """Raise Unavailable unless the disk has so many bytes free, and a gigabyte more."""
        usage = shutil.disk_usage(self._folder)
        if usage.free < size + 1_000_000_000:
            raise Unavailable(f"needs {size / 1e9:.1f} GB free below {self._folder}: name another with --folder")

    # --- first builds

    def first_builds(self, works: Sequence[str], servers: Sequence[str], names: Sequence[str]) -> None:
        """uv through servers that are started empty, over a link with a delay, for the named sets."""
        sets = [some for some in self.sizes.sets if some.name in names]
        with ExitStack() as stack:
            builds = cold.FirstBuilds(self._folder / "first-builds", sets, self._rounds, stack, self.notes)
            for work in works:
                builds.run(work, servers)
            self.figures += builds.figures
            self.versions |= builds.versions

    # --- the mirror alone

    def first_sight(self) -> None:
        """CPU of the first request for another date of a project whose history is known."""
        self._sampler.phase = "first sight"
        projects = [name for name in ("page-500k", "page-7m") if name in self.sizes.pages]
        dates = len(sight.DATES) if self._rounds > 1 else 1
        say("first sight of dated pages")
        with self.notes.noting("first sight"):
            found = sight.first_sight(self._place("sight", self._stack), self._upstream, projects, self._sampler, dates)
            for project, how, seconds in found:
                self._add_figure(f"first sight of {project}", "CPU ms", how, [1e3 * value for value in seconds])

    def accounting(self) -> None:
        """CPU of a hit in the application, with and without what counts it."""
        self._sampler.phase = "accounting"
        say("what it costs to count a hit")
        with self.notes.noting("accounting"):
            found = Values()
            for name, microseconds in accounting.measure(self._folder / "accounting", self._rounds):
                found.add("accounting", COUNTING, name, microseconds)
            self.figures += found.figures

    def records(self, count: int) -> None:
        """Start to ready, and hits, with few records and with many."""
        self._sampler.phase = "records"
        amounts = {"few": min(records.FEW, count), "many": count}
        with self.notes.noting("records"), ExitStack() as stack:
            for name, amount in amounts.items():
                say(f"a store with {amount:,} records")
                records.fill(self._folder / name / "data", amount)
                stack.callback(shutil.rmtree, self._folder / name)
            found = Values()
            for number in range(self._rounds):
                say(f"records: round {number + 1} of {self._rounds}")
                for name, amount in amounts.items():
                    for work, what, value in self._started(name, amount):
                        found.add(work, what, name, value)
            self.figures += found.figures

    def _started(self, name: str, count: int) -> Iterator[tuple[str, str, float]]:
        data = self._folder / name / "data"
        yield "records", LS, records.ls_seconds(data)
        yield "records", PAGE, 1e3 * records.page_seconds(data, count)
        with ExitStack() as stack:
            seconds, server = records.start_seconds(self._place(name, stack), self._sampler)
            yield "records", READY, seconds
            for what, rate in records.hits(server, count, self._seconds):
                yield f"records, {what}", HITS, rate

    # --- several nodes

    def nodes(self) -> None:
        """Hits, engine hits and first fetches of the embedded mirror, one node and three nodes, in turns."""
        self._sampler.phase = "nodes"
        with self.notes.noting("nodes"), ExitStack() as stack:
            engines = nodes.Engines(stack)
            for number in range(self.sizes.nodes):
                self._replica.big(f"node-{number}", nodes.SIZE)
                self._replica.big(f"small-{number}", nodes.SMALL)
            urls = f"{self._upstream.url}/big/node-", f"{self._upstream.url}/big/small-"
            found = Values()
            for number in range(self._rounds):
                say(f"nodes: round {number + 1} of {self._rounds}")
                for column in nodes.COLUMNS:
                    place = nodes.place_of(self._place("nodes", stack), column, number)
                    with self.notes.noting(f"nodes, {column}"):
                        for work, what, value in nodes.measure(
                            place, column, engines, urls, self.sizes.nodes, self._seconds
                        ):
                            found.add(f"nodes, {work}", what, column, value)
                    shutil.rmtree(place.folder, ignore_errors=True)
            self.figures += found.figures

    def index(self, count: int) -> None:
        """PostgreSQL against SQLite."""
        self._sampler.phase = "index"
        with self.notes.noting("index"), ExitStack() as stack:
            postgres = nodes.postgres(stack)
            say(f"two indexes with {count:,} records")
            folder, url = self._folder / "index", postgres.database()
            stack.callback(shutil.rmtree, folder)
            records.fill(folder, count)
            indexes.fill(url, count)
            found = Values()
            say("index: all works")
            for work, column, rate in indexes.measure(folder, url, count, self._seconds / 2, self._rounds):
                found.add(f"index, {work}", OPERATIONS, column, rate)
            self.figures += found.figures

    def memory(self) -> None:
        """Take the peaks that were sampled as figures."""
        for (name, phase), peak in self._sampler.peaks.items():
            self._add_figure(f"memory, {phase}", PSS, name, [peak.pss / MB])
            self._add_figure(f"memory, {phase}", RSS, name, [peak.peak_rss / MB])
