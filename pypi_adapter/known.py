"""What is known of a project: its history, as far as it has been read from the log; and how the log grows."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TypeVar

import anyio

from httpcache.errors import StoreError
from httpcache.store import Log, Store

from .history import Entry, History, Observation, StaleObservation, decode_entry, encode_entry
from .page import ProjectStatus
from .parsing import beside

T = TypeVar("T")


class Known:
    """What is known of a project: its history, as far as it has been read from the log.

    `observing` is held while the registry is asked, so that it is asked once. `asked`: when it was last asked, whether
    anything had changed or not. `noted`: the name is in the list of those that were requested.
    """

    def __init__(self, project: str, log: Log) -> None:
        self.project = project
        self.observing = anyio.Lock()
        self.asked = 0
        self.noted = False
        self._log = log
        self._length = 0
        self._history = History()
        self._working = anyio.Lock()  # a history may not grow while a thread reads it

    @property
    def instant(self) -> int:
        """When the last observation in the log was made."""
        return self._history.instant or 0

    @property
    def serial(self) -> int:
        """The newest serial seen, -1 for none."""
        return -1 if self._history.serial is None else self._history.serial

    @property
    def etag(self) -> str | None:
        """The entity tag of the page as last observed."""
        return self._history.etag

    @property
    def status(self) -> ProjectStatus | None:
        return self._history.status

    @property
    def earliest(self) -> int | None:
        return self._history.earliest

    def owned_by(self, instant: int) -> bool:
        """Whether there was such a project at an instant or ever before."""
        return self._history.first is not None and self._history.first <= instant

    @property
    def has_page(self) -> bool:
        """Whether the last observation found the project."""
        return self._history.exists

    def covers(self, instant: int) -> bool:
        return self._history.instant is not None and self._history.instant >= instant

    async def work(self, what: Callable[[History], T]) -> T:
        """Run what may take long for a page of megabytes beside the event loop."""
        async with self._working:
            return await beside(lambda: what(self._history), self._history.size)

    async def read_log(self) -> None:
        """Take in what other processes have appended. Raises StoreError."""
        async with self._working:
            for value in await self._log.read(self._length):
                self._take_in(_decoded(self.project, value))

    def _take_in(self, entry: Entry) -> None:
        try:
            self._history.extend(entry)
        except (StaleObservation, KeyError) as error:
            raise StoreError(f"the log of {self.project} is damaged: restore the store from a copy") from error
        self._length += 1

    async def append(self, observation: Observation, *, always: bool) -> Entry | None:
        """Append what an observation changed; with `always` also that nothing did. Raises StaleObservation.

        Returns what was appended, None where nothing was.
        """

        def entry(history: History) -> Entry | None:
            found = history.observe(observation)
            newer = observation.page is not None and (observation.page.serial or 0) > (history.serial or 0)
            return found if always or newer or found.changed else None

        size = len(observation.page.files) if observation.page else 0
        return await self._extend(observation.instant, entry, size)

    async def confirm(self, instant: int) -> None:
        """Append that nothing had changed by an instant."""
        await self._extend(instant, lambda history: Entry(instant, history.serial, etag=history.etag), 0)

    async def _extend(self, instant: int, make: Callable[[History], Entry | None], files: int) -> Entry | None:
        """Append what `make` makes of the history as it is by then; return what was appended.

        `files` is how many it has to do with.
        """

        def encoded() -> tuple[Entry, bytes] | None:
            entry = make(self._history)
            return (entry, encode_entry(entry)) if entry else None

        while not self.covers(instant):  # else another process has made a later one
            async with self._working:  # the entry belongs to this length: others may read on in the meantime
                made = await beside(encoded, files + self._history.size)
                if made is None:
                    return None
                entry, value = made
                if await self._log.append(self._length, value):
                    self._take_in(entry)
                    return entry
            await self.read_log()
        return None


async def read_entries(store: Store, registry: str, project: str) -> list[Entry]:
    """Return the log of a project (normalised). Raises StoreError where it is damaged."""
    return [_decoded(project, value) for value in await Log(store, f"{registry}/{project}").read()]


def _decoded(project: str, value: bytes) -> Entry:
    try:
        return decode_entry(value)
    except (ValueError, zlib.error) as error:
        raise StoreError(f"the log of {project} is damaged: restore the store from a copy") from error
