"""The snapshot of one log in the snapshot cache: whether the log continues it, and when a newer one is written."""

from __future__ import annotations

from hashlib import sha256

from httpcache.store.log import Log

from .snapshot import Snapshot
from .snapshot_cache import SnapshotCache, StoredSnapshot

LONG = 8  # entries of a log from which on reading a snapshot is faster than reading them
MANY = 200  # files of a project from which on its snapshot is stored, however short its log


class CachedSnapshot:
    """`log` is the name of the log, `base` the prefix of the addresses of its files. Without `cache` there is none."""

    def __init__(self, cache: SnapshotCache | None, log: str, base: str) -> None:
        self._cache = cache
        self._log = log
        self._base = base
        self._length: int | None = None  # entries that it includes, 0 if there is none; None: not looked up yet

    @property
    def is_looked_up(self) -> bool:
        """Whether it is known by now whether there is one."""
        return self._length is not None

    async def look_up(self, log: Log) -> tuple[StoredSnapshot, list[bytes]] | None:
        """Return it, and the values that the log has after it; None if there is none that the log continues.

        The log is read from the last entry on that the snapshot includes: if that is another one, so is the log. Raises
        StoreError.
        """
        self._length = 0
        stored = await self._cache.get(self._log, self._base) if self._cache else None
        values = await log.read(stored.length - 1) if stored else []
        if stored is None or not values or sha256(values[0]).digest() != stored.last:
            return None
        self._length = stored.length
        return stored, values[1:]

    def replace(self, snapshot: Snapshot, length: int, last: bytes, files: int) -> None:
        """Store a new snapshot of a project with so many files, if that pays.

        It includes `length` entries, the last of which has the sha256 `last`.
        """
        if length > LONG or files > MANY:
            self._put(snapshot, length, last)

    def follow(self, snapshot: Snapshot, length: int, last: bytes) -> None:
        """Store the same snapshot with more entries, none of which changed anything, if they have become many."""
        if length - (self._length or 0) > LONG:
            self._put(snapshot, length, last)

    def _put(self, snapshot: Snapshot, length: int, last: bytes) -> None:
        if self._cache:
            self._cache.put(StoredSnapshot(self._log, self._base, length, last, snapshot))
            self._length = length
