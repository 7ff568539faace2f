"""Nodes of one mirror behind nginx, beside the embedded mirror: hits, answers from the engines, first fetches.

PostgreSQL and SeaweedFS are those of the tests, on this machine. nginx sends the same address to the same node, as
examples/cluster has it. There are four columns: the embedded mirror asked straight, the same behind nginx, and one node
and three nodes behind nginx. In a round each column has its turn with all works, and with addresses of its own:

    first fetch         files that nobody has asked for, 16 at a time
    object              the same from new processes with an empty cache: record in PostgreSQL, bytes in the
                        object store
    small               files of 8 KB in such processes: record and bytes are in PostgreSQL
    local-cache         wrk on the files at random, which are on the node's own disk by then

All processes share two cores with the engines: three nodes are not three machines. What adds up is only told by CPU.
"""

from __future__ import annotations

import http.client
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlsplit

import pytest

from tests.support import objects
from tests.support.cluster import Cluster
from tests.support.postgres import Postgres

from .answers import ANY
from .load import wire_size, wrk
from .nginx import Nginx
from .peers import PIN, Place, serve
from .process import Child, Unavailable

COLUMNS: Final = {"embedded": 0, "embedded, nginx": 0, "1 node": 1, "3 nodes": 3}
"""How many nodes there are; 0 is the embedded mirror."""
SIZE: Final = 100_000
"""Bytes of a file that leaves from the disk: those of up to 64 KiB are kept in memory."""
SMALL: Final = 8_000
"""Bytes of a file that the index keeps."""
AT_ONCE: Final = 16


class Engines:
    """PostgreSQL and SeaweedFS, ended with `stack`. Raises Unavailable where they are missing."""

    def __init__(self, stack: ExitStack) -> None:
        self.postgres = postgres(stack)
        stack.callback(objects.stop_server)
        with _having():
            self.objects = objects.server()


def postgres(stack: ExitStack) -> Postgres:
    """Start PostgreSQL, ended with `stack`. Raises Unavailable where it is missing."""
    with _having():
        started = Postgres()
    stack.callback(started.close)
    return started


@contextmanager
def _having() -> Iterator[None]:
    """Say what is missing, or did not start, where a test would be skipped or fail."""
    try:
        yield
    except (pytest.skip.Exception, AssertionError) as error:
        raise Unavailable(str(error)) from None


class Mirrors:
    """The servers of one column and one round: they can be started anew, with nothing of what they had in memory."""

    def __init__(self, place: Place, column: str, engines: Engines) -> None:
        self._place = place
        self._count = COLUMNS[column]
        self._nginx = "nginx" in column or self._count > 0
        place.folder.mkdir(parents=True)
        self._cluster = Cluster(place.folder, engines.postgres, engines.objects) if self._count else None
        self.children: list[Child] = []
        self.url = ""
        self._starts = 0

    def start(self, stack: ExitStack) -> None:
        """Start all, nodes with empty caches; they end with `stack`."""
        self._starts += 1
        started = [self._serve(number, stack) for number in range(self._count or 1)]
        self.children = [child for child, _ in started]
        urls = [url for _, url in started]
        self.url = urls[0]
        if self._nginx:
            nginx = Nginx(self._place.folder / f"nginx{self._starts}", self._place.workers, stack)
            nginx.balance(urls)
            self.url = nginx.url

    def cpu(self) -> float:
        """Seconds of CPU of the mirrors' processes, when they are at rest: without nginx, and without the engines."""
        return sum(child.cpu_at_rest() for child in self.children)

    def _serve(self, number: int, stack: ExitStack) -> tuple[Child, str]:
        folder = self._place.folder / f"mirror{number}"
        options = ("--workers", f"{self._place.workers}", "--allow-network", "127.0.0.0/8")
        if self._cluster is None:
            return serve(folder, stack, *options)
        shutil.rmtree(folder, ignore_errors=True)
        return serve(folder, stack, *options, *self._cluster.store, environment=self._cluster.environment)


def measure(
    place: Place, column: str, engines: Engines, files: tuple[str, str], count: int, seconds: float
) -> Iterator[tuple[str, str, float]]:
    """Yield works, what was measured of them, and the values, for one round of a column.

    `files`: what the addresses of the large and the small files begin with; a number below `count` follows.
    """
    mirrors = Mirrors(place, column, engines)
    large, small = ([f"/{PIN}/{url}{number}" for number in range(count)] for url in files)
    with ExitStack() as stack:
        mirrors.start(stack)
        yield from _each(mirrors, "first fetch", large, SIZE)
        _ask(mirrors.url, small, SMALL)
    with ExitStack() as stack:
        mirrors.start(stack)
        yield from _each(mirrors, "object", large, SIZE)
        yield from _each(mirrors, "small", small, SMALL)
        yield from _hits(mirrors, large[0].removesuffix("0"), count, seconds)


def _each(mirrors: Mirrors, work: str, paths: list[str], size: int) -> Iterator[tuple[str, str, float]]:
    """Ask for a quarter one after the other, for the time of each, and for the rest many at a time, for the rate."""
    alone, together = paths[: len(paths) // 4], paths[len(paths) // 4 :]
    yield work, "ms, one at a time", 1e3 * median(_ask(mirrors.url, alone, size))
    before, started = mirrors.cpu(), time.perf_counter()
    parts = [together[number::AT_ONCE] for number in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for done in [threads.submit(_ask, mirrors.url, part, size) for part in parts]:
            done.result()
    yield work, f"a second, {AT_ONCE} at a time", len(together) / (time.perf_counter() - started)
    yield work, "CPU ms of the mirror", 1e3 * (mirrors.cpu() - before) / len(together)


def _hits(mirrors: Mirrors, path: str, count: int, seconds: float) -> Iterator[tuple[str, str, float]]:
    url = f"{mirrors.url}{path}"
    wire, _ = wire_size(f"{url}0", ANY)
    wrk(url, ANY, 1, f"{count}")  # each is a hit in its process for the first time
    before = mirrors.cpu()
    ran = wrk(url, ANY, seconds, f"{count}")
    if ran.errors:
        raise Unavailable(f"{ran.errors} errors on hits")
    yield "local-cache", f"a second, {AT_ONCE} at a time", ran.rate(wire)
    yield "local-cache", "CPU ms of the mirror", 1e3 * (mirrors.cpu() - before) / (ran.rate(wire) * ran.seconds)


def _ask(origin: str, paths: list[str], size: int) -> list[float]:
    """Ask for addresses over one connection; return the seconds of each. Raises Unavailable unless each is as large."""
    seconds = []
    connection = http.client.HTTPConnection(urlsplit(origin).netloc, timeout=60)
    try:
        for path in paths:
            started = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            seconds.append(time.perf_counter() - started)
            if answer.status != 200 or len(body) != size:
                raise Unavailable(f"{path} answers {answer.status} with {len(body)} bytes")
    finally:
        connection.close()
    return seconds


def place_of(place: Place, column: str, number: int) -> Place:
    """A place of its own for a column in a round."""
    name = column.replace(", ", "-").replace(" ", "-")
    return replace(place, folder=Path(f"{place.folder}-{name}-{number}"))
