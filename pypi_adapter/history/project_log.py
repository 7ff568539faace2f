"""What is known of a project: the part of its log that has been read, and how the log grows.

Dates are answered from a snapshot of the history, and files are found in it. It is taken from the history or comes
from the snapshot cache, in which case the log is read from the last entry that the snapshot includes. The history
itself is read only when it is needed: to observe, for live pages, and to take a new snapshot after a change. It takes
more memory than the snapshot, and is dropped when one has been taken of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import TypeVar

import anyio
import msgspec

from httpcache.store.base import Store
from httpcache.store.log import TypedLog
from pypi_adapter.addresses import linked
from pypi_adapter.instants import now
from pypi_adapter.offload import in_parser_thread, off_loop
from pypi_adapter.simple.model import File, Identity, ProjectStatus, identity

from .doubts import Doubts
from .history import Entry, History, Observation, Serials, StaleObservation, decode_entry, encode_entry
from .live_page import LivePage
from .snapshot import Snapshot, SnapshotPage, take_snapshot
from .snapshot_cache import SnapshotCache, StoredSnapshot

LONG = 8  # entries of a log from which on reading a snapshot is faster than reading them
MANY = 200  # files of a project from which on its snapshot is stored, however short its log
_FILE = 2000  # bytes of memory that a file in a history takes
_CHANGE = 400  # bytes of memory that each further change of a file takes
_ADDRESS = 400  # bytes of memory that a newer address of a file takes
_SELF = 4000  # bytes of memory that everything else takes

T = TypeVar("T")


def entries_log(store: Store, registry: str, project: str) -> TypedLog[Entry]:
    """Return the log of the observations of a project (normalised)."""
    return TypedLog(store, f"{registry}/{project}", project, encode_entry, decode_entry)


class ProjectLog:
    """What is known of a project (normalised) of a registry.

    `base` is the prefix of the addresses of its files. Without `snapshots` only the log is read. `observing` is held
    while the registry is asked (single-flight). `asked` is when it was last asked, whether anything had changed or
    not. `noted`: the project is among the requested ones. `stale` is why the registry's newest page was not accepted,
    None if it was. `doubts` are the losses that do not count until `pause` microseconds later.
    """

    def __init__(
        self,
        store: Store,
        registry: str,
        project: str,
        base: str = "",
        snapshots: SnapshotCache | None = None,
        pause: int = 0,
    ) -> None:
        self.project = project
        self.observing = anyio.Lock()
        self.asked = 0
        self.noted = False
        self.stale: str | None = None
        self.doubts = Doubts(store, f"{registry}/{project}", pause)
        self._name = f"{registry}/{project}"
        self._log = entries_log(store, registry, project)
        self._base = base
        self._snapshots = snapshots
        self._working = anyio.Lock()  # a history must not grow while a thread reads it
        # At least one of these has all entries read so far; `_head` is one that does.
        self._head: History | Snapshot = History()
        self._history: History | None = self._head
        self._snapshot: Snapshot | None = None
        self._length = 0
        self._last = b""  # the sha256 of the last entry
        self._addresses: dict[Identity, str] = {}  # newer ones than those in the log, as last seen
        self._stored_length: int | None = None  # entries in the stored snapshot; None: not checked yet

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        snapshot, history = self._snapshot, self._history
        held = snapshot.size if snapshot else 0
        if history:
            held += history.size * _FILE + (history.changes - history.size) * _CHANGE
        return _SELF + held + len(self._addresses) * _ADDRESS

    @property
    def instant(self) -> int:
        """When the last observation in the log was made."""
        return self._head.instant or 0

    def serial_since(self, instant: int) -> int:
        """Return the newest serial seen after an instant, -1 if there is none."""
        return self._head.serial_since(instant)

    @property
    def etag(self) -> str | None:
        """The entity tag of the page as last observed."""
        return self._head.etag

    @property
    def status(self) -> ProjectStatus | None:
        return self._head.status

    @property
    def earliest(self) -> int | None:
        return self._head.earliest

    def owned_by(self, instant: int) -> bool:
        """Whether the project existed at an instant or at any time before."""
        return self._head.first is not None and self._head.first <= instant

    @property
    def has_page(self) -> bool:
        """Whether the last observation found the project."""
        return self._head.exists

    def covers(self, instant: int) -> bool:
        return self._head.instant is not None and self._head.instant >= instant

    async def as_of(self, instant: int) -> SnapshotPage | None:
        """Return the project at an instant, None if it did not exist. Raises NotObserved and StoreError."""
        return (await self._taken()).at(instant)

    async def listing(self, content: str, filename: str) -> File | None:
        """Return the newest listing of a file by its token and name, with the newest address seen: a registry may
        sign its links anew for each request. None if no observation showed it. Raises StoreError.
        """
        file = (await self._taken()).listing(content, filename)
        return file and self.addressed(file)

    async def _taken(self) -> Snapshot:
        """Return a snapshot of all entries read so far."""
        if self._snapshot:
            return self._snapshot
        async with self._working:
            return self._snapshot or await self._take_snapshot()

    async def live(self, days: int) -> LivePage | None:
        """Return the project now, without files younger than `days` days; None if it does not exist.

        Raises StoreError.
        """
        page = await self.work(lambda history: history.cooled(now(), days) if days else history.latest())
        return LivePage(page, self._link) if page else None

    async def work(self, what: Callable[[History], T]) -> T:
        """Run something on the history, off the event loop if the history is long. Raises StoreError."""
        async with self._working:
            history = await self._recalled()
            return await off_loop(lambda: what(history), history.size)

    async def read_log(self) -> None:
        """Read what other processes have appended. Raises StoreError."""
        async with self._working:
            values = await self._restored() if self._stored_length is None else None
            if values is None:
                values = await self._log.raw.read(self._length)
            if values:
                await self._take_in(await self._decoded(values), values[-1])

    async def append(
        self, observation: Observation, serials: Serials, *, always: bool, believed: bool = False
    ) -> Entry | None:
        """Append what an observation changed, or with `always` that nothing did. Raises StaleObservation.
        Returns what was appended, None where nothing was. `serials` and `believed` are those of `History.observe`.
        """
        size = len(observation.page.files) if observation.page else 0

        async def make() -> tuple[Entry, bytes] | None:
            history = await self._recalled()

            def work() -> tuple[Entry, bytes] | None:
                found = history.observe(observation, serials, believed=believed)
                if observation.page:
                    self._addresses |= history.addresses(observation.page)
                newer = found.serial is not None and found.serial > history.serial_since(serials.since)
                return (found, encode_entry(found)) if always or newer or found.changed else None

            return await off_loop(work, size + history.size)

        return await self._extend(observation.instant, make)

    def addressed(self, file: File) -> File:
        """Return a file with the newest address seen."""
        url = self._addresses.get(identity(file))
        return msgspec.structs.replace(file, url=url) if url else file

    async def confirm(self, instant: int) -> None:
        """Append that nothing had changed up to an instant."""

        async def make() -> tuple[Entry, bytes]:
            entry = Entry(instant, etag=self._head.etag)
            return entry, encode_entry(entry)

        await self._extend(instant, make)

    async def _extend(self, instant: int, make: Callable[[], Awaitable[tuple[Entry, bytes] | None]]) -> Entry | None:
        """Append the entry that `make` returns; if another process appends one first, read it and call `make` again."""
        while not self.covers(instant):  # else another process has made a later one
            async with self._working:  # the entry belongs to this length: others may read on in the meantime
                made = await make()
                if made is None:
                    return None
                entry, value = made
                if await self._log.raw.append(self._length, value):
                    await self._take_in([entry], value)
                    return entry
            await self.read_log()
        return None

    # The methods below are called while `_working` is held.

    async def _restored(self) -> list[bytes] | None:
        """Start from the stored snapshot and return what was appended since, None if there is no such snapshot.
        The log is read from the last entry on that the snapshot was made of: if that is another one, so is the log.
        """
        self._stored_length = 0
        stored = await self._snapshots.get(self._name, self._base) if self._snapshots else None
        values = await self._log.raw.read(stored.length - 1) if stored else []
        if stored is None or not values or sha256(values[0]).digest() != stored.last:
            return None
        self._stored_length = stored.length
        self._hold(None, stored.snapshot, stored.length, stored.last)
        return values[1:]

    async def _take_in(self, entries: Sequence[Entry], last: bytes) -> None:
        """Add the entries that come next in the log; `last` is the last one, encoded."""
        history, snapshot = self._history, self._snapshot
        for entry in entries:
            snapshot = snapshot and snapshot.followed_by(entry)
        if history is None and snapshot is None:
            await self._recalled()
            return
        if history is not None:
            await self._grow(history, entries)
        self._hold(history, snapshot, self._length + len(entries), sha256(last).digest())
        if snapshot and self._length - (self._stored_length or 0) > LONG:
            self._store_snapshot(snapshot)

    async def _recalled(self) -> History:
        """Return the history; read it from the log again if only the snapshot is in memory."""
        if self._history is not None:
            return self._history
        values, history = await self._log.raw.read(), History()
        await self._grow(history, await self._decoded(values))
        snapshot = self._snapshot if len(values) == self._length else None
        self._hold(history, snapshot, len(values), sha256(values[-1]).digest() if values else b"")
        return history

    async def _take_snapshot(self) -> Snapshot:
        """Take a new snapshot of the history and return it."""
        history = await self._recalled()
        snapshot = await off_loop(lambda: take_snapshot(history, self._link), history.size)
        self._hold(None, snapshot, self._length, self._last)
        if self._length > LONG or history.size > MANY:
            self._store_snapshot(snapshot)
        return snapshot

    def _hold(self, history: History | None, snapshot: Snapshot | None, length: int, last: bytes) -> None:
        self._history, self._snapshot, self._length, self._last = history, snapshot, length, last
        self._head = snapshot or history or self._head

    def _link(self, file: File) -> File:
        return linked(file, self._base, self.project)

    def _store_snapshot(self, snapshot: Snapshot) -> None:
        if self._snapshots:
            self._snapshots.put(StoredSnapshot(self._name, self._base, self._length, self._last, snapshot))
            self._stored_length = self._length

    async def _decoded(self, values: Sequence[bytes]) -> list[Entry]:
        return await in_parser_thread(lambda: [self._log.decode(value) for value in values], sum(map(len, values)))

    async def _grow(self, history: History, entries: Sequence[Entry]) -> None:
        def work() -> None:
            for entry in entries:
                history.extend(entry)

        try:
            await off_loop(work, sum(len(entry.shown) for entry in entries))
        except (StaleObservation, KeyError) as error:
            raise self._log.damaged() from error
