"""What a build took, as components: each frozen file with all that the adapters know of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from httpcache.adapter import Adapter, Described
from httpcache.settings import Settings
from httpcache.store.builds import Build, File, Taken
from httpcache.store.store import Store


@dataclass(frozen=True)
class Component:
    """A file that a build took.

    `described` is what its adapter knows of it, None for a file of no ecosystem. `through` are the pins and indexes by
    which it was taken, `first` is when it first was, in seconds since the epoch.
    """

    file: File
    described: Described | None
    through: tuple[str, ...]
    first: float

    @property
    def name(self) -> str:
        """The name of the package, else that of the file."""
        return self.described.name if self.described else self.filename

    @property
    def version(self) -> str | None:
        """The version of the package, None if it is not known."""
        return self.described.version if self.described else None

    @property
    def filename(self) -> str:
        """The last part of its address, without a query."""
        path = self.file.url.partition("?")[0].rstrip("/")
        return path.rpartition("/")[2] or path

    @property
    def address(self) -> str:
        """Its path on the mirror, the same for all builds."""
        return f"/{self.file.pin}/{self.file.url}"


@dataclass(frozen=True)
class Materials:
    """A build with its components, in the order of their addresses."""

    build: Build
    components: Sequence[Component]


async def materials(store: Store, settings: Settings, installed: Sequence[Adapter], build: Build) -> Materials:
    """Return what a build took, without metadata files: these belong to a package whose file it may have taken too.

    Raises MirrorError.
    """
    merged: dict[tuple[str, str], list[Taken]] = {}
    for taken in await store.builds.files(build.label):
        merged.setdefault((taken.file.target, taken.file.digest), []).append(taken)
    files = [some[0].file for some in merged.values()]
    described: list[Described | None] = [None] * len(files)
    for adapter in installed:
        for place, found in enumerate(await adapter.describe(store, settings, files)):
            described[place] = described[place] or found
    components = [
        Component(each, known, tuple(sorted({one.file.through for one in some})), min(one.first for one in some))
        for each, known, some in zip(files, described, merged.values(), strict=True)
        if not (known and known.is_metadata)
    ]
    return Materials(build, components)
