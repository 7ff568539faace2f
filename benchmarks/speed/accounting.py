"""What it costs to count a hit: CPU of the application for hits with and without the metrics and the journal, in turns.

The application runs in this process, without the server around it, so that little else is measured; the same hit is
answered thousands of times. What an answer costs the whole server, the loads tell (load.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Message, Scope

from httpcache.settings import Settings
from httpcache.web.accounting import Accounts
from httpcache.web.app import build
from httpcache.web.response_cache import CachedResponse

from . import records
from .peers import PIN
from .process import Unavailable

HITS: Final = 20_000
"""Of one turn."""


def _nothing(self: Accounts, answer: CachedResponse, scope: Scope, seconds: float) -> None:
    """Count nothing, in place of `Accounts.ready`."""


def measure(folder: Path, turns: int) -> list[tuple[str, float]]:
    """Return "counted" or "not counted", and the microseconds of CPU of a hit, for each turn."""
    records.fill(folder / "data", 1)
    return asyncio.run(_measure(Settings(folder / "data", offline=True), turns))


async def _measure(settings: Settings, turns: int) -> list[tuple[str, float]]:
    app = build(settings, [])
    said, heard = asyncio.Queue[Message](), asyncio.Queue[Message]()
    lifespan = asyncio.ensure_future(app({"type": "lifespan"}, said.get, heard.put))
    await said.put({"type": "lifespan.startup"})
    await heard.get()
    try:
        return await _turns(app, turns)
    finally:
        await said.put({"type": "lifespan.shutdown"})
        await lifespan


async def _turns(app: ASGIApp, turns: int) -> list[tuple[str, float]]:
    ask, ways = _asker(app), {"counted": Accounts.ready, "not counted": _nothing}
    found: list[tuple[str, float]] = []
    try:
        for _ in range(turns):
            for name, way in ways.items():
                setattr(Accounts, "ready", way)  # noqa: B010
                before = time.process_time()
                for _ in range(HITS):
                    await ask()
                found.append((name, 1e6 * (time.process_time() - before) / HITS))
    finally:
        setattr(Accounts, "ready", ways["counted"])  # noqa: B010
    return found


def _asker(app: ASGIApp) -> Callable[[], Awaitable[None]]:
    path = f"/{PIN}/{records.PREFIX}0"
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "http_version": "1.1",
        "client": ("127.0.0.1", "1"),
        "headers": [(b"host", b"mirror"), (b"accept", b"*/*"), (b"user-agent", b"wrk")],
        "extensions": {"http.response.pathsend": {}},
    }

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] != 200:
            raise Unavailable(f"a hit was answered with {message['status']}")

    async def ask() -> None:
        await app(scope, receive, send)

    return ask
