"""The connections of a process to PostgreSQL: what is done on them has an end, and may be tried again."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from psycopg_pool import AsyncConnectionPool

from .postgres_connection import CONNECTING, PATIENCE, Connection, hung_up_after
from .postgres_errors import is_lost, mapped

MOST = 8  # connections
HANGS = PATIENCE + 2.0  # seconds; by then the server has ended a statement itself, if it is there

T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]


class Pool:
    """Connections that are opened as they are needed. Every method raises StoreError.

    `in_doubt` is called when a change may have been made or not.
    """

    def __init__(self, parameters: dict[str, Any], in_doubt: Callable[[], None]) -> None:
        self._in_doubt = in_doubt
        self._renewed = 0.0
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            kwargs=parameters,
            min_size=1,
            max_size=MOST,
            timeout=CONNECTING,
            reconnect_timeout=CONNECTING,  # whoever comes later begins again, without a pause that has grown long
            open=False,
            name="index",
        )

    async def open(self) -> None:
        """Begin to connect."""
        await self._pool.open()

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    async def rows(
        self, query: str, arguments: Mapping[str, object] | None = None, *, again: bool = True, counts: bool = False
    ) -> list[Row]:
        """Return the rows of a statement, which is a transaction; for the options see `do`."""
        return await self.do(lambda connection: rows(connection, query, arguments), again=again, counts=counts)

    async def do(self, work: Callable[[Connection], Awaitable[T]], *, again: bool, counts: bool = False) -> T:
        """Do a piece of work on a connection.

        `again`: once more, on a new connection, if the first one gets lost. `counts`: it is a change of which others
        must know, so without an answer it is in doubt.
        """
        with mapped():
            began = time.monotonic()
            try:
                return await self._once(work)
            except BaseException as error:
                if counts:
                    self._in_doubt()
                lost = isinstance(error, Exception) and is_lost(error)
                if lost:
                    await self._renew(began)
                if not (lost and again):
                    raise
            try:
                return await self._once(work)
            finally:
                if counts:  # the first may have been made since
                    self._in_doubt()

    async def _once(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._pool.connection() as connection:
            with hung_up_after(HANGS, connection):
                return await work(connection)

    async def _renew(self, began: float) -> None:
        """Close all connections, unless that was done after `began`: where one is lost, the others are as a rule."""
        if self._renewed < began:
            self._renewed = time.monotonic()
            await self._pool.drain()


async def rows(connection: Connection, query: str, arguments: Mapping[str, object] | None = None) -> list[Row]:
    """Return the rows of a statement. Raises psycopg.Error."""
    return await (await connection.execute(query, arguments, binary=True)).fetchall()
