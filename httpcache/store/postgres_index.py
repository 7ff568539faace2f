"""The index in PostgreSQL, which any number of processes on any number of machines can share."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

from httpcache.errors import Damaged

from . import leaves
from .base import PAGE, Columns, Listed, New, PinTotals, Place, Range, Sized
from .keys import LOGS
from .leaves import PLACE, Leaf
from .postgres_builds import PostgresBuilds
from .postgres_connection import Connection, parameters
from .postgres_errors import not_now
from .postgres_leases import Leases
from .postgres_listener import CHANNEL, Listener
from .postgres_pool import Pool, Row, rows
from .postgres_usage import PostgresUsage
from .seal import sealed, unsealed

ATTEMPTS = 5  # to add a key that another process removes and adds meanwhile
AT_ONCE = 1000  # digests of one statement
_END = chr(0x10FFFF)  # sorts after all text that begins with the same

_IN_PREFIX = """
FROM entries WHERE key > %(after)s AND key >= %(prefix)s AND key < %(end)s ORDER BY key LIMIT %(limit)s
"""
_PAGES = """
SELECT number, found.key, found.value
FROM unnest(%(prefixes)s::text[], %(ends)s::text[], %(afters)s::text[], %(limits)s::integer[])
    WITH ORDINALITY AS given (prefix, "end", after, "limit", number),
