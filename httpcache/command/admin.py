"""The port of the mirror's own pages, `--admin-port`: every worker listens there, too, and the kernel chooses one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server
from starlette.types import ASGIApp

from httpcache.settings import Settings

CLIENTS: Final = 64
"""Connections of a worker at once."""
END_SECONDS: Final = 5.0
"""Seconds that connections have to end."""


@asynccontextmanager
async def listening(app: ASGIApp, settings: Settings) -> AsyncIterator[None]:
    """Let an application answer at that port inside the block, in this event loop; do nothing without the setting."""
    if settings.admin_port is None:
        yield
        return
    server = Server(
        app,
        address=settings.admin_host,
        port=settings.admin_port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        backpressure=CLIENTS,
        http1_settings=HTTP1Settings(
            header_read_timeout=max(1, round(settings.client_timeout * 1000)), max_buffer_size=settings.max_header
        ),
        log_level=LogLevels.warning,
    )
    serving = asyncio.ensure_future(server.serve())
    try:
        yield
    finally:
        server.stop()  # type: ignore[no-untyped-call]
        with suppress(TimeoutError):
            await asyncio.wait_for(serving, END_SECONDS)
