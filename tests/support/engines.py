"""The indexes and blobs that a store can stand on, each opened by its name: in this process, or in another one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Protocol

from httpcache.store.base import Blobs, Index
from httpcache.store.cached_index import CachedIndex
from httpcache.store.file_blobs import FileBlobs
from httpcache.store.layout import prepare
from httpcache.store.local import LocalStore
from httpcache.store.local_cache import LocalCache
from httpcache.store.object_blobs import GRACE, ObjectBlobs
from httpcache.store.postgres_index import PostgresIndex
from httpcache.store.postgres_schema import upgrade
from httpcache.store.record import Record
from httpcache.store.sqlite_index import SqliteIndex
from httpcache.store.store import Store
from tests.support import objects
from tests.support.postgres import shared

CACHE = 64 * 1024 * 1024  # bytes

_numbers = count()


class IndexMaker(Protocol):
    """Opens the same index each time that it is given the same folder."""

    def __call__(self, folder: Path) -> AbstractAsyncContextManager[Index]: ...


class BlobsMaker(Protocol):
    """Opens the same blobs each time that it is given the same folder.

    `grace` is how many seconds after a blob was put its record may be written, where that is a matter of time.
    """

    def __call__(self, folder: Path, grace: float = GRACE) -> AbstractAsyncContextManager[Blobs]: ...


class StoreMaker(Protocol):
    """Opens the same store each time that it is given the same folder; `grace` is that of its blobs."""

    def __call__(self, folder: Path, grace: float = GRACE) -> AbstractAsyncContextManager[Store]: ...


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[Index]:
    """The embedded index."""
    prepare(folder / "store")
    index = SqliteIndex(folder / "store", read_only=False)
    try:
        yield index
    finally:
        index.close()


@asynccontextmanager
async def cached(folder: Path) -> AsyncIterator[Index]:
    """The embedded index, with what was read of it kept."""
    async with sqlite(folder) as index:
        yield CachedIndex(index)


@asynccontextmanager
async def postgresql(folder: Path) -> AsyncIterator[Index]:
    """The index that several machines can share, in a database of its own; the folder has its address."""
    address = folder / "postgresql"
    if not address.exists():
        url = shared().database()
        upgrade(url)
        address.write_text(url)
    index = PostgresIndex(address.read_text())
    await index.open()
    try:
        yield index
    finally:
        await index.close()


@asynccontextmanager
async def files(folder: Path, grace: float = GRACE) -> AsyncIterator[Blobs]:
    """The embedded blobs."""
    prepare(folder / "store")
    blobs = FileBlobs(folder / "store")
    try:
        yield blobs
    finally:
        blobs.close()


@asynccontextmanager
async def s3(folder: Path, grace: float = GRACE) -> AsyncIterator[Blobs]:
    """Blobs in an object store, with a cache."""
    with objects.credentials(objects.server().url):
        blobs = ObjectBlobs(objects.bucket_of(folder), LocalCache(folder / "cache", CACHE), grace=grace)
    try:
        yield blobs
    finally:
        blobs.close()


@asynccontextmanager
async def shared_folder(folder: Path, grace: float = GRACE) -> AsyncIterator[Blobs]:
    """Blobs in a folder that machines share, with a cache."""
    (folder / "shared").mkdir(exist_ok=True)
    blobs = ObjectBlobs((folder / "shared").as_uri(), LocalCache(folder / "cache", CACHE), grace=grace)
    try:
        yield blobs
    finally:
        blobs.close()


@asynccontextmanager
async def local(folder: Path, grace: float = GRACE) -> AsyncIterator[Store]:
    """The embedded store."""
    store = LocalStore(folder / "store")
    try:
        yield store
    finally:
        store.close()


@asynccontextmanager
async def on_shared_folder(folder: Path, grace: float = GRACE) -> AsyncIterator[Store]:
    """An embedded index, with bodies in a shared folder."""
    async with sqlite(folder) as index, shared_folder(folder, grace) as blobs:
        yield Store(index, blobs, folder / "store" / "spool")


@asynccontextmanager
async def node(folder: Path, grace: float = GRACE) -> AsyncIterator[Store]:
    """The store of a node: PostgreSQL, and an object store with a cache."""
    async with postgresql(folder) as index, s3(folder, grace) as blobs:
        yield Store(CachedIndex(index), blobs, folder)


INDEXES: dict[str, IndexMaker] = {"sqlite": sqlite, "cached": cached, "postgresql": postgresql}
BLOBS: dict[str, BlobsMaker] = {"files": files, "s3": s3, "shared folder": shared_folder}
STORES: dict[str, StoreMaker] = {"local": local, "shared folder": on_shared_folder, "node": node}


def part(folder: Path, body: bytes) -> Path:
    """A new file with that content, ready to be moved into a store."""
    path = folder / f"part-{os.getpid()}-{next(_numbers)}"
    path.write_bytes(body)
    return path


def record_of(body: bytes, name: str = "name", pin: str = "a-2024-01-02") -> Record:
    """The record of a body."""
    url = f"https://example.com/{name}"
    return Record(f"key of {name}", pin, url, url, sha256(body).hexdigest(), len(body), 1.0)


async def read(store: Store, record: Record, start: int = 0, stop: int | None = None) -> bytes:
    """The bytes of a record's body."""
    stop = record.size if stop is None else stop
    return b"".join([chunk async for chunk in store.read_body(record.digest, record.size, start, stop)])
