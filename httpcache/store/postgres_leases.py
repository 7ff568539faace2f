"""The rights of one machine to do something alone, as advisory locks of PostgreSQL.

They belong to a connection, and end with it: when a process dies, when its machine is cut off (by keepalives), and when
the server restarts. No correctness rests on them, so whoever cannot ask for one goes on as if it had it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import Any

import psycopg

from .postgres_connection import CONNECTING, Connection, hung_up_after


class Leases:
    """The leases of one process."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        """Give up all of them."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    @asynccontextmanager
    async def lease(self, name: str) -> AsyncIterator[bool]:
        """See Index. A process that asks twice has it twice."""
        number = int.from_bytes(sha256(f"httpcache lease {name}".encode()).digest()[:8], "big", signed=True)
        connection, has_it = await self._asked(number)
        try:
            yield has_it
        finally:
            if connection is not None and has_it:
                await self._release(connection, number)

    async def _asked(self, number: int) -> tuple[Connection | None, bool]:
        try:
            async with self._lock:
                connection = await self._connected()
                with hung_up_after(CONNECTING, connection):
                    found = await connection.execute("SELECT pg_try_advisory_lock(%s)", (number,))
                    [[has_it]] = await found.fetchall()
        except (psycopg.Error, OSError):
            return None, True
        return connection, has_it

    async def _release(self, connection: Connection, number: int) -> None:
        """Give one up, if its connection is still there."""
        with suppress(psycopg.Error, OSError):
            async with self._lock:
                with hung_up_after(CONNECTING, connection):
                    await connection.execute("SELECT pg_advisory_unlock(%s)", (number,))

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(**self._parameters)
        return self._connection
