"""Objects in an object store (S3, Google, Azure) or a shared folder, through obstore, with the mirror's own errors."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import anyio.to_thread
import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store, from_url

from httpcache.errors import Damaged, DamagedBody, StoreError, StoreFull, redact

from .base import Stamp
from .errors import guarded
from .fsync import sync_file, sync_folder

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.store import ObjectStore

T = TypeVar("T")

SCHEMES = ("s3", "gs", "az", "file")
PATIENCE = 20.0  # seconds to wait for a connection, and for each piece of a response
RETRIES = 2
LONGEST = timedelta(hours=6)  # for one object
SIGNED = timedelta(hours=1)  # that a presigned URL is valid, for the beginning of a download
PART = 8 * 1024 * 1024  # bytes of a part of a large object
PARTS = 10_000  # of one object at most, by S3's rules
PARTS_AT_ONCE = 2  # that are in memory, for each upload
PAGE = 1000  # objects of a list

# What object stores and file systems say if there is no room.
_FULL = re.compile(r"507 Insufficient|InsufficientStorage|StorageFull|QuotaExceeded|os error (28|122)\b")
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|The specified bucket does not exist")
_LATE = re.compile(r"timed out|TimedOut")
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")


class Objects:
    """The objects under an address. Every method raises StoreError, with a `Retry-After` where that can help."""

    def __init__(self, address: str, patience: float = PATIENCE) -> None:
        """Open `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or `file:///folder`.

        Credentials and endpoints are taken from the environment, by their usual names (`AWS_ACCESS_KEY_ID`,
        `AWS_ENDPOINT_URL`, …). To be called in the process that uses it: obstore's threads do not survive a fork.
        """
        scheme = urlsplit(address).scheme
        if scheme not in SCHEMES:
            raise StoreError(f"{redact(address)} is no address of an object store: use s3://bucket/prefix, or the like")
        try:
            self._store = from_url(address) if scheme == "file" else _remote(address, patience)
        except (BaseError, ValueError):
            hint = "it must be a folder that exists" if scheme == "file" else "see its address and the environment"
            raise StoreError(f"the object store {redact(address)} cannot be opened: {hint}") from None
        self.folder = self._store.prefix if isinstance(self._store, LocalStore) else None

    async def stamp(self, name: str) -> Stamp | None:
        """Return the stamp of an object, or None if there is none."""
        try:
            with _mapped():
                return _stamp(await obstore.head_async(self._store, name))
        except Damaged:
            return None

    async def put(self, name: str, file: Path, size: int) -> None:
        """Write an object: in parts, if it is large. Durable on return; nobody sees a part of it."""
        part = max(PART, -(-size // PARTS))
        try:
            with _mapped():
                await obstore.put_async(self._store, name, file, chunk_size=part, max_concurrency=PARTS_AT_ONCE)
        except Damaged:
            raise _absent() from None
        if isinstance(self.folder, Path):
            await anyio.to_thread.run_sync(guarded, _sync, self.folder, name)

    async def read(self, name: str, chunk: int, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes of an object from `start` to `stop` (exclusive), in chunks.

        Raises Damaged if it does not exist, or is shorter.
        """
        if stop is not None and start >= stop:  # no range of HTTP is empty
            if await self.stamp(name) is None:
                raise _missing()
            return
        with _mapped():
            options: GetOptions = {} if stop is None else {"range": (start, stop)}
            result = await obstore.get_async(self._store, name, options=options)
            if stop is not None and result.range != (start, stop):
                raise _missing()
            stream = result.stream(chunk)
        while piece := await _next(stream):
            yield piece

    async def presigned(self, name: str) -> str | None:
        """Return a URL of an object that needs no credentials for a while, or None for a folder."""
        if isinstance(self._store, S3Store | GCSStore | AzureStore):
            with _mapped():
                return await obstore.sign_async(self._store, "GET", name, SIGNED)
        return None

    async def stamps(self) -> AsyncIterator[tuple[str, Stamp]]:
        """Yield the name and stamp of each object."""
        pages = obstore.list(self._store, chunk_size=PAGE)
        while page := await _next(pages):
            for meta in page:
                yield meta["path"], _stamp(meta)

    async def delete(self, name: str) -> None:
        """Delete an object, if there is one."""
        with suppress(Damaged), _mapped():
            await obstore.delete_async(self._store, name)


def age(stamp: Stamp) -> float:
    """Return the seconds since an object was written, if its server's clock and ours agree."""
    return time.time() - float(stamp.version[0])


def _remote(address: str, patience: float) -> ObjectStore:
    wait = timedelta(seconds=patience)
    return from_url(
        address,
        client_options={"allow_http": True, "connect_timeout": wait, "read_timeout": wait, "timeout": LONGEST},
        retry_config={
            "max_retries": RETRIES,
            "retry_timeout": wait,
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2},
        },
    )


def _stamp(meta: ObjectMeta) -> Stamp:
    """Return the stamp of an object: in seconds, since lists and single answers differ in what is below."""
    return Stamp(meta["size"], (int(meta["last_modified"].timestamp()), (meta["e_tag"] or "").strip('"')))


def _sync(folder: Path, name: str) -> None:
    path = folder / name
    sync_file(path)
    sync_folder(path.parent)
    sync_folder(folder)


async def _next(stream: AsyncIterator[T]) -> T | None:
    """Return the next piece of a stream of obstore, or None at its end."""
    with _mapped():
        try:
            return await stream.__anext__()  # `anext` with a default cannot await what obstore returns
        except StopAsyncIteration:
            return None


@contextmanager
def _mapped() -> Iterator[None]:
    """Raise StoreError for an error of obstore inside the block.

    What obstore says is not passed on: it can have signed addresses and keys in it.
    """
    try:
        yield
    except (BaseError, OSError) as error:
        raise _store_error(error) from None


def _store_error(error: Exception) -> StoreError:
    text, status = str(error), _status(error)
    if _FULL.search(text):
        return StoreFull("the mirror's object store is full: make room in it")
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)) or status in ("401", "403"):
        return _unusable(f"refuses the mirror's credentials ({_reason(error)})")
    if _NO_BUCKET.search(text):
        return _absent()
    if isinstance(error, FileNotFoundError) or status == "416":
        return _missing()
    return _unusable(f"cannot be used ({_reason(error)})")


def _status(error: Exception) -> str:
    return next(iter(_STATUS.findall(str(error))), "")


def _reason(error: Exception) -> str:
    """Return what can be told of an error: the status and S3's name for it."""
    text, status = str(error), _status(error)
    if status:
        return " ".join(["it answered", status, *_CODE.findall(text)[:1]])
    return "it did not answer in time" if _LATE.search(text) else "no connection, or no whole answer"


def _unusable(what: str) -> StoreError:
    return StoreError(f"the mirror's object store {what}: try again later", headers={"retry-after": "10"})


def _absent() -> StoreError:
    return _unusable("has no such bucket")


def _missing() -> DamagedBody:
    return DamagedBody("a body is missing in the mirror's object store, or is shorter than its record says")