LATERAL (
    SELECT key, value FROM entries
    WHERE key > after COLLATE "C" AND key >= prefix COLLATE "C" AND key < "end" COLLATE "C" ORDER BY key LIMIT "limit"
) AS found ORDER BY number, found.key
"""
_TOTALS = """
SELECT pin, sum(entries)::bigint, sum(bytes)::bigint FROM pins
WHERE %(pin)s::text IS NULL OR pin = %(pin)s GROUP BY pin HAVING sum(entries) > 0
"""
_RECORDS = """
SELECT address, key, value FROM records JOIN entries USING (key)
WHERE pin = %(pin)s AND left(address, 400) >= left(%(after)s, 400) AND (address, key) > (%(after)s, %(key)s) {}
ORDER BY left(address, 400), address, key LIMIT %(limit)s
"""
_OF_ADDRESS = "AND left(address, 400) = left(%(address)s, 400) AND address = %(address)s"
_LARGEST = """
SELECT size, key, value FROM records JOIN entries USING (key)
WHERE pin = %(pin)s AND (size, key) < (%(size)s, %(key)s) ORDER BY size DESC, key DESC LIMIT %(limit)s
"""
_LARGER = 2**63 - 1  # than any body
_UNUSED = """
SELECT digest FROM unnest(%(digests)s::text[]) AS given (digest)
WHERE NOT EXISTS (SELECT FROM records WHERE records.digest = given.digest COLLATE "C")
"""
_UNUSED_BODIES = """
FROM bodies WHERE digest = ANY(%(digests)s) AND NOT EXISTS (SELECT FROM records WHERE records.digest = bodies.digest)
"""
_SHARED = """
WITH several AS (SELECT digest FROM records WHERE digest <> '' GROUP BY digest HAVING count(DISTINCT pin) > 1)
SELECT pin, sum(size)::bigint FROM (
    SELECT DISTINCT digest, pin, size FROM records JOIN several USING (digest)
) AS of_pin GROUP BY pin
"""
_ALL_UNUSED = """
SELECT digest, octet_length(body) FROM bodies
WHERE NOT EXISTS (SELECT FROM records WHERE records.digest = bodies.digest)
"""
_LOCK_BODIES = f"SELECT digest {_UNUSED_BODIES} ORDER BY digest FOR UPDATE OF bodies"
_DELETE_BODIES = f"DELETE {_UNUSED_BODIES} RETURNING octet_length(body)"

# One statement is one transaction, and one round trip. Its parts see the tables as they were when it began. So the
# winner is not seen if it was committed after that: then neither part of the UNION has a row.
#
# A body is kept if its record is added here, or if some record has it: then this repairs it if it was damaged. Its row
# is locked in any case, until the record is committed (see `remove_bodies`).
_ADDED = """
WITH added AS (INSERT INTO entries VALUES (%(key)s, %(value)b) ON CONFLICT DO NOTHING RETURNING key)
"""
_RECORDED = """,
recorded AS (
    INSERT INTO records SELECT key, %(pin)s::text, %(address)s::text, %(digest)s::text, %(size)s::bigint FROM added
)
"""
_KEPT = """,
kept AS (
    INSERT INTO bodies SELECT %(digest)s::text, %(body)b::bytea
    WHERE EXISTS (SELECT FROM added) OR EXISTS (SELECT FROM records WHERE digest = %(digest)s)
    ON CONFLICT (digest) DO UPDATE SET body = excluded.body WHERE bodies.body <> excluded.body
)
"""
# The next number comes from one row, which is locked until the change is committed. So numbers have no gaps, and their
# order is that of the commits.
_LEAF = """,
numbered AS (UPDATE leaf_count SET count = count + 1 WHERE EXISTS (SELECT FROM {changed}) RETURNING count),
leaf AS (
    INSERT INTO leaves
    SELECT count - 1, %(is_removal)s::boolean, %(place)b::bytea, %(nonce)b::bytea, %(commitment)b::bytea FROM numbered
)
"""
_LEAVES = "SELECT number, is_removal, place, nonce, commitment FROM leaves WHERE"
_WINNER = """
SELECT true, NULL, CASE WHEN %(token)s::text <> '' THEN pg_notify(%(channel)s, %(token)s)::text END FROM added
UNION ALL SELECT false, value, NULL FROM entries WHERE key = %(key)s AND NOT EXISTS (SELECT FROM added)
"""
_ADD = f"{_ADDED} {_WINNER}"
_ADD_RECORD = f"{_ADDED} {_RECORDED} {_WINNER}"
_ADD_RECORD_AND_BODY = f"{_ADDED} {_RECORDED} {_KEPT} {_WINNER}"
_ADD_TO_LOG = f"{_ADDED} {_LEAF.format(changed='added')} {_WINNER}"
# The same for many entries. Locks are taken in the order of keys, then of digests: two such statements, or one beside
# those above, which lock one key and then one body, do not wait for each other.
_ADD_MANY = """
WITH added AS (
    INSERT INTO entries SELECT * FROM unnest(%(keys)s::text[], %(values)b::bytea[]) AS given (key, value) ORDER BY key
    ON CONFLICT DO NOTHING RETURNING key
), of_records AS (
    SELECT * FROM unnest(
        %(of)s::text[], %(pins)s::text[], %(addresses)s::text[], %(digests)s::text[], %(sizes)s::bigint[]
    ) AS given (key, pin, address, digest, size)
), recorded AS (
    INSERT INTO records SELECT of_records.* FROM of_records JOIN added USING (key) ORDER BY pin
), kept AS (
    INSERT INTO bodies SELECT DISTINCT ON (digest) digest, body
    FROM unnest(%(with)s::text[], %(bodies)b::bytea[]) AS given (key, body) JOIN of_records USING (key)
    WHERE EXISTS (SELECT FROM added WHERE added.key = given.key)
        OR EXISTS (SELECT FROM records WHERE records.digest = of_records.digest COLLATE "C")
    ORDER BY digest
    ON CONFLICT (digest) DO UPDATE SET body = excluded.body WHERE bodies.body <> excluded.body
), of_logs AS (
    SELECT given.*, row_number() OVER (ORDER BY key) AS turn
    FROM unnest(%(logged)s::text[], %(places)b::bytea[], %(nonces)b::bytea[], %(commitments)b::bytea[])
        AS given (key, place, nonce, commitment) JOIN added USING (key)
), numbered AS (
    UPDATE leaf_count SET count = count + (SELECT count(*) FROM of_logs) WHERE EXISTS (SELECT FROM of_logs)
    RETURNING count
), leaf AS (
    INSERT INTO leaves
    SELECT count - (SELECT count(*) FROM of_logs) + turn - 1, false, place, nonce, commitment FROM of_logs, numbered
)
SELECT key, NULL FROM added
UNION ALL SELECT key, value FROM entries WHERE key = ANY(%(keys)s) AND key NOT IN (SELECT key FROM added)
UNION ALL SELECT pg_notify(%(channel)s, %(token)s)::text, NULL FROM (SELECT FROM added LIMIT 1) AS any_added
"""
_REMOVE = """
WITH removed AS (DELETE FROM entries WHERE key = %(key)s RETURNING key),
     with_columns AS (DELETE FROM records USING removed WHERE records.key = removed.key)
     {}
