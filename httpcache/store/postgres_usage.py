"""The usage journal in PostgreSQL, shared by all nodes. See `postgres_schema` for its tables.

Its changes are not tried again, and are not flushed to the disk one by one: what is lost is a few seconds of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from .postgres_connection import Connection
from .postgres_pool import Pool, Row, rows
from .usage import PAGE, PINS, READERS, Reader, Sums, Use, Used, UsedEntry, summed

_NOT_FLUSHED = "SET LOCAL synchronous_commit = off"
_ADD_PINS = """
INSERT INTO usage_pins SELECT pin, hits, bytes, %(now)s, %(now)s
FROM unnest(%(pins)s::text[], %(hits)s::bigint[], %(bytes)s::bigint[]) AS given (pin, hits, bytes)
ON CONFLICT (pin) DO UPDATE SET hits = usage_pins.hits + excluded.hits, bytes = usage_pins.bytes + excluded.bytes,
    last_use = greatest(usage_pins.last_use, excluded.last_use)
"""
_ADD_ENTRIES = """
INSERT INTO usage_entries SELECT key, pin, address, hits, bytes, %(now)s, %(now)s
FROM unnest(%(keys)s::text[], %(pins)s::text[], %(addresses)s::text[], %(hits)s::bigint[], %(bytes)s::bigint[])
    AS given (key, pin, address, hits, bytes)
ON CONFLICT (key) DO UPDATE SET hits = usage_entries.hits + excluded.hits,
    bytes = usage_entries.bytes + excluded.bytes, last_use = greatest(usage_entries.last_use, excluded.last_use)
"""
_ADD_READERS = """
INSERT INTO usage_readers SELECT key, client, hits, %(now)s, %(now)s
FROM unnest(%(keys)s::text[], %(clients)s::text[], %(hits)s::bigint[]) AS given (key, client, hits)
ON CONFLICT (key, client) DO UPDATE SET hits = usage_readers.hits + excluded.hits,
    last_use = greatest(usage_readers.last_use, excluded.last_use)
"""
_DROP_READERS = f"""
DELETE FROM usage_readers USING (
    SELECT key, client, row_number() OVER (PARTITION BY key ORDER BY last_use DESC, client) AS place
    FROM usage_readers WHERE key = ANY(%(keys)s)
) AS ranked
WHERE place > {READERS} AND usage_readers.key = ranked.key AND usage_readers.client = ranked.client
"""  # noqa: S608
_DROP_PINS = f"""
DELETE FROM usage_pins WHERE pin IN (SELECT pin FROM usage_pins ORDER BY last_use DESC OFFSET {PINS})
"""  # noqa: S608
_OF_PIN = """
SELECT key, address, hits, bytes, first_use, last_use FROM usage_entries
WHERE pin = %(pin)s AND (last_use, key) {} (%(last)s, %(key)s) ORDER BY last_use {}, key {} LIMIT %(limit)s
"""
_REMOVE = """
WITH gone AS (DELETE FROM usage_entries WHERE key = ANY(%(keys)s) RETURNING pin, hits, bytes),
     readers AS (DELETE FROM usage_readers WHERE key = ANY(%(keys)s)),
     sums AS (SELECT pin, sum(hits)::bigint AS hits, sum(bytes)::bigint AS bytes FROM gone GROUP BY pin)
UPDATE usage_pins SET hits = usage_pins.hits - sums.hits, bytes = usage_pins.bytes - sums.bytes
FROM sums WHERE usage_pins.pin = sums.pin
"""


class PostgresUsage:
    """See Usage. `pool` has the connections of the index."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._pruned = False

    async def add(self, uses: Sequence[Use], now: float) -> None:
        """See Usage."""
        await self._pool.do(partial(_add, summed(uses), now, prune=not self._pruned), again=False)
        self._pruned = True

    async def pins(self) -> dict[str, Used]:
        """See Usage."""
        return {pin: Used(*used) for pin, *used in await self._pool.rows("SELECT * FROM usage_pins ORDER BY pin")}

    async def pin(self, name: str) -> Used | None:
        """See Usage."""
        for _, *used in await self._pool.rows("SELECT * FROM usage_pins WHERE pin = %(pin)s", {"pin": name}):
            return Used(*used)
        return None

    async def entries(self, keys: Sequence[str]) -> dict[str, Used]:
        """See Usage."""
        query = "SELECT key, hits, bytes, first_use, last_use FROM usage_entries WHERE key = ANY(%(keys)s)"
        return {key: Used(*used) for key, *used in await self._pool.rows(query, {"keys": list(keys)})}

    async def of_pin(
        self, name: str, *, behind: UsedEntry | None = None, limit: int = PAGE, oldest: bool = False
    ) -> list[UsedEntry]:
        """See Usage."""
        last, key = (behind.used.last, behind.key) if behind else (0.0 if oldest else 1e300, "")
        query = _OF_PIN.format(*((">", "ASC", "ASC") if oldest else ("<", "DESC", "DESC")))
        found = await self._pool.rows(query, {"pin": name, "last": last, "key": key, "limit": limit})
        return [UsedEntry(key, address, Used(*used)) for key, address, *used in found]

    async def readers(self, key: str) -> list[Reader]:
        """See Usage."""
        query = """
            SELECT client, hits, first_use, last_use FROM usage_readers WHERE key = %(key)s
            ORDER BY last_use DESC, client
        """
        return [Reader(*row) for row in await self._pool.rows(query, {"key": key})]

    async def remove(self, keys: Sequence[str]) -> None:
        """See Usage."""
        await self._pool.do(partial(_remove, list(keys)), again=False)


async def _add(sums: Sums, now: float, connection: Connection, *, prune: bool) -> None:
    pins = {
        "pins": list(sums.pins),
        "hits": [hits for hits, _ in sums.pins.values()],
        "bytes": [size for _, size in sums.pins.values()],
    }
    entries = {
        "keys": list(sums.entries),
        "pins": [subject.pin for subject, _, _ in sums.entries.values()],
        "addresses": [subject.address for subject, _, _ in sums.entries.values()],
        "hits": [hits for _, hits, _ in sums.entries.values()],
        "bytes": [size for _, _, size in sums.entries.values()],
    }
    readers = {
        "keys": [key for key, _ in sums.readers],
        "clients": [client for _, client in sums.readers],
        "hits": list(sums.readers.values()),
    }
    async with connection.transaction():
        await connection.execute(_NOT_FLUSHED)
        if prune:
            await connection.execute(_DROP_PINS)
        await connection.execute(_ADD_PINS, {**pins, "now": now})
        await connection.execute(_ADD_ENTRIES, {**entries, "now": now})
        await connection.execute(_ADD_READERS, {**readers, "now": now})
        await connection.execute(_DROP_READERS, {"keys": entries["keys"]})


async def _remove(keys: Sequence[str], connection: Connection) -> list[Row]:
    async with connection.transaction():
        await connection.execute(_REMOVE, {"keys": keys})
        return await rows(connection, "DELETE FROM usage_pins WHERE hits <= 0 RETURNING pin")
