"""Reads ahead: fetches what an installer will probably ask for next, before it asks.

When pip asks for a project's page, METADATA of the newest version that it can use is fetched, and the pages and
METADATA of the projects that this requires. uv asks for many things at once, which is as fast as to guess, and costs
less. But when a resolver, be it pip's or uv's, goes back through the versions of a project, METADATA of the next older
ones is fetched. All comes by the same way as for a client's request, which finds it frozen or joins its download. So a
wrong guess costs a request, and changes no answer.

A *walk* is all that installers in one environment ask for in one index at one instant. It goes `DEPTH` projects beyond
those that a client has asked for. So it stops by itself when nobody follows. Nothing waits for its turn when there is
trouble: it is dropped, and the client asks for it itself.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import TypeAlias

import anyio
import anyio.lowlevel
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from httpcache.errors import MirrorError, StoreError
from httpcache.freezing.mirror import Mirror
from httpcache.lru import SizedLRU
from httpcache.target import origin
from pypi_adapter.addresses import AsOf, When, token_in
from pypi_adapter.history.snapshot import SnapshotPage
from pypi_adapter.installers.choice import newest, releases, wheel_version
from pypi_adapter.installers.environment import Environment, read_environment
from pypi_adapter.installers.requirements import HEAD, Need, needs
from pypi_adapter.registry.files import Find
from pypi_adapter.registry.registry import Registry, View
from pypi_adapter.registry.rest import Rest
from pypi_adapter.simple.model import File, is_derived
from pypi_adapter.simple.versions import parse_version

from .groups import Source, first_with

log = logging.getLogger("httpcache")

DEPTH = 2  # projects between one that a client has asked for and the last one that is read ahead
AT_ONCE = 16  # projects of all walks of a process
SHARE = 4  # of the connections of a process, at most one in so many is for reading ahead
WAITING = 500  # projects of all walks of a process that wait for a turn
FIRST = 8  # pages and METADATA of a walk that are read ahead before a client has asked for one of them
UNFOLLOWED = 100  # pages and METADATA of a walk that no client has asked for yet
UNFOLLOWED_BYTES = 32 * 1024 * 1024  # of these, as they are in memory
BATCH = 5  # older versions of a project that are read ahead at once
LADDER = 50  # older versions of a project that are chosen at once
ITEMS = 4000  # pages and METADATA of a walk
WALKS = 32  # of a process
ADDRESSES = 4000  # projects of which a process knows in which walk they were asked for last
REQUIRED_BY = 8  # projects whose requirements of a project are remembered
PATIENCE = 5.0  # seconds that a page may take: a client that asks for it meanwhile waits for it
FULL = 60.0  # seconds without reading ahead after the store has failed
QUICK = 0.001  # seconds that a turn of the event loop takes when it has nothing else to do
TURNS = 200  # turns that are waited for one that is quick
QUIET = 60.0  # seconds without a request after which a walk is over

_ANY = SpecifierSet()

_Step: TypeAlias = Callable[[], Awaitable[None]]
_Key: TypeAlias = tuple[str, When, Environment]


@dataclass
class _Item:
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


class _Walk:
    """What installers in one environment ask for at one instant in an index, which consists of `sources`."""

    def __init__(self, sources: Sequence[Source], when: When, environment: Environment) -> None:
        self.sources = sources
        self.when = when
        self.environment = environment
        self.projects: dict[str, _Project] = {}
        self.pages: dict[str, _Item] = {}
        self.metadata: dict[str, _Item] = {}
        self.reading: set[str] = set()
        self.last = anyio.current_time()

    def project(self, name: str) -> _Project:
        """Return a project by its normalised name."""
        return self.projects.setdefault(name, _Project(name))

    def page(self, project: str) -> _Item:
        """Return the page of a project (normalised)."""
        return self.pages.setdefault(project, _Item())

    def metadata_of(self, file: File) -> _Item:
        """Return METADATA of a file."""
        return self.metadata.setdefault(file.filename, _Item())

    @property
    def items(self) -> Iterator[_Item]:
        """Everything that was asked for or read ahead."""
        return chain(self.pages.values(), self.metadata.values())

    @property
    def is_full(self) -> bool:
        """Whether it has become so large that it has to end."""
        return len(self.pages) + len(self.metadata) >= ITEMS

    @property
    def may_go_on(self) -> bool:
        """Whether clients follow, and the registries answer."""
        unfollowed = [item.size for item in self.items if item.is_open]
        right = sum(item.ahead and item.followed for item in self.items)
        followed = len(unfollowed) < min(FIRST + right, UNFOLLOWED) and sum(unfollowed) < UNFOLLOWED_BYTES
        return followed and not self.is_full and all(each.registry.client.rest.left <= 0 for each in self.sources)


class ReadAhead:
    """The walks of one process."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._at_once = min(AT_ONCE, mirror.settings.max_connections // SHARE)
        self._walks: dict[_Key, _Walk] = {}
        self._last: SizedLRU[tuple[str, str, Environment], _Key] = SizedLRU(ADDRESSES)
        self._waiting: list[deque[tuple[_Walk, _Step]]] = [deque() for _ in range(DEPTH + 1)]
        self._working = 0
        self._stopped = Rest()
        self._watching = False
        self._in_vain: dict[Registry, set[str]] = {}
        self._fetched = self._followed = 0  # in walks that have ended since this was last told

    def page(
        self, agent: str, path: str, sources: Sequence[Source], when: When, project: str, source: Source, view: View
    ) -> None:
        """Note that a client asks for a project's page, which is `view` of `source`, and read ahead from there.

        `agent` is the client's `User-Agent`, `path` and `sources` are those of the index (see `Dated`). Returns at
        once.
        """
        environment = read_environment(agent)
        if environment is None or not all(each.read_ahead for each in sources):
            return
        key = path, when, environment
        walk = self._walk(key, sources)
        self._last.put((source.registry.path, project, environment), key)
        walk.page(project).followed = True
        known = walk.project(project)
        if environment.concurrent:
            return
        if not known.asked:
            self._later(walk, 0, partial(self._choose, walk, known, "", _ANY, (source, view)))
        self._reach(walk, known, 0)

    def metadata(self, agent: str, source: Source, project: str, file: File, find: Find | None) -> None:
        """Note that a client asks for METADATA of a file, and read ahead from there. For `find` see `Files.open`.

        `agent` is the client's `User-Agent`. Returns at once.
        """
        environment = read_environment(agent)
        key = environment and self._last.get((source.registry.path, project, environment))
        walk = key and self._walks.get(key)
        if not walk:
            return
        walk.last = anyio.current_time()
        walk.metadata_of(file).followed = True
        known = walk.project(project)
        version = parse_version(wheel_version(file.filename))
        if version is not None:
            known.asked.add(version)
        if len(known.asked) > 1 and isinstance(walk.when, AsOf):
            self._later(walk, 0, partial(self._read_older, walk, known))
        if walk.environment.concurrent:
            return
        self._later(walk, 0, partial(self._read, walk, known, source, file, find))
        self._reach(walk, known, 0)

    # --- from one project to those that it requires

    def _reach(self, walk: _Walk, project: _Project, depth: int) -> None:
        """Note how near a client is to a project, and go on to what is known to be required by it."""
        if depth < project.depth:
            project.depth = depth
            for required in list(project.requires.values()):
                self._go_on(walk, project, required)

    def _go_on(self, walk: _Walk, project: _Project, required: Sequence[Need]) -> None:
        """Go on to the projects that METADATA of a project requires, unless they are too far away.

        A live page is requested again for each client. When a resolver tries several versions of a project, most of
        what they require is not wanted.
        """
        depth = project.depth + 1
        if depth > DEPTH or len(project.asked) > 1 or not isinstance(walk.when, AsOf) or walk.environment.concurrent:
            return
        for need in required:
            child = walk.project(need.project)
            child.add(project.name, need)
            if frozenset(child.within(project.name, need.specifiers)) not in child.chosen:
                self._later(walk, depth, partial(self._choose, walk, child, project.name, need.specifiers, None))
            self._reach(walk, child, depth)

    async def _choose(
        self,
        walk: _Walk,
        project: _Project,
        parent: str,
        specifiers: SpecifierSet,
        found: tuple[Source, View] | None,
    ) -> None:
        """Read the page of a project, and METADATA of its newest version that `parent` and all others allow."""
        within = project.within(parent, specifiers)
        if frozenset(within) in project.chosen:
            return
        project.chosen.add(frozenset(within))
        source, view = found or await self._look(walk, project.name)
        for _, file in await self._files(walk, project.name, source, view, within.values(), 1):
            await self._read_listed(walk, project, source, file)

    async def _read_older(self, walk: _Walk, project: _Project) -> None:
        """Read METADATA of the next older versions: a resolver that has refused some will try more."""
        while project.older and project.older[0][0] >= min(project.asked):
            project.older.popleft()
        if not project.older:
            source, view = await self._look(walk, project.name)
            within = project.within("", SpecifierSet(f"<{min(project.asked)}"))
            files = await self._files(walk, project.name, source, view, within.values(), LADDER)
            project.older.extend((version, source, file) for version, file in files)
        for _, source, file in islice(project.older, min(len(project.asked) - 1, BATCH)):
            self._later(walk, 1, partial(self._read_listed, walk, project, source, file))

    async def _look(self, walk: _Walk, project: str) -> tuple[Source, View]:
        """Read the page of a project; return the source that has it, and what it has. Raises MirrorError."""
        item = walk.page(project)
        item.ahead |= not item.followed
        try:
            with anyio.fail_after(PATIENCE):
                source, view = await first_with(walk.sources, project, walk.when, requested=False)
        except TimeoutError:
            raise MirrorError(f"the page of {project} takes too long to be read ahead") from None
        item.fetched = item.fetched or view.observed
        item.size = view.page.snapshot.size if isinstance(view.page, SnapshotPage) else 0
        return source, view

    async def _files(
        self, walk: _Walk, project: str, source: Source, view: View, within: Collection[SpecifierSet], count: int
    ) -> list[tuple[Version, File]]:
        """Return the `count` newest versions that an installer would use, with their wheels."""
        page = view.page
        if page is None:
            return []
        policy = await source.policy.current()
        chosen = newest(
            page.releases() if isinstance(page, SnapshotPage) else releases(page.observed),
            walk.environment,
            within,
            lambda file: policy.withheld(project, file, view.status) is None,
        )
        return list(islice(chosen, count))

    async def _read_listed(self, walk: _Walk, project: _Project, source: Source, file: File) -> None:
        """Read METADATA of a file on a page. Raises MirrorError."""
        if file.filename in project.requires or file.filename in walk.reading:
            return
        if isinstance(walk.when, AsOf):  # the links lead to the mirror
            file = await source.registry.file(project.name, token_in(file.url), file.filename)
        await self._read(walk, project, source, file, None)

    async def _read(self, walk: _Walk, project: _Project, source: Source, file: File, find: Find | None) -> None:
        """Read METADATA of a file, and go on to what it requires. Raises MirrorError."""
        item, files = walk.metadata_of(file), source.registry.files
        if file.filename in project.requires or file.filename in walk.reading:
            return
        if not item.followed and not await _is_cheap(source, file):
            return
        walk.reading.add(file.filename)
        try:
            item.ahead |= not item.followed
            metadata, fetched = await files.metadata_head(project.name, file, find, HEAD)
            item.fetched = item.fetched or fetched
            item.size = len(metadata)
        finally:
            walk.reading.discard(file.filename)
        project.requires[file.filename] = needs(metadata, walk.environment, project.extras)
        self._go_on(walk, project, project.requires[file.filename])

    # --- turns

    def _later(self, walk: _Walk, depth: int, step: _Step) -> None:
        """Take a step when its turn comes: what is near to a client goes first."""
        if sum(map(len, self._waiting)) >= WAITING:
            return
        self._waiting[depth].append((walk, step))
        if self._working < self._at_once:
            self._working += 1
            self._mirror.start(self._work)

    async def _work(self) -> None:
        try:
            while step := self._next():
                if not await _is_idle():
                    continue
                try:
                    await step()
                except StoreError as error:
                    self._stopped.extend(FULL)
                    log.debug("read ahead: %s", error.text)
                except MirrorError as error:
                    log.debug("read ahead: %s", error.text)
        finally:
            self._working -= 1

    def _next(self) -> _Step | None:
        """Return the next step that may be taken; the others before it are dropped."""
        for waiting in self._waiting:
            while waiting:
                walk, step = waiting.popleft()
                if self._stopped.left <= 0 and not self._mirror.upstream.is_crowded and walk.may_go_on:
                    return step
        return None

    # --- the end of walks

    def _walk(self, key: _Key, sources: Sequence[Source]) -> _Walk:
        walk = self._walks.get(key)
        if walk is None or walk.is_full:
            self._end(key)
            if len(self._walks) >= WALKS:
                self._end(min(self._walks, key=lambda each: self._walks[each].last))
            walk = self._walks[key] = _Walk(sources, *key[1:])
        walk.last = anyio.current_time()
        if not self._watching:
            self._watching = True
            self._mirror.start(self._watch)
        return walk

    def _end(self, key: _Key) -> None:
        walk = self._walks.pop(key, None)
        if walk:
            fetched = [item for item in walk.items if item.ahead and item.fetched]
            self._fetched += len(fetched)
            self._followed += sum(item.followed for item in fetched)
            vain = {name for name, item in walk.pages.items() if item.ahead and item.fetched and not item.followed}
            for source in walk.sources:
                self._in_vain.setdefault(source.registry, set()).update(vain)

    async def _watch(self) -> None:
        """End the walks that have become quiet, and tell once a minute what came of them."""
        try:
            while self._walks:
                await anyio.sleep(QUIET)
                quiet = anyio.current_time() - QUIET
                for key in [key for key, walk in self._walks.items() if walk.last <= quiet]:
                    self._end(key)
                await self._note()
                self._tell()
        finally:
            self._watching = False
            for key in list(self._walks):
                self._end(key)
            with anyio.CancelScope(shield=True):
                await self._note()
            self._tell()

    async def _note(self) -> None:
        """Note the projects that have a log and that nobody has requested: `undo` has to know of them."""
        noted, self._in_vain = self._in_vain, {}
        for registry, names in noted.items():
            for name in names:
                await registry.ahead.note(name)

    def _tell(self) -> None:
        if self._fetched:
            vain = self._fetched - self._followed
            log.info(
                "read ahead: %d fetched, %d of them asked for later, %d in vain", self._fetched, self._followed, vain
            )
        self._fetched = self._followed = 0


async def _is_cheap(source: Source, file: File) -> bool:
    """Whether METADATA of a file can be had without the whole wheel."""
    host, ranges = origin(file.url), source.registry.files.ranges
    return ranges.are_served_by(host) if is_derived(file) else not await ranges.known_to_ignore([host])


async def _is_idle() -> bool:
    """Wait until the event loop has nothing else to do for a moment; False if that does not come soon."""
    for _ in range(TURNS):
        began = anyio.current_time()
        await anyio.lowlevel.checkpoint()
        if anyio.current_time() - began < QUICK:
            return True
    return False
