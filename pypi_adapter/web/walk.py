"""What an installer will probably ask for next: goes from what it has asked for through pages and METADATA.

When pip asks for a project's page, METADATA of the newest version that it can use is read, and the pages and METADATA
of the projects that this requires. uv asks for many things at once, which is as fast as to guess, and costs less. But
when a resolver, be it pip's or uv's, goes back through the versions of a project, METADATA of the next older ones is
read.

A walk goes `DEPTH` projects beyond those that a client has asked for. So it stops by itself when nobody follows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice

import anyio
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from httpcache.errors import MirrorError
from httpcache.target import origin
from pypi_adapter.addresses import AsOf, When, token_in
from pypi_adapter.history.snapshot import SnapshotPage
from pypi_adapter.installers.choice import newest, releases, wheel_version
from pypi_adapter.installers.environment import Environment
from pypi_adapter.installers.requirements import HEAD, Need, needs
from pypi_adapter.registry.files import Find
from pypi_adapter.registry.registry import View
from pypi_adapter.simple.model import File, is_derived
from pypi_adapter.simple.versions import parse_version

from .groups import Source, first_with
from .turns import Step, Turns

DEPTH = 2  # projects between one that a client has asked for and the last one that is read ahead
FIRST = 8  # pages and METADATA of a walk that are read ahead before a client has asked for one of them
UNFOLLOWED = 100  # pages and METADATA of a walk that no client has asked for yet
UNFOLLOWED_BYTES = 32 * 1024 * 1024  # of these, as they are in memory
BATCH = 5  # older versions of a project that are read ahead at once
LADDER = 50  # older versions of a project that are chosen at once
ITEMS = 4000  # pages and METADATA of a walk
REQUIRED_BY = 8  # projects whose requirements of a project are remembered
PATIENCE = 5.0  # seconds that a page may take: a client that asks for it meanwhile waits for it

_ANY = SpecifierSet()


@dataclass
class Item:
    """A page, or METADATA of a file: a client has asked for it (`followed`), or it is read `ahead`.

    `fetched`: it had to be fetched for that, None as long as that is not known. `size` is in bytes.
    """

    followed: bool = False
    ahead: bool = False
    fetched: bool | None = None
    size: int = 0

    @property
    def is_open(self) -> bool:
        """Whether a client may still ask for it."""
        return self.ahead and self.fetched is not False and not self.followed


@dataclass
class _Project:
    """A project in a walk, by its normalised name.

    `depth` is its distance from the nearest one that a client has asked for. `specifiers` are those of the projects
    that require it, by their names. `chosen` are the specifiers for which a version was chosen, `asked` the versions of
    which a client has asked for METADATA, `requires` is what METADATA requires, by the file. `older` are the versions
    that come next if all these are refused.
    """

    name: str
    depth: int = DEPTH + 1
    extras: frozenset[str] = frozenset()
    specifiers: dict[str, SpecifierSet] = field(default_factory=dict)
    chosen: set[frozenset[str]] = field(default_factory=set)
    asked: set[Version] = field(default_factory=set)
    requires: dict[str, Sequence[Need]] = field(default_factory=dict)
    older: deque[tuple[Version, Source, File]] = field(default_factory=deque)

    def within(self, parent: str, specifiers: SpecifierSet) -> Mapping[str, SpecifierSet]:
        """Return what `parent` allows by these specifiers, and all others by their own, by their texts."""
        others = (each for name, each in self.specifiers.items() if name != parent)
        return {str(each): each for each in (specifiers, *others)}

    def add(self, parent: str, need: Need) -> None:
        """Note what `parent` requires of it."""
        if parent in self.specifiers or len(self.specifiers) < REQUIRED_BY:
            self.specifiers[parent] = need.specifiers
        if not need.extras <= self.extras:
            self.extras |= need.extras
            self.requires.clear()
            self.chosen.clear()


class Walk:
    """What installers in one environment ask for at one instant in an index, which consists of `sources`.

    Its steps are taken in `turns`.
    """

    def __init__(self, sources: Sequence[Source], when: When, environment: Environment, turns: Turns) -> None:
        self.sources = sources
        self.last = anyio.current_time()
        """When a client last asked for something."""
        self._when = when
        self._environment = environment
        self._turns = turns
        self._projects: dict[str, _Project] = {}
        self._pages: dict[str, Item] = {}
        self._metadata: dict[str, Item] = {}
        self._reading: set[str] = set()

    @property
    def items(self) -> Iterator[Item]:
        """Everything that was asked for or read ahead."""
        return chain(self._pages.values(), self._metadata.values())

    @property
    def in_vain(self) -> set[str]:
        """The projects whose pages were fetched, and that no client has asked for."""
        return {name for name, item in self._pages.items() if item.ahead and item.fetched and not item.followed}

    @property
    def is_full(self) -> bool:
        """Whether it has become so large that it has to end."""
        return len(self._pages) + len(self._metadata) >= ITEMS

    def may_go_on(self) -> bool:
        """Whether clients follow, and the registries answer."""
        unfollowed = [item.size for item in self.items if item.is_open]
        right = sum(item.ahead and item.followed for item in self.items)
        followed = len(unfollowed) < min(FIRST + right, UNFOLLOWED) and sum(unfollowed) < UNFOLLOWED_BYTES
        return followed and not self.is_full and all(each.registry.client.rest.left <= 0 for each in self.sources)

    # --- what clients ask for

    def page(self, project: str, source: Source, view: View) -> None:
        """Note that a client asks for a project's page, which is `view` of `source`, and go on from there."""
        self.last = anyio.current_time()
        self._page(project).followed = True
        known = self._project(project)
        if self._environment.concurrent:
            return
        if not known.asked:
            self._later(0, partial(self._choose, known, "", _ANY, (source, view)))
        self._reach(known, 0)

    def metadata(self, source: Source, project: str, file: File, find: Find | None) -> None:
        """Note that a client asks for METADATA of a file, and go on from there. For `find` see `Files.open`."""
        self.last = anyio.current_time()
        self._metadata_of(file).followed = True
        known = self._project(project)
        version = parse_version(wheel_version(file.filename))
        if version is not None:
            known.asked.add(version)
        if len(known.asked) > 1 and isinstance(self._when, AsOf):
            self._later(0, partial(self._read_older, known))
        if self._environment.concurrent:
            return
        self._later(0, partial(self._read, known, source, file, find))
        self._reach(known, 0)

    def _project(self, name: str) -> _Project:
        """Return a project by its normalised name."""
        return self._projects.setdefault(name, _Project(name))

    def _page(self, project: str) -> Item:
        """Return the page of a project (normalised)."""
        return self._pages.setdefault(project, Item())

    def _metadata_of(self, file: File) -> Item:
        """Return METADATA of a file."""
        return self._metadata.setdefault(file.filename, Item())

    def _later(self, depth: int, step: Step) -> None:
        self._turns.later(depth, step, self.may_go_on)

    # --- from one project to those that it requires

    def _reach(self, project: _Project, depth: int) -> None:
        """Note how near a client is to a project, and go on to what is known to be required by it."""
        if depth < project.depth:
            project.depth = depth
            for required in list(project.requires.values()):
                self._go_on(project, required)

    def _go_on(self, project: _Project, required: Sequence[Need]) -> None:
        """Go on to the projects that METADATA of a project requires, unless they are too far away.

        A live page is requested again for each client. When a resolver tries several versions of a project, most of
        what they require is not wanted.
        """
        depth = project.depth + 1
        if depth > DEPTH or len(project.asked) > 1 or not isinstance(self._when, AsOf) or self._environment.concurrent:
            return
        for need in required:
            child = self._project(need.project)
            child.add(project.name, need)
            if frozenset(child.within(project.name, need.specifiers)) not in child.chosen:
                self._later(depth, partial(self._choose, child, project.name, need.specifiers, None))
            self._reach(child, depth)

    async def _choose(
        self, project: _Project, parent: str, specifiers: SpecifierSet, found: tuple[Source, View] | None
    ) -> None:
        """Read the page of a project, and METADATA of its newest version that `parent` and all others allow."""
        within = project.within(parent, specifiers)
        if frozenset(within) in project.chosen:
            return
        project.chosen.add(frozenset(within))
        source, view = found or await self._look(project.name)
        for _, file in await self._files(project.name, source, view, within.values(), 1):
            await self._read_listed(project, source, file)

    async def _read_older(self, project: _Project) -> None:
        """Read METADATA of the next older versions: a resolver that has refused some will try more."""
        while project.older and project.older[0][0] >= min(project.asked):
            project.older.popleft()
        if not project.older:
            source, view = await self._look(project.name)
            within = project.within("", SpecifierSet(f"<{min(project.asked)}"))
            files = await self._files(project.name, source, view, within.values(), LADDER)
            project.older.extend((version, source, file) for version, file in files)
        for _, source, file in islice(project.older, min(len(project.asked) - 1, BATCH)):
            self._later(1, partial(self._read_listed, project, source, file))

    async def _look(self, project: str) -> tuple[Source, View]:
        """Read the page of a project; return the source that has it, and what it has. Raises MirrorError."""
        item = self._page(project)
        item.ahead |= not item.followed
        try:
            with anyio.fail_after(PATIENCE):
                source, view = await first_with(self.sources, project, self._when, requested=False)
        except TimeoutError:
            raise MirrorError(f"the page of {project} takes too long to be read ahead") from None
        item.fetched = item.fetched or view.observed
        item.size = view.page.snapshot.size if isinstance(view.page, SnapshotPage) else 0
        return source, view

    async def _files(
        self, project: str, source: Source, view: View, within: Collection[SpecifierSet], count: int
    ) -> list[tuple[Version, File]]:
        """Return the `count` newest versions that an installer would use, with their wheels."""
        page = view.page
        if page is None:
            return []
        policy = await source.policy.current()
        chosen = newest(
            page.releases() if isinstance(page, SnapshotPage) else releases(page.observed),
            self._environment,
            within,
            lambda file: policy.withheld(project, file, view.status) is None,
        )
        return list(islice(chosen, count))

    async def _read_listed(self, project: _Project, source: Source, file: File) -> None:
        """Read METADATA of a file on a page. Raises MirrorError."""
        if file.filename in project.requires or file.filename in self._reading:
            return
        if isinstance(self._when, AsOf):  # the links lead to the mirror
            file = await source.registry.file(project.name, token_in(file.url), file.filename)
        await self._read(project, source, file, None)

    async def _read(self, project: _Project, source: Source, file: File, find: Find | None) -> None:
        """Read METADATA of a file, and go on to what it requires. Raises MirrorError."""
        item, files = self._metadata_of(file), source.registry.files
        if file.filename in project.requires or file.filename in self._reading:
            return
        if not item.followed and not await _is_cheap(source, file):
            return
        self._reading.add(file.filename)
        try:
            item.ahead |= not item.followed
            metadata, fetched = await files.metadata_head(project.name, file, find, HEAD)
            item.fetched = item.fetched or fetched
            item.size = len(metadata)
        finally:
            self._reading.discard(file.filename)
        project.requires[file.filename] = needs(metadata, self._environment, project.extras)
        self._go_on(project, project.requires[file.filename])


async def _is_cheap(source: Source, file: File) -> bool:
    """Whether METADATA of a file can be had without the whole wheel."""
    host, ranges = origin(file.url), source.registry.files.ranges
    return ranges.are_served_by(host) if is_derived(file) else not await ranges.known_to_ignore([host])
