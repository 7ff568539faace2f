"""A mirror in the test's own process, for moments that a client cannot choose."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import anyio

from httpcache.guard import Guard
from httpcache.local import LocalStore
from httpcache.mirror import Mirror
from httpcache.settings import Settings
from httpcache.upstream import Upstream as Asker

PATIENCE = 10  # seconds; a bound against hanging


@asynccontextmanager
async def running(folder: Path, store: LocalStore | None = None, spool: Path | None = None) -> AsyncIterator[Mirror]:
    """A mirror on real sockets and files; each on the same folder is like a process of its own."""
    store = store or LocalStore(folder / "data")
    asker = Asker(Guard([ip_network("127.0.0.0/8")]))
    mirror = Mirror(Settings(data=store.folder), store, spool or store.spool, asker)
    try:
        with anyio.fail_after(PATIENCE):
            async with mirror.running():
                yield mirror
    finally:
        with anyio.CancelScope(shield=True):
            await asker.aclose()
        store.close()