SELECT pg_notify(%(channel)s, %(token)s)::text FROM removed
"""


class PostgresIndex:
    """The Index in a database that `postgres_schema.upgrade` has prepared.

    It is used in the event loop in which it was opened. Every process knows of a change within
    `postgres_listener.BOUND` seconds, as a rule at once; one that has not heard from the database for so long relies on
    nothing in its memory. What reads or adds is tried once more if its connection gets lost: then it finds what it has
    added. Each try ends after `postgres_pool.HANGS` seconds, and those that it may wait for a connection.
    """

    def __init__(self, url: str) -> None:
        """`url`: see `postgres_connection.parameters`. Raises StoreError."""
        given = parameters(url)
        self._listener = Listener(given)
        self._pool = Pool(given, in_doubt=self._listener.changed)
        self._leases = Leases(given)
        self.usage = PostgresUsage(self._pool)
        self.builds = PostgresBuilds(self._pool)

    async def open(self) -> None:
        """Connect to the database. Raises StoreError, also if its tables are missing or of another version."""
        await self._listener.open()
        await self._pool.open()

    async def close(self) -> None:
        """Close all connections."""
        await self._leases.close()
        await self._pool.close()
        await self._listener.close()

    # Reading

    async def get(self, key: str) -> bytes | None:
        """See Index."""
        [value] = await self.get_many([key])
        return value

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """See Index."""
        query = "SELECT key, value FROM entries WHERE key = ANY(%(keys)s)"
        values = dict(map(_unsealed, await self._pool.rows(query, {"keys": list(keys)})))
        return [values.get(key) for key in keys]

    async def page(self, prefix: str, after: str = "", limit: int = PAGE) -> list[tuple[str, bytes]]:
        """See Index."""
        return [_unsealed(row) for row in await self._page("key, value", prefix, after, limit)]

    async def pages(self, ranges: Sequence[Range]) -> list[list[tuple[str, bytes]]]:
        """See Index."""
        arguments = {
            "prefixes": [each.prefix for each in ranges],
            "ends": [each.prefix + _END for each in ranges],
            "afters": [each.after for each in ranges],
            "limits": [each.limit for each in ranges],
        }
        found: list[list[tuple[str, bytes]]] = [[] for _ in ranges]
        for number, key, value in await self._pool.rows(_PAGES, arguments):
            found[number - 1].append((key, unsealed(key, value)))
        return found

    async def keys(self, prefix: str, after: str = "", limit: int = PAGE) -> list[str]:
        """See Index."""
        return [key for (key,) in await self._page("key", prefix, after, limit)]

    async def _page(self, columns: str, prefix: str, after: str, limit: int) -> list[Row]:
        arguments = {"prefix": prefix, "end": prefix + _END, "after": after, "limit": limit}
        return await self._pool.rows(f"SELECT {columns} {_IN_PREFIX}", arguments)

    def generation(self) -> Hashable:
        """See Index. Asks nobody."""
        return self._listener.generation()

    async def pins(self) -> list[PinTotals]:
        """See Index."""
        return [PinTotals(*row) for row in await self._pool.rows(f"{_TOTALS} ORDER BY pin", {"pin": None})]

    async def totals(self, pin: str) -> PinTotals:
        """See Index."""
        for row in await self._pool.rows(_TOTALS, {"pin": pin}):
            return PinTotals(*row)
        return PinTotals(pin, 0, 0)

    async def records(
        self, pin: str, *, address: str | None = None, after: Place | None = None, limit: int = PAGE
    ) -> list[Listed]:
        """See Index."""
        behind = after or Place("", "")
        arguments = {"pin": pin, "address": address, "after": behind.address, "key": behind.key, "limit": limit}
        query = _RECORDS.format("" if address is None else _OF_ADDRESS)
        return [
            Listed(Place(address, key), unsealed(key, value))
            for address, key, value in await self._pool.rows(query, arguments)
        ]

    async def largest(self, pin: str, *, after: tuple[int, str] | None = None, limit: int = PAGE) -> list[Sized]:
        """See Index."""
        size, key = after or (_LARGER, "")
        arguments = {"pin": pin, "size": size, "key": key, "limit": limit}
        rows = await self._pool.rows(_LARGEST, arguments)
        return [Sized(size, key, unsealed(key, value)) for size, key, value in rows]

    async def unused(self, digests: Iterable[str]) -> set[str]:
        """See Index."""
        found: set[str] = set()
        for part in _parts(list(digests)):
            found.update(digest for (digest,) in await self._pool.rows(_UNUSED, {"digests": part}))
        return found

    async def body(self, digest: str) -> bytes | None:
        """See Index."""
        for (body,) in await self._pool.rows("SELECT body FROM bodies WHERE digest = %(digest)s", {"digest": digest}):
            return bytes(body)
        return None

    async def shared(self) -> dict[str, int]:
        """See Index."""
        return dict(await self._pool.rows(_SHARED))

    async def unused_bodies(self) -> dict[str, int]:
        """See Index."""
        return dict(await self._pool.rows(_ALL_UNUSED))

    async def leaf_count(self) -> int:
        """See Index."""
        [[count]] = await self._pool.rows("SELECT count FROM leaf_count")
        return int(count)

    async def leaves(self, start: int, limit: int = PAGE) -> list[Leaf]:
        """See Index."""
        query = f"{_LEAVES} number >= %(start)s ORDER BY number LIMIT %(limit)s"
        return [Leaf(*row) for row in await self._pool.rows(query, {"start": start, "limit": limit})]

    async def leaves_by_place(self, prefix: bytes, after: Leaf | None = None, limit: int = PAGE) -> list[Leaf]:
        """See Index."""
        query = (
            f"{_LEAVES} (place, number) > (%(place)b::bytea, %(number)s) AND place <= %(last)b::bytea "
            "ORDER BY place, number LIMIT %(limit)s"
        )
        place, number = (after.place, after.number) if after else (prefix, -1)
        last = prefix + b"\xff" * (PLACE - len(prefix))
        arguments = {"place": place, "number": number, "last": last, "limit": limit}
        return [Leaf(*row) for row in await self._pool.rows(query, arguments)]

    async def problems(self) -> list[str]:
        """See Index."""
        found: list[str] = []
        after = ""
        while page := await self._page("key, value", "", after, PAGE):
            for row in page:
                try:
                    _unsealed(row)
                except Damaged as error:
                    found.append(error.text)
            after = page[-1][0]
        return found

    # Changing

    async def add(
        self,
        key: str,
        value: bytes,
        columns: Columns | None = None,
        body: bytes | None = None,
        *,
        counts: bool = True,
    ) -> bytes:
        """See Index."""
        token = self._listener.token() if counts else ""
        arguments: dict[str, object] = {
            "key": key,
            "value": sealed(key, value),
            "body": body,
            "channel": CHANNEL,
            "token": token,
        }
        query = _ADD
        if columns:
            arguments |= columns._asdict()
            query = _ADD_RECORD if body is None else _ADD_RECORD_AND_BODY
        elif key.startswith(LOGS):
            arguments |= _leaf(key, value)
            query = _ADD_TO_LOG
        for _ in range(ATTEMPTS):
            for is_new, winner, _ in await self._pool.rows(query, arguments, counts=counts):
                if is_new and token:
                    self._listener.changed(token)
                return value if is_new else unsealed(key, winner)
        raise not_now(f"the entry {key} of the store's index was removed and added meanwhile: try again")

    async def add_many(self, entries: Sequence[New]) -> list[bytes]:
        """See Index."""
        found: dict[str, bytes] = {}
        for _ in range(ATTEMPTS):
            found |= await self._add_many([entry for entry in entries if entry.key not in found])
            if len(found) == len(entries):
                return [found[entry.key] for entry in entries]
        raise not_now("entries of the store's index were removed and added meanwhile: try again")

    async def _add_many(self, entries: Sequence[New]) -> dict[str, bytes]:
        """Try once; return the values of the keys, but of those to which another writer has added one meanwhile."""
        token = self._listener.token()
        records = [(entry.key, entry.columns) for entry in entries if entry.columns]
        with_body = [(entry.key, entry.body) for entry in entries if entry.columns and entry.body is not None]
        logged = [(entry.key, *leaves.new(entry.key, entry.value)) for entry in entries if entry.key.startswith(LOGS)]
        arguments: dict[str, object] = {
            "logged": [key for key, *_ in logged],
            "places": [place for _, _, place, _, _ in logged],
            "nonces": [nonce for *_, nonce, _ in logged],
            "commitments": [commitment for *_, commitment in logged],
            "keys": [entry.key for entry in entries],
            "values": [sealed(entry.key, entry.value) for entry in entries],
            "of": [key for key, _ in records],
            "pins": [columns.pin for _, columns in records],
            "addresses": [columns.address for _, columns in records],
            "digests": [columns.digest for _, columns in records],
            "sizes": [columns.size for _, columns in records],
            "with": [key for key, _ in with_body],
            "bodies": [body for _, body in with_body],
            "channel": CHANNEL,
            "token": token,
        }
        given, found = {entry.key: entry.value for entry in entries}, {}
        for key, winner in await self._pool.rows(_ADD_MANY, arguments, counts=True):
            if key in given:
                found[key] = given[key] if winner is None else unsealed(key, winner)
            else:  # the row of the notification
                self._listener.changed(token)
        return found

    async def remove(self, key: str) -> bool:
        """See Index."""
        token = self._listener.token()
        arguments: dict[str, object] = {"key": key, "channel": CHANNEL, "token": token}
        with_leaf = key.startswith(LOGS)
        if with_leaf:
            arguments |= _leaf(key, None)
        query = _REMOVE.format(_LEAF.format(changed="removed") if with_leaf else "")
        existed = await self._pool.rows(query, arguments, again=False, counts=True)
        if existed:
            self._listener.changed(token)
        return bool(existed)

    async def remove_bodies(self, digests: Sequence[str]) -> int:
        """See Index."""
        freed = 0
        for part in _parts(digests):
            freed += await self._pool.do(partial(_remove_bodies, part), again=False)
        return freed

    def lease(self, name: str) -> AbstractAsyncContextManager[bool]:
        """See Index."""
        return self._leases.lease(name)


async def _remove_bodies(digests: Sequence[str], connection: Connection) -> int:
    """Remove those of the bodies that no record has.

    That is safe beside `add`, which locks a body until its record is committed. Whoever gets the lock here looks for
    records in a new statement, and sees those that were committed under it before; who waits for it in `add` finds the
    body gone, and brings it again.
    """
    async with connection.transaction():
        locked = [digest for (digest,) in await rows(connection, _LOCK_BODIES, {"digests": digests})]
        return sum(size for (size,) in await rows(connection, _DELETE_BODIES, {"digests": locked}))


def _leaf(key: str, value: bytes | None) -> dict[str, object]:
    """Return the arguments of the part of a statement that adds a leaf."""
    return dict(zip(("is_removal", "place", "nonce", "commitment"), leaves.new(key, value), strict=True))


def _unsealed(row: Row) -> tuple[str, bytes]:
    key, value = row
    return key, unsealed(key, value)


def _parts(digests: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(digests), AT_ONCE):
        yield list(digests[start : start + AT_ONCE])
