"""A project's log, for many tasks at once: answers from it, and appends to it.

Dates are answered from a snapshot of the history, and files are found in it. The history itself is used only where it
is needed: to observe, for live pages, and to take a new snapshot after a change.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio

from httpcache.store.log import TypedLog
from httpcache.store.store import Store
from pypi_adapter.addresses import linked
from pypi_adapter.instants import now
from pypi_adapter.offload import off_loop
from pypi_adapter.simple.model import File, ProjectStatus

from .cached_snapshot import CachedSnapshot
from .history import Entry, History, decode_entry, encode_entry
from .live_page import LivePage
from .replayed_log import ReplayedLog
from .snapshot import Snapshot, SnapshotPage
from .snapshot_cache import SnapshotCache

T = TypeVar("T")


def entries_log(store: Store, registry: str, project: str) -> TypedLog[Entry]:
    """Return the log of the observations of a project (normalised)."""
    return TypedLog(store, f"{registry}/{project}", project, encode_entry, decode_entry)


class ProjectLog:
    """What is known of a project (normalised) of a registry, as far as its log has been read.

    `base` is the prefix of the addresses of its files. Without `snapshots` only the log is read.
    """

    def __init__(
        self, store: Store, registry: str, project: str, base: str = "", snapshots: SnapshotCache | None = None
    ) -> None:
        self.registry = registry
        self.project = project
        self._link = partial(linked, base=base, project=project)
        cached = CachedSnapshot(snapshots, f"{registry}/{project}", base)
        self._replayed = ReplayedLog(entries_log(store, registry, project), self._link, cached)
        self._working = anyio.Lock(fast_acquire=True)  # a history must not grow while a thread reads it

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return self._replayed.size

    # --- as last observed

    @property
    def instant(self) -> int:
        """When the last observation in the log was made."""
        return self._replayed.head.instant or 0

    def serial_since(self, instant: int) -> int:
        """Return the newest serial seen after an instant, -1 if there is none."""
        return self._replayed.head.serial_since(instant)

    @property
    def etag(self) -> str | None:
        """The entity tag of the page as last observed."""
        return self._replayed.head.etag

    @property
    def status(self) -> ProjectStatus | None:
        """The project's status as last observed (PEP 792)."""
        return self._replayed.head.status

    @property
    def earliest(self) -> int | None:
        """The first instant of which anything is known, None if the index gives upload times (see `History`)."""
        return self._replayed.head.earliest

    def owned_by(self, instant: int) -> bool:
        """Whether the project existed at an instant or at any time before."""
        first = self._replayed.head.first
        return first is not None and first <= instant

    @property
    def has_page(self) -> bool:
        """Whether the last observation found the project."""
        return self._replayed.head.exists

    def covers(self, instant: int) -> bool:
        """Whether an observation was made at or after an instant, so that it can be answered."""
        last = self._replayed.head.instant
        return last is not None and last >= instant

    # --- pages and files

    async def as_of(self, instant: int) -> SnapshotPage | None:
        """Return the project at an instant, None if it did not exist. Raises NotObserved and StoreError."""
        return (await self._snapshot()).at(instant)

    async def listing(self, content: str, filename: str) -> File | None:
        """Return the newest listing of a file by its token and name, None if no observation showed it.

        Raises StoreError.
        """
        return (await self._snapshot()).listing(content, filename)

    async def _snapshot(self) -> Snapshot:
        """Return a snapshot of all entries read so far."""
        if self._replayed.snapshot:
            return self._replayed.snapshot
        async with self._working:
            return self._replayed.snapshot or await self._replayed.take_snapshot()

    async def live(self, days: int) -> LivePage | None:
        """Return the project now, without files younger than `days` days; None if it does not exist.

        Raises StoreError.
        """
        page = await self.work(lambda history: history.cooled(now(), days) if days else history.latest())
        return LivePage(page, self._link) if page else None

    async def work(self, what: Callable[[History], T]) -> T:
        """Run something on the history, off the event loop if the history is long. Raises StoreError."""
        async with self._working:
            history = await self._replayed.history()
            return await off_loop(lambda: what(history), history.size)

    # --- reading on, and appending

    async def read_log(self) -> None:
        """Read what other processes have appended. Raises StoreError."""
        async with self._working:
            await self._replayed.read_on()

    async def append(self, instant: int, make: Callable[[History], Entry | None], files: int = 0) -> Entry | None:
        """Append the entry of an instant that `make` makes of the history, and return it; None if it makes none.

        If another process appends one first, that is read and `make` called again; None if it is a later one. `make`
        goes through so many `files` besides those of the history. Raises what it raises, and StoreError.
        """

        async def made() -> tuple[Entry, bytes] | None:
            history = await self._replayed.history()

            def work() -> tuple[Entry, bytes] | None:
                entry = make(history)
                return (entry, encode_entry(entry)) if entry else None

            return await off_loop(work, files + history.size)

        return await self._append(instant, made)

    async def confirm(self, instant: int) -> None:
        """Append that nothing had changed up to an instant. Raises StoreError."""

        async def made() -> tuple[Entry, bytes]:
            entry = Entry(instant, etag=self.etag)
            return entry, encode_entry(entry)

        await self._append(instant, made)

    async def _append(self, instant: int, made: Callable[[], Awaitable[tuple[Entry, bytes] | None]]) -> Entry | None:
        """Append the entry that `made` returns, and call it again after an entry of another process."""
        while not self.covers(instant):  # else another process has appended a later one
            async with self._working:  # the entry belongs to this length: others may read on in the meantime
                found = await made()
                if found is None:
                    return None
                entry, value = found
                if await self._replayed.append(entry, value):
                    return entry
            await self.read_log()
        return None
