"""One upstream registry: observes its projects, keeps their logs, and answers what they were at an instant."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from httpcache.credentials import Credentials
from httpcache.errors import BadAddress, BadUpstream, NotFound, StoreError
from httpcache.freezing.mirror import NOBODY, Mirror
from httpcache.lru import SizedLRU
from pypi_adapter.addresses import PYPI
from pypi_adapter.history.doubts import Doubts
from pypi_adapter.history.history import Doubtful, History, Missing, NotObserved, Serials, StaleObservation
from pypi_adapter.history.live_page import LivePage
from pypi_adapter.history.project_log import ProjectLog
from pypi_adapter.history.serials import Proofs
from pypi_adapter.history.snapshot import SnapshotPage
from pypi_adapter.history.snapshot_cache import SnapshotCache
from pypi_adapter.instants import date_from, now, to_segment
from pypi_adapter.simple.model import File, ProjectStatus

from .client import RegistryClient
from .clock import ahead, is_ahead
from .files import Files
from .index_url import IndexUrlLog
from .passes import Passes
from .project_observer import ProjectObserver
from .requested_projects import AHEAD, RequestedProjects

RENEWED = 1_000_000  # microseconds before a registry is asked again for newer links
RECENTLY = 5_000_000  # microseconds before a registry is asked again for a file that was not on its page
COME_BACK = {"Retry-After": "60"}
HISTORIES = 24 * 1024 * 1024  # bytes of memory for the projects of one registry

OnMissed: TypeAlias = Callable[[str, list[Missing], ProjectStatus | None], None]


@dataclass(frozen=True)
class View:
    """A project's page, None if the project does not exist, and whether the registry was asked for it just now.

    The links of the page lead to the mirror. `owned`: the project existed at the instant or at any time before.
    `status` is the project's as last observed, whatever the instant. `stale` is why a live page is not the registry's
    newest, None if it is.
    """

    page: SnapshotPage | LivePage | None
    observed: bool
    owned: bool
    status: ProjectStatus | None = None
    stale: str | None = None


class Registry:
    """A registry that the operator configured: it and the file links on its pages are trusted.

    `index` is the address of its simple index (PEP 503), with a trailing slash. `credentials` are the operator's and
    are sent only to the origin of `index`. A loss counts if it lasts for `loss_seconds`. `on_missed` is called
    when a request finds that files have disappeared, with the project, all of its missing files, and its status. It
    must not take long.
    """

    def __init__(
        self, name: str, index: str, mirror: Mirror, credentials: Credentials = NOBODY, *, loss_seconds: int
    ) -> None:
        self.name = name
        self.pause = loss_seconds * 1_000_000
        """Microseconds after which a loss that lasts counts."""
        self.path = "" if name == PYPI else f"/{name}"
        """The prefix of its addresses on the mirror, below the root path."""
        self.client = RegistryClient(index, mirror, credentials, IndexUrlLog(mirror.store, name), strict=name != PYPI)
        self.files = Files(self.path, self.client, mirror, self._renewed)
        self.passes = Passes(mirror.store, name)
        self.requested = RequestedProjects(mirror.store, name)
        self.ahead = RequestedProjects(mirror.store, name, AHEAD)
        self._proofs = Proofs(mirror.store, name)
        self.on_missed: OnMissed | None = None
        self._store = mirror.store
        self._offline = mirror.settings.offline
        self._base = mirror.settings.root_path + self.path
        self._snapshots = SnapshotCache(mirror.settings.data / "cache", mirror.start)
        self._observers: SizedLRU[str, ProjectObserver] = SizedLRU(HISTORIES)

    async def as_of(self, project: str, instant: int, *, requested: bool = True) -> View:
        """Return a project's page as it stood at an instant (microseconds).

        `project` is normalised (PEP 503), and noted as `requested` unless no client has requested it. The registry is
        observed now if it was not observed at or after the instant. Raises BadAddress if nothing can be known of the
        instant, and MirrorError if the registry cannot be observed: the answer is never a guess.
        """
        observer = await self._observer(project)
        project_log, observed = observer.log, False
        if not project_log.covers(instant):
            async with observer.lock:
                await project_log.read_log()
                await self._confirm(project_log, instant)
                if not project_log.covers(instant):
                    await self._observe_for_date(observer)
                    observed = True
        if requested:
            await self._note(project_log)
        _check_instant(project_log, instant)
        try:
            page = await project_log.as_of(instant)
        except NotObserved:
            raise BadUpstream(
                f"the registry sent a page of {project} that is older than the requested instant "
                "(from a cache in between): try again in a few minutes",
                headers=COME_BACK,
            ) from None
        self._keep(observer)
        return View(page, observed, project_log.owned_by(instant), project_log.status)

    async def live(self, project: str, days: int) -> View:
        """Return a project's page now, without files younger than `days` days. Raises MirrorError."""
        asked = now()
        observer = await self._observer(project)
        async with observer.lock:
            if observer.asked < asked:  # else another request has fetched it since this one arrived
                with suppress(StaleObservation):  # what is known is newer
                    await self._observe(observer, always=False)
        project_log = observer.log
        await self._note(project_log)
        page = await project_log.live(days)
        self._keep(observer)
        return View(page, True, project_log.owned_by(project_log.instant), project_log.status, observer.stale)

    async def file(self, project: str, content: str, filename: str) -> File:
        """Return the listing of a file from any observation; observe the registry now if none showed it.

        `content` is the file's `token`. Raises NotFound and other MirrorErrors.
        """
        observer = await self._observer(project)
        for attempt in range(2):
            file = await observer.log.listing(content, filename)
            if file:
                self._keep(observer)
                return observer.addressed(file)
            if attempt:
                break
            async with observer.lock:
                if observer.asked < now() - RECENTLY:
                    with suppress(StaleObservation):
                        await self._observe(observer, always=False)
        raise NotFound(f"the registry was never seen to list {filename} of {project} with {content}")

    async def _renewed(self, project: str, file: File) -> str | None:
        """Return a new address of a file whose known address is refused, None if the page has none."""
        observer = await self._observer(project)
        async with observer.lock:
            if observer.asked < now() - RENEWED and await observer.log.work(lambda history: history.lists(file)):
                with suppress(StaleObservation):
                    await self._observe(observer, always=False, whole=True)
        url = observer.addressed(file).url
        return url if url != file.url else None

    async def serials(self) -> Serials:
        """Return what is known of the registry's serials, as far as it has been asked. Raises StoreError."""
        return await self._proofs.known(self.client.since)

    async def status(self, project: str) -> ProjectStatus | None:
        """Return a project's status as last observed (PEP 792). Asks no upstream. Raises StoreError."""
        return (await self._observer(project)).log.status

    async def has(self, project: str) -> bool:
        """Whether the last observation found the project (normalised). Asks no upstream."""
        return (await self._observer(project)).log.has_page

    async def had(self, project: str, instant: int) -> bool:
        """Whether the project existed at an instant (microseconds) according to its log. Asks no upstream."""
        project_log = (await self._observer(project)).log
        if not project_log.covers(instant):
            return False
        return await project_log.as_of(instant) is not None

    async def unkept_observer(self, project: str) -> ProjectObserver:
        """Return an observer that is not kept in memory, for a pass that covers many projects. Raises StoreError."""
        observer = self._new_observer(ProjectLog(self._store, self.name, project))
        await observer.log.read_log()
        self._check_past(observer.log)
        return observer

    async def _observer(self, project: str) -> ProjectObserver:
        """Return the observer of a project, with its log read up to now. Raises StoreError."""
        observer = self._observers.get(project)
        if observer is None:
            observer = self._new_observer(ProjectLog(self._store, self.name, project, self._base, self._snapshots))
            self._keep(observer)  # so that concurrent requests share it
        await observer.log.read_log()
        self._keep(observer)
        self._check_past(observer.log)
        return observer

    def _new_observer(self, project_log: ProjectLog) -> ProjectObserver:
        doubts = Doubts(self._store, f"{self.name}/{project_log.project}", self.pause)
        return ProjectObserver(project_log, doubts, self.client, self._proofs)

    def _check_past(self, project_log: ProjectLog) -> None:
        """Raise StoreError if the last observation is in the future: nothing can be answered until it is removed."""
        if is_ahead(project_log.instant, now()):
            raise StoreError(ahead(f"an observation of {project_log.project}", project_log.instant, self.name))

    def _keep(self, observer: ProjectObserver) -> None:
        """Keep an observer in memory, with its current size."""
        self._observers.put(observer.log.project, observer, observer.size)

    async def _confirm(self, project_log: ProjectLog, instant: int) -> None:
        """Append that a project had not changed, if a pass of the capture says so and an answer needs it.

        It is in the project's log then, so that the log alone decides what is answered now and later.
        """
        if not project_log.covers(instant):
            await settle(project_log, self.passes, self.requested.position, instant)

    async def _observe_for_date(self, observer: ProjectObserver) -> None:
        """Observe a project for a date, which must not be answered from a stale page. Raises MirrorError."""
        for attempt in range(2):  # another process may have made a later observation at the same time
            try:
                return await self._observe(observer, always=True)
            except StaleObservation as error:
                if attempt or isinstance(error, Doubtful):
                    raise BadUpstream(
                        f"the registry's page of {observer.log.project} was not accepted: {error}", headers=COME_BACK
                    ) from error
        raise AssertionError("the last try returns or raises")

    async def _observe(self, observer: ProjectObserver, *, always: bool, whole: bool = False) -> None:
        """Observe a project for a request; call `on_missed` for new losses. Raises StaleObservation and MirrorError."""
        entry = await observer.observe(always=always, whole=whole)
        if self.on_missed and entry and (entry.missed or entry.gone):
            missing = await observer.log.work(History.missing)
            addressed = [msgspec.structs.replace(each, file=observer.addressed(each.file)) for each in missing]
            self.on_missed(observer.log.project, addressed, observer.log.status)

    async def _note(self, project_log: ProjectLog) -> None:
        """Record that a project was requested, if it exists, for captures; an offline mirror makes none."""
        if project_log.has_page and not self._offline:
            await self.requested.note(project_log.project)


async def settle(
    project_log: ProjectLog, passes: Passes, position: Callable[[str], Awaitable[int | None]], instant: int = 0
) -> None:
    """Append that a project had not changed, if a pass of the capture says so, and of this instant or a later one.

    `position` is that of RequestedProjects.
    """
    if not project_log.instant:
        return
    number = await position(project_log.project)
    unchanged = await passes.unchanged(
        project_log.project, number, project_log.instant, existed=project_log.owned_by(project_log.instant)
    )
    if unchanged is not None and unchanged >= instant:
        await project_log.confirm(unchanged)


def _check_instant(project_log: ProjectLog, instant: int) -> None:
    """Raise BadAddress if nothing can be known of the instant."""
    if project_log.earliest is not None and instant < project_log.earliest:
        raise BadAddress(
            f"the registry does not say when the files of {project_log.project} were uploaded, so nothing is "
            f"known of them before they were first observed: use {to_segment(project_log.earliest)} or later; "
            f"the first date is {date_from(project_log.earliest)} (00:00 UTC)"
        )
