"""Counts the changes of the index in PostgreSQL that can change a response, as its notifications tell of them.

Each change that counts sends a notification in its transaction (NOTIFY), and one connection of each process listens.
PostgreSQL sends a session what it was notified of before it says that it is ready for the next command. So after the
answer to any command, everything is counted that was committed before the command was sent. Such a command goes out
every BEAT seconds, and the count is valid for BOUND seconds from then on. Without an answer nothing is known, until
there is a connection again: then the count rises, since notifications may have been missed.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Hashable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import psycopg

from httpcache.errors import StoreError

from .postgres_connection import CONNECTING, Connection, hung_up_after
from .postgres_errors import mapped
from .postgres_schema import check

log = logging.getLogger("httpcache")

CHANNEL = "httpcache"
BEAT = 0.25  # seconds between two commands
BOUND = 1.0  # seconds after which every process knows of a change
RETRY = 0.25  # seconds between two attempts to connect


class Listener:
    """The count of one process, and the connection that keeps it up to date."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self._name = uuid4().hex
        self._numbers = itertools.count()
        self._told_once: set[str] = set()
        self._count = 0
        self._valid_until = 0.0
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect, and begin to listen. Raises StoreError, whose cause says more (and names hosts and users)."""
        connection = await self._connected()
        self._task = asyncio.create_task(self._run(connection))

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def generation(self) -> Hashable:
        """Return the count, or what equals nothing if a change of the last BOUND seconds may be missing in it."""
        return self._count if time.monotonic() < self._valid_until else object()

    def token(self) -> str:
        """Return what the notification of one change of this process has to say."""
        return f"{self._name}-{next(self._numbers)}"

    def changed(self, token: str = "") -> None:
        """Count a change. The process that has made it learns of it twice, and counts it once."""
        if token in self._told_once:
            self._told_once.remove(token)
            return
        self._count += 1
        if token.startswith(self._name):
            self._told_once.add(token)

    async def _run(self, connection: Connection) -> None:
        while True:
            with suppress(psycopg.Error, OSError):
                async with connection:
                    while True:
                        await self._beat(connection)
            connection = await self._reconnected()

    async def _beat(self, connection: Connection) -> None:
        """Ask for what is new, and wait for more."""
        sent = time.monotonic()
        with hung_up_after(BOUND, connection):
            await connection.execute("SELECT 1")
        await self._take(connection, 0)
        self._valid_until = sent + BOUND
        await self._take(connection, BEAT)

    async def _take(self, connection: Connection, wait: float) -> None:
        async for notification in connection.notifies(timeout=wait):
            self.changed(notification.payload)

    async def _reconnected(self) -> Connection:
        said = ""
        while True:
            await asyncio.sleep(RETRY)
            try:
                connection = await self._connected()
            except StoreError as error:
                if error.text != said:
                    said = error.text
                    log.warning("changes by other processes are not heard of: %s (%s)", said, error.__cause__)
            else:
                if said:
                    log.warning("changes by other processes are heard of again")
                return connection

    async def _connected(self) -> Connection:
        """Connect, look whether the index can be used, and listen. Raises StoreError."""
        with mapped():
            connection = await psycopg.AsyncConnection.connect(**self._parameters)
            try:
                with hung_up_after(CONNECTING, connection):
                    await check(connection)
                    await connection.execute(f"LISTEN {CHANNEL}")
            except BaseException:
                await connection.close()
                raise
        self._told_once.clear()
        self.changed()
        return connection
