"""The builds: what was taken under each build label, and when (see `label`).

They are kept apart from what is frozen, in a database of their own beside the embedded index, or in tables of their own
in PostgreSQL. `recorder` writes them.

Bounds: the last BUILDS builds, in each the first INDEXES pins and indexes and FILES files, and the settings say for how
long a build is kept after its last request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

BUILDS = 10_000
INDEXES = 100  # of a build
FILES = 10_000  # of a build


class UsedIndex(NamedTuple):
    """A pin, or an index like "2024-01-02" or "internal/live", as a build used it."""

    build: str
    through: str


class File(NamedTuple):
    """A frozen file that a build took.

    `through`: the pin or index by which it was taken. `pin`, `url`: those of its record, which are its address on
    the mirror, without the values of a query. `target`: the key of its Target. `is_private`: it was fetched with
    credentials. `client`: the first product of the client's `User-Agent`, like "pip/24.0".
    """

    build: str
    through: str
    pin: str
    url: str
    target: str
    digest: str
    size: int
    is_private: bool
    client: str


class Taken(NamedTuple):
    """A file that a build took, and when it first did, in seconds since the epoch."""

    file: File
    first: float


class Build(NamedTuple):
    """A build: when it first and last asked for something (seconds since the epoch), and how much it took.

    `indexes` are in order. `bytes` is the sum of the files' sizes.
    """

    label: str
    first: float
    last: float
    indexes: tuple[str, ...]
    files: int
    bytes: int

    @property
    def is_whole(self) -> bool:
        """Whether it has not reached a bound, so that all that it took is known."""
        return self.files < FILES and len(self.indexes) < INDEXES


class Uses(NamedTuple):
    """What was noted: pins and indexes with their first and last use, and files of these with their first use."""

    indexes: dict[UsedIndex, tuple[float, float]]
    files: dict[File, float]

    def of_builds(self) -> dict[str, PartOfBuild]:
        """Return the uses of each build. All is in order, so that processes lock rows in the same order."""
        parts: dict[str, PartOfBuild] = {}
        for (build, index), (first, last) in sorted(self.indexes.items()):
            part = parts.setdefault(build, PartOfBuild(first, last, [], []))
            indexes = [*part.indexes, index]
            parts[build] = PartOfBuild(min(part.first, first), max(part.last, last), indexes, part.files)
        for file, first in sorted(self.files.items()):
            parts[file.build].files.append(Taken(file, first))
        return parts


class PartOfBuild(NamedTuple):
    """What was noted of one build: its first and last use, its pins and indexes, and its files."""

    first: float
    last: float
    indexes: list[str]
    files: list[Taken]


class Builds(Protocol):
    """The builds of a store, shared by all its processes. Every method raises StoreError."""

    async def add(self, uses: Uses) -> None:
        """Add uses, durably: all of them, or none. What is known already keeps the time of its first use."""

    async def prune(self, before: float) -> None:
        """Remove the builds whose last use was before an instant, and all but the last BUILDS."""

    async def all(self) -> list[Build]:
        """Return every build, the one that was used last first."""

    async def get(self, label: str) -> Build | None:
        """Return one build, None if there is none with this label."""

    async def files(self, label: str) -> list[Taken]:
        """Return what a build took, in the order of pin, URL and index."""

    async def that_took(self, targets: Sequence[str]) -> list[str]:
        """Return the labels of the builds that took one of these targets, given by their keys; in order."""
