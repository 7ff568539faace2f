"""First builds: `uv pip compile` and `uv pip install` through mirrors that have nothing yet, over a slow link.

The registry is a generated one (cold_sets.py) on nginx behind a link (link.py), which all use: uv alone, which is the
*straight* column, and every mirror. For each turn a mirror is started in an empty folder, so it is cold; this mirror
is then asked for the same again, with an empty cache of uv's, so it is warm. What is locked has to be what uv locks
straight.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import clients
from .cold_sets import Set, write
from .link import Link
from .nginx import Nginx
from .notes import Notes, say
from .peers import SERVERS, Place
from .process import Child, Unavailable
from .report import FIRST_BUILD, LINK, METADATA, OURS, SERVER_CPU, STRAIGHT, UPSTREAM, WARM, Figure, Values

RESOLVE: Final = "cold-resolve"
INSTALL: Final = "cold-install"


@dataclass(frozen=True)
class _Turn:
    """What one run of uv took: seconds, CPU seconds of the server and of the link, and what the registry answered."""

    seconds: float
    cpu: float
    link: float
    answers: list[tuple[str, int]]

    @property
    def ranged(self) -> int:
        """The files of which parts were read."""
        return len({address for address, status in self.answers if status == 206})


class FirstBuilds:
    """The registry with its link, and the turns; `figures`, `versions` and `notes` grow."""

    def __init__(self, folder: Path, sets: Sequence[Set], rounds: int, stack: ExitStack, notes: Notes) -> None:
        self.versions: dict[str, str] = {}
        self._folder = folder
        self._sets = sets
        self._rounds = rounds
        self._notes = notes
        self._values = Values()
        self._locked: dict[str, list[str]] = {}
        say("the registry of the first builds")
        self._registry = Nginx(folder / "registry", 1, stack)
        self._link = Link(folder / "link", self._registry.port, stack)
        self._straight = f"{self._link.url}/simple/"
        self._top = write(sets, folder / "files", "upstream", self._link.url)
        self._registry.compressed(folder / "files")
        self._link.child.wait_until_ready(self._straight)

    @property
    def figures(self) -> list[Figure]:
        """All that was measured so far."""
        return self._values.figures

    def run(self, work: str, servers: Sequence[str]) -> None:
        """Measure `RESOLVE` or `INSTALL` of each set, straight and through the named servers, in turns."""
        for some in self._sets:
            if some.name not in self._locked:  # once, not counted: what all have to lock, and files are in memory
                self._locked[some.name] = self._compile(some, self._straight)[1]
            for number in range(self._rounds):
                say(f"{work}, {some.name}: round {number + 1} of {self._rounds}")
                self._add(work, some, STRAIGHT, self._turn(work, some, self._straight, self._link.child))
                for name in servers:
                    with self._notes.noting(f"{work}, {some.name}, {name}"):
                        self._cold(work, some, name)

    def _cold(self, work: str, some: Set, name: str) -> None:
        """Start a server with nothing and run uv through it, and through this mirror once more."""
        folder = self._folder / name
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            server = SERVERS[name](Place(folder, stack, self._link.url, 1))
            self.versions[name] = server.version
            column, index = next(iter(server.indexes.items()))
            turn = self._turn(work, some, index, server.child)
            self._add(work, some, column, turn)
            self._values.add(f"{work} {some.name}", SERVER_CPU, column, turn.cpu)
            if column in OURS:
                if work == RESOLVE and turn.ranged:
                    self._values.add(f"{work} {some.name}", METADATA, column, 1e3 * turn.cpu / turn.ranged)
                warm = self._turn(work, some, index, server.child)
                self._values.add(f"{work} {some.name}", FIRST_BUILD, f"{column}{WARM}", warm.seconds)

    def _turn(self, work: str, some: Set, index: str, child: Child) -> _Turn:
        """Run uv once. Raises Unavailable where it fails, or locks something else than straight."""
        answered = len(self._registry.answers)
        cpu, link = child.cpu_at_rest(), self._link.child.cpu()
        if work == RESOLVE:
            seconds, locked = self._compile(some, index)
            if locked != self._locked[some.name]:
                raise Unavailable("uv locks something else than straight")
        else:
            seconds = clients.install_seconds(self._folder, self._locked[some.name], *clients.index(index))
        link = self._link.child.cpu() - link
        return _Turn(seconds, child.cpu_at_rest() - cpu, link, self._registry.answers[answered:])

    def _compile(self, some: Set, index: str) -> tuple[float, list[str]]:
        return clients.compile_seconds(self._folder, self._top[some.name], *clients.index(index))

    def _add(self, work: str, some: Set, column: str, turn: _Turn) -> None:
        self._values.add(f"{work} {some.name}", FIRST_BUILD, column, turn.seconds)
        self._values.add(f"{work} {some.name}", UPSTREAM, column, len(turn.answers))
        self._values.add(f"{work} {some.name}", LINK, column, turn.link / turn.seconds)
