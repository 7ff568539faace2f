"""What belongs to an index or a pin in the store, for an export: the names of its logs, and its frozen files.

A target that has these logs answers every date as its source does, and writes nothing of its own to them while it is
offline: what the captures knew of each project is noted in its log before the export reads it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import anyio

from httpcache.adapter import Frozen, Kept, Part
from httpcache.errors import BadAddress, MirrorError
from httpcache.settings_file import SettingsFile
from httpcache.store.log import TypedLog
from httpcache.store.scratch import scratch
from httpcache.store.store import Store
from pypi_adapter.history.doubts import Doubts
from pypi_adapter.history.history import NotObserved
from pypi_adapter.history.project_log import ProjectLog, entries_log
from pypi_adapter.history.rescue_log import RescueLog
from pypi_adapter.history.serials import Proofs
from pypi_adapter.policy.rule_log import RuleLog
from pypi_adapter.registry.index_url import IndexUrlLog
from pypi_adapter.registry.known_projects import TABLES, KnownProjects, known_projects
from pypi_adapter.registry.metadata_source import SUFFIX
from pypi_adapter.registry.passes import Passes
from pypi_adapter.registry.project_list import projects_log, settle_list
from pypi_adapter.registry.registry import settle
from pypi_adapter.registry.requested_projects import AHEAD, RequestedProjects
from pypi_adapter.web.listings import carried

from .addresses import PYPI, AsOf, file_target, is_when, parse_when, token_in
from .config import Document
from .instants import now

T = TypeVar("T")

AT_ONCE = 100  # projects of which the logs are settled at once: they share commits


async def parts(store: Store, file: SettingsFile, name: str, date: str, *, settle: bool) -> AsyncIterator[Part]:
    """See `httpcache.adapter.Adapter`."""
    registries, instant = await _meant(store, file, name, date)
    for registry in registries:
        async for part in _registry(store, registry, instant, settling=settle):
            yield part
    if not date and not is_when(name):
        async for part in carried(store, name):
            yield part


async def log_names(store: Store, file: SettingsFile) -> AsyncIterator[str]:
    """See `httpcache.adapter.Adapter`."""
    yield RuleLog(store).name
    for registry in (PYPI, *(each.name for each in file.tables(Document).registry)):
        for part in _of_registry(store, registry):
            yield part.name
        for project in sorted(await known_projects(store, registry)):
            for part in _of_project(store, registry, project):
                yield part.name


async def _meant(store: Store, file: SettingsFile, name: str, date: str) -> tuple[Sequence[str], int | None]:
    """Return the registries of a name, and the instant (microseconds), None for all. Raises MirrorError."""
    if not date and is_when(name):
        name, date = PYPI, name
    instant = None
    if date:
        try:
            when = parse_when(date, now())
        except BadAddress as error:
            raise MirrorError(error.text) from None
        if not isinstance(when, AsOf):
            raise MirrorError(f"{date!r} is not a date: write {name}@2024-01-02, or {name}@2024-01-02T12:00:00Z")
        instant = when.instant
    for group in file.tables(Document).group:
        if group.name == name:
            return group.registries, instant
    return [name] if await IndexUrlLog(store, name).is_known() else [], instant


async def _registry(store: Store, registry: str, instant: int | None, *, settling: bool) -> AsyncIterator[Part]:
    """Yield the logs of a registry, each before those that it speaks of, and its files."""
    with scratch(store.spool, TABLES) as database:
        known = KnownProjects(store, registry, database)
        await known.find()
        if settling:
            await _settle(store, registry, known)
        async for part in _parts(store, registry, known, instant):
            yield part


async def _parts(store: Store, registry: str, known: KnownProjects, instant: int | None) -> AsyncIterator[Part]:
    for part in _of_registry(store, registry):
        yield part
    yield Kept(RuleLog(store).name, is_set=True)
    path, pin = ("", "files") if registry == PYPI else (f"/{registry}", registry)
    for project in known.names():
        project_log = ProjectLog(store, registry, project)
        await project_log.read_log()
        if not project_log.instant:
            continue
        for part in _of_project(store, registry, project):
            yield part
        if instant is not None:
            yield Frozen(pin, await _files(project_log, path, instant))
    if instant is None:
        yield Frozen(pin)


def _of_registry(store: Store, registry: str) -> Iterator[Kept]:
    """Yield the logs of a registry that are of no project."""
    yield _log(Passes(store, registry), lambda done: done.finished)
    yield _log(RequestedProjects(store, registry).log)
    yield _log(RequestedProjects(store, registry, AHEAD).log)
    yield _log(projects_log(store, registry), lambda change: change.instant)
    yield _log(Doubts(store, f"{registry}/ projects"), lambda noted: noted.instant)
    yield _log(Proofs(store, registry), lambda proof: proof.instant)
    yield _log(IndexUrlLog(store, registry).log)


def _of_project(store: Store, registry: str, project: str) -> Iterator[Kept]:
    """Yield the logs of a project."""
    yield _log(entries_log(store, registry, project), lambda entry: entry.instant)
    yield _log(RescueLog(store, registry, project), lambda outcome: outcome.instant)
    yield _log(Doubts(store, f"{registry}/{project}"), lambda noted: noted.instant)


async def _settle(store: Store, registry: str, known: KnownProjects) -> None:
    """Note in every log of a registry what its captures knew of the project: that nothing had changed."""
    passes = Passes(store, registry)
    await settle_list(store, registry, passes)
    if not await passes.counted():
        return

    async def one(project: str) -> None:
        project_log = ProjectLog(store, registry, project)
        await project_log.read_log()
        await settle(project_log, passes, known.position)

    names = known.names()
    while some := list(islice(names, AT_ONCE)):
        async with anyio.create_task_group() as tasks:
            for project in some:
                tasks.start_soon(one, project)


async def _files(project_log: ProjectLog, path: str, instant: int) -> tuple[str, ...]:
    """Return the addresses of the files on a project's page at an instant, and of their METADATA."""
    try:
        page = await project_log.as_of(instant)
    except NotObserved:  # then no mirror with this log can answer for the instant
        return ()
    files = page.page().files if page else ()
    return tuple(
        file_target(path, project_log.project, token_in(file.url), f"{file.filename}{suffix}").url
        for file in files
        for suffix in ("", SUFFIX)
    )


def _log(log: TypedLog[T], instant: Callable[[T], int] | None = None) -> Kept:
    """Return a log as a part; `instant` returns when a value was made (microseconds)."""
    if instant is None:
        return Kept(log.name)
    return Kept(log.name, made=lambda value: instant(log.decode(value)) / 1e6)
