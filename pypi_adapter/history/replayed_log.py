"""A project's log as it is held in memory: replayed into a history, into a snapshot, or into both.

A snapshot from the snapshot cache stands for the log up to its last entry, so only what comes after is read. The whole
log is read only when the history is needed, and replayed into it. The history takes more memory than the snapshot, and
is dropped when one has been taken of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

from httpcache.store.log import TypedLog
from pypi_adapter.offload import in_parser_thread, off_loop
from pypi_adapter.simple.model import File

from .cached_snapshot import CachedSnapshot
from .history import Entry, History, StaleObservation
from .snapshot import Snapshot, take_snapshot

_FILE = 2000  # bytes of memory that a file in a history takes
_CHANGE = 400  # bytes of memory that each further change of a file takes


class ReplayedLog:
    """The entries of a log that have been read. Its methods must not run at the same time: the caller holds a lock.

    `link` gives a file its address on the mirror. `head` has all entries read so far. `snapshot` is one of them, None
    if it has to be taken.
    """

    def __init__(self, log: TypedLog[Entry], link: Callable[[File], File], cached: CachedSnapshot) -> None:
        self.head: History | Snapshot = History()
        self.snapshot: Snapshot | None = None
        self._log = log
        self._link = link
        self._cached = cached
        self._history: History | None = self.head  # not both are None, and `head` is one of the two
        self._length = 0
        self._last = b""  # the sha256 of the last entry

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        snapshot, history = self.snapshot, self._history
        held = snapshot.size if snapshot else 0
        if history:
            held += history.size * _FILE + (history.changes - history.size) * _CHANGE
        return held

    async def read_on(self) -> None:
        """Read what has been appended since. Raises StoreError."""
        values = await self._log.raw.read(self._length) if self._cached.is_looked_up else await self._begin()
        if values:
            await self._take_in(await self._decoded(values), values[-1])

    async def append(self, entry: Entry, value: bytes) -> bool:
        """Append an entry, which is encoded in `value`; return False if another process has appended one before.

        So what was decided from the entries read so far still holds if this returns True. Raises StoreError.
        """
        if not await self._log.raw.append(self._length, value):
            return False
        await self._take_in([entry], value)
        return True

    async def history(self) -> History:
        """Return the history; read it from the log again if only the snapshot is in memory. Raises StoreError."""
        if self._history is not None:
            return self._history
        values, history = await self._log.raw.read(), History()
        await self._grow(history, await self._decoded(values))
        snapshot = self.snapshot if len(values) == self._length else None
        self._hold(history, snapshot, len(values), sha256(values[-1]).digest() if values else b"")
        return history

    async def take_snapshot(self) -> Snapshot:
        """Take a new snapshot of the history, drop the history, and return the snapshot. Raises StoreError."""
        history = await self.history()
        snapshot = await off_loop(lambda: take_snapshot(history, self._link), history.size)
        self._hold(None, snapshot, self._length, self._last)
        self._cached.replace(snapshot, self._length, self._last, history.size)
        return snapshot

    async def _begin(self) -> list[bytes]:
        """Begin with the cached snapshot, if there is one, and return the values that come next."""
        found = await self._cached.look_up(self._log.raw)
        if found is None:
            return await self._log.raw.read(self._length)
        stored, values = found
        self._hold(None, stored.snapshot, stored.length, stored.last)
        return values

    async def _take_in(self, entries: Sequence[Entry], last: bytes) -> None:
        """Add the entries that come next in the log; `last` is the last one, encoded."""
        history, snapshot = self._history, self.snapshot
        for entry in entries:
            snapshot = snapshot and snapshot.followed_by(entry)
        if history is None and snapshot is None:
            await self.history()
            return
        if history is not None:
            await self._grow(history, entries)
        self._hold(history, snapshot, self._length + len(entries), sha256(last).digest())
        if snapshot:
            self._cached.follow(snapshot, self._length, self._last)

    def _hold(self, history: History | None, snapshot: Snapshot | None, length: int, last: bytes) -> None:
        self._history, self.snapshot, self._length, self._last = history, snapshot, length, last
        self.head = snapshot or history or self.head

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
