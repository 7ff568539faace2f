"""Reads the SQLite index: single values without waiting, and pages of entries and records.

A point read of SQLite takes microseconds if its pages are in memory; handing it to a thread takes a hundred.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from httpcache.errors import StoreError

from .base import Listed, PinTotals, Place, Sized
from .leaves import PLACE, Leaf
from .seal import unsealed

_END = chr(0x10FFFF)  # sorts after all text that begins with the same
_RECORDS = """
SELECT address, key, value FROM records JOIN entries USING (key)
WHERE pin = ? AND (address, key) > (?, ?) AND address >= ? AND address <= ? ORDER BY address, key LIMIT ?
"""
_LEAF = "SELECT number, is_removal, place, nonce, commitment FROM leaves"
_LARGER = 2**63 - 1  # than any body
_LARGEST = """
SELECT size, key, value FROM records JOIN entries USING (key)
WHERE pin = ? AND (size, key) < (?, ?) ORDER BY size DESC, key DESC LIMIT ?
"""
IS_UNUSED = "NOT EXISTS (SELECT 1 FROM records WHERE records.digest = bodies.digest)"
_SHARED = """
WITH several AS (SELECT digest FROM records WHERE digest > '' GROUP BY digest HAVING count(*) > 1),
     of_pin AS MATERIALIZED (SELECT DISTINCT digest, pin, size FROM several CROSS JOIN records USING (digest)),
     shared AS (SELECT digest FROM of_pin GROUP BY digest HAVING count(*) > 1)
