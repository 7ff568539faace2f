"""Binds the adapter to a mirror: dated, live and pinned Python package indexes, and how they are captured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.types import ASGIApp

from httpcache.adapter import Bound, Progress, Story
from httpcache.errors import BadAddress, MirrorError
from httpcache.freezing.flight import FlightReader
from httpcache.freezing.mirror import NOBODY, Mirror
from httpcache.metrics import Sample
from httpcache.request import Request
from httpcache.store.record import Record
from httpcache.store.store import Store
from httpcache.target import Target, looks_like_url, split_path
from pypi_adapter.capture.capture import Capture
from pypi_adapter.capture.rescue import Rescue
from pypi_adapter.pages.known import Known
from pypi_adapter.pages.routes import pages
from pypi_adapter.policy.policy import Policy
from pypi_adapter.policy.rule_log import CurrentPolicy
from pypi_adapter.registry.project_list import ProjectListLog
from pypi_adapter.registry.published_logs import PublishedLogs
from pypi_adapter.registry.registry import Registry
from pypi_adapter.simple.model import File, ProjectStatus
from pypi_adapter.simple.negotiation import MediaType, choose
from pypi_adapter.web.dated import Dated
from pypi_adapter.web.groups import Source
from pypi_adapter.web.pinned import Pinned
from pypi_adapter.web.read_ahead import ReadAhead

from .addresses import PYPI, meant
from .config import read_config
from .instants import now
from .settings import CAPTURE, READ_AHEAD, SECOND_LOOK, upstream_of
from .story import story


def bind(mirror: Mirror) -> Bound:
    """Return the adapter bound to a mirror."""
    settings = mirror.settings
    config, loss_seconds = read_config(settings.file, settings.environment), SECOND_LOOK.of(settings)
    builtin = Registry(PYPI, upstream_of(settings), mirror, loss_seconds=loss_seconds)
    registries = [(builtin, config.policy, CAPTURE.of(settings), True)]
    for named in config.registries:
        registry = Registry(named.name, named.index, mirror, named.credentials, loss_seconds=loss_seconds)
        registries.append((registry, config.named_policy, named.capture, named.read_ahead))
    sources, captures = {}, []
    for registry, policy, scope, may in registries:
        current = CurrentPolicy(mirror.store, policy)
        source = Source(registry, ProjectListLog(registry, mirror), current, read_ahead=may)
        sources[registry.name] = source
        captures.append(Capture(registry, source.project_list, _rescue(source, mirror), scope))
    ahead = ReadAhead(mirror) if READ_AHEAD.of(settings) and not settings.offline else None
    openers = {name: {name, *(group.name for group in config.groups if name in group.registries)} for name in sources}
    shown = {name: (source.registry.path, [name]) for name, source in sources.items()}
    shown |= {group.name: (f"/{group.name}", list(group.registries)) for group in config.groups}
    served = [
        Dated(
            path,
            [sources[name] for name in names],
            [openers[name] for name in names],
            mirror.store,
            mirror.metrics,
            ahead,
        )
        for path, names in shown.values()
    ]
    known = [Known(source.registry, source.policy) for source in sources.values()]
    names = [name for name in sources if name != PYPI] + [group.name for group in config.groups]
    open_ones = {PYPI, *(named.name for named in config.registries if named.credentials == NOBODY)}
    logs = PublishedLogs([source.registry for source in sources.values()], open_ones)
    return _Bound(mirror.store, [*served, Pinned(mirror)], captures, known, names, logs)


def _rescue(source: Source, mirror: Mirror) -> Rescue:
    """Return the rescue of files that a registry removes, started by what its observations miss."""

    async def withheld(project: str, file: File, status: ProjectStatus | None) -> str | None:
        return (await source.policy.current()).withheld(project, file, status)

    rescue = Rescue(source.registry, mirror, withheld)
    source.registry.on_missed = rescue.start
    return rescue


def _check_meant(request: Request) -> None:
    """Raise BadAddress if an address has no upstream URL and its first segment was probably meant as a date."""
    parts = split_path(request.path)
    hint = None if parts.raw or looks_like_url(parts.rest) else meant(parts.pin, now(), request.root)
    if hint:
        raise BadAddress(hint)


class _Bound:
    """See `httpcache.adapter.Bound`."""

    def __init__(
        self,
        store: Store,
        parts: Sequence[Dated | Pinned],
        captures: Sequence[Capture],
        known: Sequence[Known],
        indexes: Sequence[str],
        logs: PublishedLogs,
    ) -> None:
        self.pages = pages(store, known)
        self._store = store
        self._known = known
        self.indexes = indexes
        self._logs = logs
        self._parts = parts
        self._captures = captures

    async def answer(self, request: Request) -> ASGIApp | None:
        """Return the first answer of the parts. Raises MirrorError."""
        try:
            for part in self._parts:
                response = await part.answer(request)
                if response is not None:
                    return response
            _check_meant(request)
        except BadAddress as error:
            error.problem = choose(request.accept) is MediaType.JSON
            raise
        return None

    async def shown(self, request: Request, outcome: Record | FlightReader, status: str) -> None:
        """Do nothing: `answer` already answers all index pages."""

    def kind(self, path: str) -> str | None:
        """Return what an address is for (see Dated and Pinned)."""
        return next(filter(None, (part.kind(path) for part in self._parts)), None)

    async def story(self, target: Target, digest: str) -> Story | None:
        """Return where a file is listed, and who withholds it. Raises StoreError."""

        async def policy_of(registry: str) -> Policy | None:
            for each in self._known:
                if each.registry.name == registry:
                    return await each.policy.current()
            return None

        return await story(self._store, target, digest, policy_of)

    async def log_names(self, *, sees_all: bool) -> Sequence[str]:
        """See `httpcache.adapter.Bound`. Raises StoreError."""
        return await self._logs.names(sees_all=sees_all)

    def shows_log(self, name: str, *, sees_all: bool) -> bool:
        """See `httpcache.adapter.Bound`."""
        return self._logs.shows(name, sees_all=sees_all)

    async def measures(self) -> Sequence[Sample]:
        """Return gauges of the last captures. Raises StoreError."""
        return [sample for capture in self._captures for sample in await capture.measures()]

    async def capture(
        self, progress: Progress, due: Callable[[float | None], bool], report: Callable[[str], None]
    ) -> None:
        """Make a pass over each registry. Raises MirrorError."""
        failed = []
        for capture in self._captures:
            try:
                if due(await capture.last()):
                    report(f"{capture.name}: {(await capture.run(progress)).summary}")
            except MirrorError as error:
                failed.append(f"{capture.name}: {error.text}")
        if failed:
            raise MirrorError("; ".join(failed))
