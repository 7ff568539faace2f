"""A mirror in the test's own process, for moments that a client cannot choose."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import anyio

from httpcache.freezing import mirror
from httpcache.freezing.challenges import StoredChallenges
from httpcache.freezing.mirror import Mirror
from httpcache.metrics import Metrics
from httpcache.settings import Settings
from httpcache.store.local import LocalStore
from httpcache.upstream.client import UpstreamClient

PATIENCE = 10  # seconds; a bound against hanging


@asynccontextmanager
async def running(folder: Path, store: LocalStore | None = None, spool: Path | None = None) -> AsyncIterator[Mirror]:
    """A mirror on real sockets and files; each on the same folder is like a process of its own."""
    store = store or LocalStore(folder / "data")
    settings = Settings(data=store.folder, allow_networks=(ip_network("127.0.0.0/8"),))
    try:
        with anyio.fail_after(PATIENCE):
            async with mirror.running(settings, store, spool or store.spool) as found:
                yield found
    finally:
        store.close()


@asynccontextmanager
async def asking(settings: Settings) -> AsyncIterator[UpstreamClient]:
    """The asking side of a mirror alone."""
    store = LocalStore(settings.data)
    upstream = UpstreamClient(settings, StoredChallenges(store), "httpcache-test", Metrics())
    try:
        yield upstream
    finally:
        await upstream.aclose()
        store.close()
