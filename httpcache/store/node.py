"""The store of a node: one of any number of machines that share an index in PostgreSQL and an object store.

A node has no state but a cache: its folder can be deleted whenever the node does not run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from .cached_index import CachedIndex
from .local_cache import LocalCache
from .object_blobs import ObjectBlobs
from .postgres_index import PostgresIndex
from .store import Store


@asynccontextmanager
async def open_node(folder: Path, index_url: str, blobs_url: str, local_cache: int) -> AsyncIterator[Store]:
    """Open the store of a node inside the block; `local_cache` is in bytes. Raises StoreError."""
    index = PostgresIndex(index_url)
    blobs = ObjectBlobs(blobs_url, LocalCache(folder / "cache" / "bodies", local_cache))
    try:
        await index.open()
        yield Store(CachedIndex(index), blobs, folder / "spool")
    finally:
        await index.close()
        await asyncio.to_thread(blobs.close)
