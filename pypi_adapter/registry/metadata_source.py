"""Gets the METADATA of a wheel: from its metadata file, else from the wheel by ranges, else by downloading it.

PEP 658 puts the core metadata of `<file>` at `<file>.metadata`. The pages that the mirror renders advertise it for
wheels, so that resolvers need not download wheels to read it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread

from httpcache.credentials import PUBLIC, Credentials
from httpcache.errors import BadUpstream, UnderWay, UpstreamError
from httpcache.freezing.download import Digest
from httpcache.freezing.flight import PassedThrough
from httpcache.freezing.mirror import NOBODY, Mirror, Want
from httpcache.store.record import Record
from httpcache.store.store import Store
from httpcache.target import Target
from httpcache.upstream.client import Headers, UpstreamResponse, with_body
from httpcache.upstream.decoding import BadCoding, decoded

from .wheel_metadata import MAX_METADATA, Ask, NoRangesError, from_ranges, from_wheel

log = logging.getLogger("httpcache")
SUFFIX = ".metadata"
CONTENT_TYPE = "text/plain; charset=utf-8"
ANSWERED = 10.0  # seconds after which a client is told to retry: pip waits 15 for an answer, uv 30


def metadata_url(url: str) -> str:
    """Return the URL of the metadata file of a wheel (PEP 658): the suffix belongs to the path, not to the query."""
    path, mark, query = url.partition("?")
    return path + SUFFIX + mark + query


Found = TypeVar("Found")


async def soon(found: Awaitable[Found], filename: str) -> Found:
    """Wait for metadata, but no longer than installers do. Raises UnderWay, upon which they retry."""
    with anyio.move_on_after(ANSWERED):
        return await found
    raise UnderWay(
        f"the metadata of {filename} takes a while, because its server is slow and ignores range requests: the wheel "
        "is being fetched, try again soon"
    )


def looks_like_metadata(body: bytes) -> bool:
    """Whether bytes are a metadata file (and not, say, a login page sent with status 200)."""
    return re.search(rb"^metadata-version\s*:", body[:MAX_METADATA], re.IGNORECASE | re.MULTILINE) is not None


def given(body: bytes, url: str, sent: Headers) -> UpstreamResponse:
    """Return bytes as the answer of an upstream to a request with the credential headers `sent`."""
    headers = {"content-type": CONTENT_TYPE, "content-length": str(len(body))}
    return with_body(200, headers, body, url, sent)


async def settle(mirror: Mirror, metadata: Target, want: Want, filename: str, wheel: Record) -> bool:
    """Drop frozen metadata that differs from that of the frozen wheel: no digest covers what was read by ranges.

    It is called both after the metadata and after the wheel is frozen, so that the later call sees both, whoever may
    read them. Returns whether the metadata may stay.
    """
    kept = await mirror.kept(metadata, want)
    if kept is None:
        return True
    with suppress(BadUpstream):
        if sha256(await _metadata_of(mirror.store, wheel, filename)).hexdigest() == kept.digest:
            return True
    log.error("dropped the metadata of %s: it was read without the wheel, and differs from the wheel's", filename)
    await mirror.drop(metadata, want)
    return False


async def confirm(mirror: Mirror, metadata: Target, want: Want, filename: str, wheel: Record) -> None:
    """Call `settle` after freezing metadata. Raises BadUpstream if the metadata was dropped."""
    if not await settle(mirror, metadata, want, filename, wheel):
        raise BadUpstream(f"the metadata of {filename} is not that of the wheel, which was just frozen: try again")


@dataclass(frozen=True)
class MetadataSource:
    """Gets the metadata of one wheel, as the `source` of a Want.

    `filename`, `url` and `digests` are those of the wheel, `digests` as announced. `announced` are the announced
    digests of the metadata: if there are any, the upstream's metadata file is tried before the frozen wheel, and must
    match one of them. `own` requests the upstream's metadata file; None if it has none. `frozen` looks up the frozen
    wheel. `ask` requests the wheel with additional headers. `freeze` freezes the wheel. `store` has it then.
    `credentials` are the client's.
    """

    filename: str
    url: str
    own: Callable[[], AbstractAsyncContextManager[UpstreamResponse]] | None
    frozen: Callable[[], Awaitable[Record | None]]
    ask: Ask
    freeze: Callable[[], Awaitable[Record | PassedThrough]]
    store: Store
    digests: tuple[Digest, ...]
    announced: tuple[Digest, ...]
    credentials: Credentials = NOBODY

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[UpstreamResponse]:
        """Yield the metadata as an answer with status 200, or the wheel's answer if the wheel is not available."""
        first, second = self._from_frozen, self._from_own
        if self.announced:
            first, second = second, first
        yield await first() or await second() or await self._from_wheel()

    async def _from_own(self) -> UpstreamResponse | None:
        if self.own is None:
            return None
        try:
            async with self.own() as answer:
                if answer.status != 200:
                    return None
                body = await answer.read(MAX_METADATA, f"the metadata of {self.filename}")
        except UpstreamError:
            return None  # the wheel may be frozen, or available from another host
        found = [body]
        with suppress(BadCoding):
            found.append(decoded(body, answer.headers.get("content-encoding"), MAX_METADATA))
        right = next(filter(self._may_be, found), None)
        return None if right is None else given(right, answer.base, answer.sent)

    def _may_be(self, body: bytes) -> bool:
        """Whether bytes match an announced digest of the metadata or, if none was announced, look like metadata."""
        if not self.announced:
            return looks_like_metadata(body)
        return any(digest.is_of(body) for digest in self.announced)

    async def _from_frozen(self) -> UpstreamResponse | None:
        record = await self.frozen()
        return await self._from_record(record) if record else None

    async def _from_wheel(self) -> UpstreamResponse:
        try:
            return await self._from_ranges() or await self._from_whole()
        except BadUpstream as error:
            if not self.announced:
                raise
            wanted = " or ".join(f"{digest.algorithm} {digest.value}" for digest in self.announced)
            raise BadUpstream(f"no metadata with the announced {wanted} can be found: {error.text}") from error

    async def _from_ranges(self) -> UpstreamResponse | None:
        try:
            body, answer = await from_ranges(self.ask, self.filename, self.digests)
        except NoRangesError:
            return None
        return given(body, answer.base, answer.sent)

    async def _from_whole(self) -> UpstreamResponse:
        outcome = await self.freeze()
        if isinstance(outcome, Record):
            return await self._from_record(outcome)
        return with_body(outcome.status, outcome.headers, outcome.body, self.url)

    async def _from_record(self, record: Record) -> UpstreamResponse:
        body = await _metadata_of(self.store, record, self.filename)
        sent = () if record.scope == PUBLIC else self.credentials.levels[-1]
        return replace(given(body, record.final, sent), scope=record.scope)


async def _metadata_of(store: Store, wheel: Record, filename: str) -> bytes:
    async def read(start: int, stop: int) -> bytes:
        return b"".join([chunk async for chunk in store.read_body(wheel.digest, wheel.size, start, stop)])

    return await from_wheel(wheel.size, read, filename)
