"""How a connection to PostgreSQL is opened, and how it ends when nothing comes from it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict

from httpcache.errors import StoreError

Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]

PATIENCE = 10  # seconds for a statement, and for the locks that it waits for
CONNECTING = 5  # seconds for a new connection


def parameters(url: str) -> dict[str, Any]:
    """Return the parameters of a connection: what an address says, and what the index relies on. Raises StoreError.

    `url` is a URI or a string of parameters, as libpq reads them; what it leaves out, the environment and the files of
    libpq may say.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error as error:  # its text has the address, which may have a password
        raise StoreError("the address of the index in PostgreSQL cannot be read: write postgresql://...") from error
    own = rf"-c statement_timeout={PATIENCE}s -c default_transaction_isolation=read\ committed"
    return {
        "connect_timeout": CONNECTING,
        "application_name": "httpcache",
        "keepalives_idle": CONNECTING,
        "tcp_user_timeout": 1000 * CONNECTING,
        **given,
        "options": f"{given.get('options', '')} {own}",
        "client_encoding": "UTF8",
        "autocommit": True,
    }


@contextmanager
def hung_up_after(seconds: float, connection: Connection) -> Iterator[None]:
    """Shut a connection down if the block takes longer: what waits for it gets an error of psycopg at once.

    To cancel the task instead would take longer: psycopg then asks the server, from which nothing comes.
    """
    timer = asyncio.get_running_loop().call_later(seconds, _hang_up, connection)
    try:
        yield
    finally:
        timer.cancel()


def _hang_up(connection: Connection) -> None:
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)