SELECT pin, sum(size) FROM of_pin WHERE digest IN shared GROUP BY pin
"""


class Reader:
    """A read-only connection to the database of a SqliteIndex. Every method raises sqlite3.Error, StoreError.

    `wait` is how many seconds to wait for a lock.
    """

    def __init__(self, database: Path, wait: float = 0.0) -> None:
        self._wait = wait
        self._database = database
        self._connection: sqlite3.Connection | None = None
        self._opened = 0

    def value(self, key: str) -> bytes | None:
        """Return the value of a key, or None if it has none."""
        for (value,) in self.select("SELECT value FROM entries WHERE key = ?", (key,)):
            return unsealed(key, value)
        return None

    def body(self, digest: str) -> bytes | None:
        """Return a small body, or None."""
        for (body,) in self.select("SELECT body FROM bodies WHERE digest = ?", (digest,)):
            return bytes(body)
        return None

    def rows(self, prefix: str, after: str, limit: int) -> list[tuple[str, Any]]:
        """Return up to `limit` entries under a prefix behind `after`, with the checksum still before each value."""
        return self.select(
            "SELECT key, value FROM entries WHERE key > ? AND key >= ? AND key < ? ORDER BY key LIMIT ?",
            (after, prefix, prefix + _END, limit),
        )

    def page(self, prefix: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        """See Index."""
        return [(key, unsealed(key, value)) for key, value in self.rows(prefix, after, limit)]

    def pins(self) -> list[PinTotals]:
        """See Index."""
        return [PinTotals(*row) for row in self.select("SELECT pin, entries, bytes FROM pins ORDER BY pin")]

    def totals(self, pin: str) -> PinTotals:
        """See Index."""
        for entries, size in self.select("SELECT entries, bytes FROM pins WHERE pin = ?", (pin,)):
            return PinTotals(pin, entries, size)
        return PinTotals(pin, 0, 0)

    def records(self, pin: str, address: str | None, after: Place | None, limit: int) -> list[Listed]:
        """See Index."""
        lowest, highest = ("", _END) if address is None else (address, address)
        found = self.select(_RECORDS, (pin, *(after or Place("", "")), lowest, highest, limit))
        return [Listed(Place(address, key), unsealed(key, value)) for address, key, value in found]

    def largest(self, pin: str, after: tuple[int, str] | None, limit: int) -> list[Sized]:
        """See Index."""
        found = self.select(_LARGEST, (pin, *(after or (_LARGER, "")), limit))
        return [Sized(size, key, unsealed(key, value)) for size, key, value in found]

    def unused(self, digests: Iterable[str]) -> set[str]:
        """See Index."""
        statement = "SELECT 1 FROM records WHERE digest = ? LIMIT 1"
        return {digest for digest in digests if not self.select(statement, (digest,))}

    def shared(self) -> dict[str, int]:
        """See Index."""
        return dict(self.select(_SHARED))

    def unused_bodies(self) -> dict[str, int]:
        """See Index."""
        return dict(self.select(f"SELECT digest, length(body) FROM bodies WHERE {IS_UNUSED}"))  # noqa: S608

    def leaf_count(self) -> int:
        """See Index."""
        [(last,)] = self.select("SELECT coalesce(max(number), -1) FROM leaves") if self._has_leaves() else [(-1,)]
        return int(last) + 1

    def leaves(self, start: int, limit: int) -> list[Leaf]:
        """See Index."""
        return self._leaves("number >= ? ORDER BY number", (start,), limit)

    def leaves_by_place(self, prefix: bytes, after: Leaf | None, limit: int) -> list[Leaf]:
        """See Index."""
        last = prefix + b"\xff" * (PLACE - len(prefix))
        behind = (after.place, after.number) if after else (prefix, -1)
        return self._leaves("(place, number) > (?, ?) AND place <= ? ORDER BY place, number", (*behind, last), limit)

    def _leaves(self, which: str, arguments: Sequence[bytes | int], limit: int) -> list[Leaf]:
        if not self._has_leaves():
            return []
        found = self.select(f"{_LEAF} WHERE {which} LIMIT ?", (*arguments, limit))
        return [Leaf(number, bool(removal), *rest) for number, removal, *rest in found]

    def _has_leaves(self) -> bool:
        """Whether the Merkle log was begun: not in a folder that an earlier version wrote and that is read-only."""
        return bool(self.select("SELECT 1 FROM sqlite_schema WHERE name = 'leaves'"))

    def integrity(self) -> list[str]:
        """Return what SQLite finds wrong with the database."""
        return [row[0] for row in self.select("PRAGMA integrity_check") if row[0] != "ok"]

    def state(self) -> tuple[int, int]:
        """Return a value that differs after every change of the index, by any process.

        The value is only valid in this process: SQLite counts the changes that this connection has seen.
        """
        [row] = self.select("PRAGMA data_version")
        return self._opened, row[0]

    def select(self, statement: str, arguments: Sequence[str | bytes | int] = ()) -> list[Any]:
        """Return the rows of a query."""
        if self._connection is None:
            self._opened += 1  # a new connection starts counting again
            self._connection = sqlite3.connect(
                uri(self._database), uri=True, timeout=self._wait, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA mmap_size = 0")
        try:
            return self._connection.execute(statement, arguments).fetchall()
        except sqlite3.Error:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next use opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def uri(database: Path) -> str:
    """Return the URI with which SQLite opens a database read-only.

    SQLite needs a `-shm` file beside the database and creates it. If it cannot, the folder is read-only and nobody else
    can write either, so the database is opened as immutable. Raises StoreError if entries would then be missed.
    """
    beside = {kind: database.with_name(f"{database.name}-{kind}") for kind in ("shm", "wal")}
    name = f"file:{quote(str(database))}?mode=ro"
    if beside["shm"].exists() or os.access(database.parent, os.W_OK):
        return name
    if beside["wal"].exists() and beside["wal"].stat().st_size:
        wal, shm = f"index/{beside['wal'].name}", beside["shm"].name
        raise StoreError(
            f"the last entries of the index are in {wal}, and a read-only folder needs {shm} too to read them: run "
            "`httpcache verify` once on a writable copy"
        )
    return f"{name}&immutable=1"
