"""One upstream registry: observes its projects, keeps their logs, and tells what they were at an instant."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

import anyio
import msgspec

from httpcache.credentials import Credentials
from httpcache.errors import BadAddress, BadUpstream, NotFound, StoreError
from httpcache.freezing.mirror import NOBODY, Mirror
from httpcache.lru import Kept
from pypi_adapter.addresses import date_from, now, to_segment, token
from pypi_adapter.history.history import (
    Doubtful,
    Entry,
    History,
    Missing,
    NotObserved,
    Observation,
    Serials,
    StaleObservation,
)
from pypi_adapter.history.project_log import Known
from pypi_adapter.history.serials import Proof, Proofs
from pypi_adapter.history.snapshot import Moment
from pypi_adapter.history.snapshot_cache import Shelf
from pypi_adapter.simple.model import QUARANTINED, File, Page, ProjectStatus

from .client import Asking
from .clock import ahead, is_ahead
from .files import Files
from .index_url import Address
from .passes import Passes
from .requested_projects import Requested

log = logging.getLogger("httpcache")

PYPI = "pypi"
"""The name of the built-in registry."""

SECOND_LOOK = 1.0  # seconds until what shows a loss is asked for again at once
LATER_LOOK = 15 * 60  # seconds until a loss that lasts is believed
RENEWED = 1_000_000  # microseconds in which a registry is not asked again for newer links
RECENTLY = 5_000_000  # microseconds in which a registry is not asked again for a file that its page did not have
COME_BACK = {"Retry-After": "60"}
LAG = 3_600_000_000  # microseconds that a page may be older than the list, from a cache on the way, in a pass
HISTORIES = 24 * 1024 * 1024  # bytes of memory for what is known of projects, for each registry

OnMissed: TypeAlias = Callable[[str, list[Missing], ProjectStatus | None], None]


@dataclass(frozen=True)
class View:
    """A project's page, None if there is no such project; and whether the registry was asked for it now.

    What was at an instant has its links to the mirror, a page of now has the registry's. `owned`: there was such a
    project at the instant, or ever before. `status` is the project's as last observed, at whatever instant the page is.
    `stale`: why a page of now is not the registry's newest, None where it is.
    """

    page: Page | Moment | None
    observed: bool
    owned: bool
    status: ProjectStatus | None = None
    stale: str | None = None


class Look(msgspec.Struct, frozen=True):
    """What a pass of the capture knows of a project from the list: whether it is on it, and with which serial.

    `always`: ask for its page whatever serial its log has. `left`: there is a list, and the project is not on it.
    """

    listed: bool
    serial: int | None
    always: bool = True
    left: bool = False


@dataclass(frozen=True)
class Captured:
    """What a pass of the capture found of a project: whether the registry was `asked`, and had `changed` its page.

    `instant` is what is known to be as the log has it (microseconds), None where the list tells that. `missing` are the
    files that were there once and are not now, `status` is the project's as last observed.
    """

    asked: bool
    changed: bool
    instant: int | None
    missing: list[Missing]
    status: ProjectStatus | None


class Registry:
    """A registry that the operator configured: it and the file links on its pages are trusted.

    `index` is the address of its simple index (PEP 503), with the slash at its end. `credentials` are the operator's,
    and go to the origin of `index` alone. A loss is believed if it lasts for `later_look` seconds. `on_missed` is told
    when a request has found files missing that were there: the project, all that are missing, its status. It must not
    take long.
    """

    def __init__(
        self, name: str, index: str, mirror: Mirror, credentials: Credentials = NOBODY, later_look: int = LATER_LOOK
    ) -> None:
        self.name = name
        self.pause = later_look * 1_000_000
        """Microseconds until a loss that lasts is believed."""
        self.path = "" if name == PYPI else f"/{name}"
        """What its addresses on the mirror begin with, below the root path."""
        self.asking = Asking(index, mirror, credentials, Address(mirror.store, name), strict=name != PYPI)
        self.files = Files(self.path, self.asking, mirror, self._renewed)
        self.passes = Passes(mirror.store, name)
        self.requested = Requested(mirror.store, name)
        self._proofs = Proofs(mirror.store, name)
        self.on_missed: OnMissed | None = None
        self._store = mirror.store
        self._base = mirror.settings.root_path + self.path
        self._shelf = Shelf(mirror.settings.data / "cache", mirror.start)
        self._kept: Kept[str, Known] = Kept(HISTORIES)

    async def as_of(self, project: str, instant: int) -> View:
        """Return a project's page as it stood at an instant (microseconds).

        `project` is normalised (PEP 503). The registry is observed now if it was not at or after the instant.
        Raises BadAddress for an instant of which nothing can be known, and MirrorError where the registry cannot be
        observed: never a guess.
        """
        known = await self._known(project)
        observed = False
        if not known.covers(instant):
            async with known.observing:
                await known.read_log()
                await self._confirm(known, instant)
                if not known.covers(instant):
                    await self._observe_for(known)
                    observed = True
        await self._note(known)
        _check_known(known, instant)
        try:
            page = await known.as_of(instant)
        except NotObserved:
            raise BadUpstream(
                f"the registry gave a page of {project} that is older than the instant asked for "
                "(a cache on the way): ask again in some minutes",
                headers=COME_BACK,
            ) from None
        self._keep(known)
        return View(page, observed, known.owned_by(instant), known.status)

    async def live(self, project: str, days: int) -> View:
        """Return a project's page now, less what is younger than so many days. Raises MirrorError."""
        asked = now()
        known = await self._known(project)
        async with known.observing:
            if known.asked < asked:  # else another request has asked since this one came
                with suppress(StaleObservation):  # what is known is newer
                    await self._observe(known, always=False)
        await self._note(known)
        page = await known.work(lambda history: history.cooled(now(), days) if days else history.latest())
        self._keep(known)
        return View(page, True, known.owned_by(known.instant), known.status, known.stale)

    async def file(self, project: str, content: str, filename: str) -> File:
        """Return the listing of a file that any observation showed; observe the registry if none did.

        `content` is the file's `token`. Raises NotFound and other MirrorErrors.
        """
        known = await self._known(project)
        for attempt in range(2):
            for file in await known.work(lambda history: history.named(filename)):
                if token(file) == content:
                    return known.addressed(file)
            if attempt:
                break
            async with known.observing:
                if known.asked < now() - RECENTLY:
                    with suppress(StaleObservation):
                        await self._observe(known, always=False)
        raise NotFound(f"the registry has not been seen to list {filename} of {project} with {content}")

    async def _renewed(self, project: str, file: File) -> str | None:
        """Return another address of a file than the known one, which is refused, None where the page has none."""
        known = await self._known(project)
        async with known.observing:
            if known.asked < now() - RENEWED and await known.work(lambda history: history.lists(file)):
                with suppress(StaleObservation):
                    await self._observe(known, always=False, whole=True)
        url = known.addressed(file).url
        return url if url != file.url else None

    async def capture(self, project: str, look: Look, since: int) -> Captured:
        """Observe a project for a pass of the capture whose list is of the instant `since`, unless its log is as new.

        Its history is not kept in memory: a pass goes over many. Raises StaleObservation where what the registry shows
        does not go with its list: it is from a cache on the way. Raises MirrorError.
        """
        known = Known(self._store, self.name, project, pause=self.pause)
        await known.read_log()
        self._check_past(known)
        serials = await self.serials()
        seen, before, instant = known.serial_since(serials.since), known.instant, None
        asked = look.always or not known.has_page or seen < (look.serial or 0)
        if asked:
            whole = look.serial is not None and seen < look.serial  # that is new, whatever its entity tag says
            instant, _ = await self._look(known, always=False, whole=whole, believed=look.left and serials.proved)
            if not self._goes_with(known, look, instant, since):
                raise StaleObservation(f"the page of {project} does not go with the list: one of them is old")
        told = look.serial is not None and serials.proved  # by the list
        instant = instant if look.listed and not told and known.instant < since else None
        return Captured(asked, known.instant != before, instant, await known.work(History.missing), known.status)

    async def serials(self) -> Serials:
        """Return what is known of the registry's serials, as far as it has been asked. Raises StoreError."""
        return await self._proofs.known(self.asking.since)

    async def status(self, project: str) -> ProjectStatus | None:
        """Return a project's status as last observed (PEP 792). Asks no upstream. Raises StoreError."""
        return (await self._known(project)).status

    async def _known(self, project: str) -> Known:
        known = self._kept.get(project) or Known(self._store, self.name, project, self._base, self._shelf, self.pause)
        self._keep(known)  # so that others who ask for it now share it
        await known.read_log()
        self._keep(known)
        self._check_past(known)
        return known

    def _check_past(self, known: Known) -> None:
        """Raise StoreError for an observation that is still to come: nothing can be said until it is taken back."""
        if is_ahead(known.instant, now()):
            raise StoreError(ahead(f"an observation of {known.project}", known.instant, self.name))

    def _keep(self, known: Known) -> None:
        """Keep what is known of a project in memory, with what it takes by now."""
        self._kept.put(known.project, known, known.size)

    async def _confirm(self, known: Known, instant: int) -> None:
        """Take from the last pass of the capture that a project had not changed, where an answer needs to know.

        It is appended to the project's log, so that the log alone decides what is answered now and later.
        """
        if not known.instant or known.covers(instant):
            return
        number = await self.requested.number(known.project)
        unchanged = await self.passes.unchanged(
            known.project, number, known.instant, existed=known.owned_by(known.instant)
        )
        if unchanged is not None and unchanged >= instant:
            await known.confirm(unchanged)

    async def _observe_for(self, known: Known) -> None:
        """Observe for a date, which must not be answered from a stale page. Raises MirrorError."""
        for attempt in range(2):  # another process may have asked at the same time, and have been answered later
            try:
                return await self._observe(known, always=True)
            except StaleObservation as error:
                if attempt or isinstance(error, Doubtful):
                    raise BadUpstream(
                        f"the registry's page of {known.project} cannot be right: {error}", headers=COME_BACK
                    ) from error
        raise AssertionError("the last look returns or raises")

    async def _observe(self, known: Known, *, always: bool, whole: bool = False) -> None:
        """Observe for a request; what is missed is told to `on_missed`. Raises StaleObservation and MirrorError."""
        try:
            _, entry = await self._look(known, always=always, whole=whole)
        except StaleObservation as error:
            if known.stale is None:
                log.warning("%s: the page of %s is not believed: %s", self.name, known.project, error)
            known.stale = str(error)
            raise
        known.stale = None
        if self.on_missed and entry and (entry.missed or entry.gone):
            missing = await known.work(History.missing)
            addressed = [msgspec.structs.replace(each, file=known.addressed(each.file)) for each in missing]
            self.on_missed(known.project, addressed, known.status)

    async def _look(
        self, known: Known, *, always: bool, whole: bool = False, believed: bool = False
    ) -> tuple[int, Entry | None]:
        """Ask the registry for the page and append what changed; with `always` also that nothing did.

        `whole`: the page itself is needed, also if it is still the same. `believed`: a loss is.

        Returns the instant (microseconds) that the answer shows, and what was appended, None where nothing was. Raises
        StaleObservation and MirrorError.
        """
        instant, observation = await self._ask(known, None if always or whole else known.etag)
        try:
            return instant, await self._take(known, instant, observation, always=always, believed=False)
        except Doubtful as error:
            doubt = error
        if await known.doubts.begun() is None:  # it can be over at once: one answer of a proxy must not count
            await anyio.sleep(SECOND_LOOK)
            instant, observation = await self._ask(known)
            try:
                return instant, await self._take(known, instant, observation, always=always, believed=believed)
            except Doubtful as error:
                doubt = error
        if not believed:
            await known.doubts.settle(instant, doubt)
        return instant, await self._take(known, instant, observation, always=always, believed=True)

    async def _ask(self, known: Known, etag: str | None = None) -> tuple[int, Observation | None]:
        """Ask for the page; None if it is still the one with that entity tag. Raises MirrorError."""
        started = now()
        found = await self.asking.page(known.project, etag)
        known.asked = started
        return found

    async def _take(
        self, known: Known, instant: int, observation: Observation | None, *, always: bool, believed: bool
    ) -> Entry | None:
        """Append what an observation changed, None for nothing. Raises StaleObservation and StoreError."""
        if observation is None:
            await known.doubts.clear(instant)
            return None
        serials = await self.serials()
        if serials.proved and observation.page and observation.page.serial is not None:
            observation = msgspec.structs.replace(observation, etag=None)  # the list tells what has changed
        before = known.serial_since(serials.since)
        entry = await known.append(observation, serials, always=always, believed=believed)
        await known.doubts.clear(instant)
        if entry and entry.changed and not serials.proved and 0 <= before < (entry.serial or 0):
            await self._proofs.add(Proof(entry.instant, known.project, before, entry.serial or 0))
        return entry

    async def _note(self, known: Known) -> None:
        """Note that a project was requested, if there is one."""
        if known.has_page and not known.noted:
            await self.requested.note(known.project)
            known.noted = True

    async def has(self, project: str) -> bool:
        """Whether the last observation found the project (normalised). Asks no upstream."""
        return (await self._known(project)).has_page

    def _goes_with(self, known: Known, look: Look, instant: int, since: int) -> bool:
        """Whether a project that was asked for goes with a list of the instant `since`: else one of the two is old.

        `instant` is what the answer shows. A page that the list does not have any more is gone, or quarantined.
        """
        quarantined = known.status is not None and known.status.status == QUARANTINED
        if not look.listed:
            return instant >= since or not known.has_page or quarantined
        if look.serial is None:
            return instant >= since - LAG
        numbered = known.serial_since(self.asking.since) >= look.serial
        return known.has_page and numbered and (instant >= since or not quarantined)

    async def had(self, project: str, instant: int) -> bool:
        """Whether the log shows that there was such a project at an instant (microseconds). Asks no upstream."""
        known = await self._known(project)
        if not known.covers(instant):
            return False
        return await known.as_of(instant) is not None


def _check_known(known: Known, instant: int) -> None:
    """Raise BadAddress for an instant of which nothing can be known."""
    if known.earliest is not None and instant < known.earliest:
        raise BadAddress(
            f"the registry does not say when the files of {known.project} were uploaded, so nothing is known of them "
            f"before they were first observed: ask for {to_segment(known.earliest)} or later; "
            f"the first date is {date_from(known.earliest)} (00:00 UTC)"
        )
