"""Observes one project of a registry: fetches its page, looks again at a loss, and appends to its log what changed."""

from __future__ import annotations

import logging

import anyio
import msgspec

from pypi_adapter.history.doubts import Doubts
from pypi_adapter.history.history import Doubtful, Entry, History, Observation, Serials, StaleObservation
from pypi_adapter.history.project_log import ProjectLog
from pypi_adapter.history.serials import Proof, Proofs
from pypi_adapter.instants import now
from pypi_adapter.simple.model import File, Identity, identity

from .client import RegistryClient

log = logging.getLogger("httpcache")

RECHECK_SECONDS = 1.0  # seconds before a page that shows a loss is fetched once more
_ADDRESS = 400  # bytes of memory that a newer address of a file takes
_SELF = 4000  # bytes of memory that everything else takes


class ProjectObserver:
    """Observes the project of a log. `doubts` are its losses that do not count yet.

    `lock` is to be held while the registry is asked (single-flight). `asked` is when it was last asked (microseconds),
    whether anything had changed or not. `stale` is why the registry's newest page was not accepted, None if it was.
    """

    def __init__(self, project_log: ProjectLog, doubts: Doubts, client: RegistryClient, proofs: Proofs) -> None:
        self.log = project_log
        self.lock = anyio.Lock()
        self.asked = 0
        self.stale: str | None = None
        self._doubts = doubts
        self._client = client
        self._proofs = proofs
        self._addresses: dict[Identity, str] = {}  # newer ones than those in the log, as last seen

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes, with the log."""
        return _SELF + self.log.size + len(self._addresses) * _ADDRESS

    def addressed(self, file: File) -> File:
        """Return a file with the newest address seen: a registry may sign its links anew for each request."""
        url = self._addresses.get(identity(file))
        return msgspec.structs.replace(file, url=url) if url else file

    async def observe(self, *, always: bool, whole: bool = False) -> Entry | None:
        """Observe the project for a request, and note whether the page was accepted. See `fetch`."""
        try:
            _, entry = await self.fetch(always=always, whole=whole)
        except StaleObservation as error:
            if self.stale is None:
                log.warning("%s: the page of %s was not accepted: %s", self.log.registry, self.log.project, error)
            self.stale = str(error)
            raise
        self.stale = None
        return entry

    async def fetch(self, *, always: bool, whole: bool = False, believed: bool = False) -> tuple[int, Entry | None]:
        """Fetch the page and append what changed, or with `always` that nothing did.

        `whole`: the page itself is needed even if it has not changed. `believed`: a loss counts at once.

        Returns the instant (microseconds) that the answer shows, and what was appended, None if nothing was. Raises
        StaleObservation and MirrorError.
        """
        instant, observation = await self._ask(None if always or whole else self.log.etag)
        try:
            return instant, await self._take(instant, observation, always=always, believed=False)
        except Doubtful as error:
            doubt = error
        if await self._doubts.begun() is None:  # a single bad answer of a proxy must not begin one
            await anyio.sleep(RECHECK_SECONDS)
            instant, observation = await self._ask()
            try:
                return instant, await self._take(instant, observation, always=always, believed=believed)
            except Doubtful as error:
                doubt = error
        if not believed:
            await self._doubts.settle(instant, doubt)
        return instant, await self._take(instant, observation, always=always, believed=True)

    async def _ask(self, etag: str | None = None) -> tuple[int, Observation | None]:
        """Fetch the page; None if it still has that entity tag. Raises MirrorError."""
        started = now()
        found = await self._client.page(self.log.project, etag)
        self.asked = started
        return found

    async def _take(
        self, instant: int, observation: Observation | None, *, always: bool, believed: bool
    ) -> Entry | None:
        """Append what an observation changed and return it, None if nothing. Raises StaleObservation and StoreError."""
        if observation is None:
            await self._doubts.clear(instant)
            return None
        serials = await self._proofs.known(self._client.since)
        if serials.proved and observation.page and observation.page.serial is not None:
            observation = msgspec.structs.replace(observation, etag=None)  # the list says what has changed
        before = self.log.serial_since(serials.since)
        entry = await self._append(observation, serials, always=always, believed=believed)
        await self._doubts.clear(instant)
        if entry and entry.changed and not serials.proved and 0 <= before < (entry.serial or 0):
            await self._proofs.append(Proof(entry.instant, self.log.project, before, entry.serial or 0))
        return entry

    async def _append(
        self, observation: Observation, serials: Serials, *, always: bool, believed: bool
    ) -> Entry | None:
        """Append what an observation changed, if it did, or there is a newer serial; and keep the newer addresses."""
        page = observation.page

        def make(history: History) -> Entry | None:
            entry = history.observe(observation, serials, believed=believed)
            if page:
                self._addresses |= history.addresses(page)
            newer = entry.serial is not None and entry.serial > history.serial_since(serials.since)
            return entry if always or newer or entry.changed else None

        return await self.log.append(observation.instant, make, len(page.files) if page else 0)
