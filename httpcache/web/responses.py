"""Answers as they go over the wire: frozen, live, made here, short.

Everything that comes from an upstream is a stranger's, and is served from the mirror's own origin: no browser may run
it, guess its type, or tell others where it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from typing import TypeVar

import anyio
import msgspec
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from httpcache.credentials import PUBLIC
from httpcache.errors import MirrorError, UpstreamError
from httpcache.fields import map_links
from httpcache.freezing.flight import FlightReader, PassedThrough
from httpcache.store.base import Condition, Store
from httpcache.store.record import Record, damaged

from .conditional import Plan, plan
from .content_coding import IDENTITY, Body
from .response_cache import CachedResponse
from .sending import (
    DEFAULT_TYPE,
    PlainResponse,
    Readable,
    can_send_paths,
    head,
    request_headers,
    respond,
    start_response,
    stream,
    text,
)

T = TypeVar("T")

FOREVER = "max-age=31536000, immutable"
HIT = "httpcache; hit"
VERIFIED_FIRST = 4 * 1024 * 1024  # bytes; files of up to this size whose digest is known are checked before they begin
SOON = 5.0  # seconds within which an answer begins if it can: pip waits 15, uv 30
STORED = "httpcache; fwd=uri-miss; stored"
RENEWED = "httpcache; fwd=stale"
PROBLEM = "application/problem+json"
SMALL = 64 * 1024  # bytes of a file that is kept in memory: to open one takes longer than to send so much


class Cacheable(ABC):
    """A response that can be an answer for long."""

    @abstractmethod
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""

    @abstractmethod
    async def ready(self, scope: Scope) -> CachedResponse | None:
        """Return the answer to a plain GET, if it is made of the store's entries alone. Raises MirrorError."""


class FrozenResponse(Cacheable):
    """A frozen answer: whole, in ranges, or not modified."""

    def __init__(
        self, store: Store, record: Record, status_text: str = HIT, vary: str | None = "Accept", pinned: str = ""
    ) -> None:
        self._store = store
        self._record = record
        self._status_text = status_text
        self._vary = vary
        self._pinned = pinned

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = self._record
        condition = self._store.condition(record.digest, record.size)
        if condition is Condition.BROKEN:
            raise damaged(self._record)
        lines = self._lines()
        modified = record.headers.get("last-modified")
        since = formatdate(record.created, usegmt=True)
        planned = plan(
            scope["method"], request_headers(scope), etag=record.etag, modified=modified, size=record.size, since=since
        )
        is_sound = condition is Condition.SOUND
        if planned.status == 200 and record.size and is_sound and can_send_paths(scope):
            await start_response(send, 200, lines | {"content-length": str(record.size)})
            await send({"type": "http.response.pathsend", "path": str(self._store.blob_path(record.digest))})
            return
        body = Readable(record.size, self._read if is_sound else self._read_checked)
        await respond(scope, receive, send, planned, lines, body)

    @property
    def outcome(self) -> Record:
        """What is answered with."""
        return self._record

    @property
    def status(self) -> str:
        """The `Cache-Status`."""
        return self._status_text

    async def ready(self, scope: Scope) -> CachedResponse | None:
        """See Cacheable."""
        record = self._record
        holds = partial(_is_sound, self._store, record.digest, record.size)
        if self._status_text != HIT or record.scope != PUBLIC or not record.size:
            return None
        if not can_send_paths(scope) or not holds():
            return None
        start = head(200, self._lines() | {"content-length": str(record.size)})
        if record.size > SMALL:
            path = str(self._store.blob_path(record.digest))
            return CachedResponse(start, {"type": "http.response.pathsend", "path": path}, holds)
        body = b"".join([chunk async for chunk in self._read(0, None)])
        return CachedResponse(start, {"type": "http.response.body", "body": body}, holds) if holds() else None

    def _lines(self) -> dict[str, str]:
        record = self._record
        lines = _described(record.headers, self._pinned)
        lines["etag"] = record.etag
        lines["accept-ranges"] = "bytes"
        lines["cache-control"] = f"{'public' if record.scope == PUBLIC else 'private'}, {FOREVER}"
        lines["cache-status"] = self._status_text
        if self._vary:
            lines["vary"] = self._vary
        return lines

    def _read(self, start: int, stop: int | None) -> AsyncIterator[bytes]:
        return self._store.read_blob(self._record.digest, start, self._record.size if stop is None else stop)

    async def _read_checked(self, start: int, stop: int | None) -> AsyncIterator[bytes]:
        """Yield the bytes, the last of them once the whole blob has been read and found right."""
        end = self._record.size if stop is None else stop
        last = max(start, end - 1)
        async for chunk in self._read(start, last):
            yield chunk
        if not await self._store.check(self._record.digest, self._record.size):
            raise damaged(self._record)
        async for chunk in self._read(last, end):
            yield chunk


def _is_sound(store: Store, digest: str, size: int) -> bool:
    with suppress(MirrorError):  # who looks again tells of it
        return store.condition(digest, size) is Condition.SOUND
    return False


class LiveResponse:
    """An answer that is being frozen, as it arrives. Its connection breaks where the freezing fails."""

    def __init__(self, live: FlightReader, vary: str | None = "Accept", pinned: str = "") -> None:
        self._live = live
        self._vary = vary
        self._pinned = pinned

    @property
    def outcome(self) -> FlightReader:
        """What is answered with."""
        return self._live

    @property
    def status(self) -> str:
        """The `Cache-Status`."""
        return fetched(self._live)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._serve(scope, receive, send)
        finally:
            self._live.close()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        live, asked, method = self._live, request_headers(scope), scope["method"]
        if live.unkept:  # an answer to this one request: nothing that a client has can be compared with it
            await stream(scope, receive, send, live.head.status, self._lines(None), live.read())
            return
        record = await self._record(asked)
        lines, size = self._lines(record), record.size if record else live.head.length
        planned = plan(
            method, asked, etag=lines.get("etag"), modified=live.head.headers.get("last-modified"), size=size
        )
        if planned.ranges and not await _soon(partial(live.reached, planned.ranges[0][0])):
            planned = Plan(200)  # RFC 9110 section 14.2 allows it: no client waits long for a part
        if method == "HEAD" and not record:
            lines["accept-ranges"] = "none"
        if size == 0:
            await live.finished()  # an empty body is complete with its head: keep the promise before sending it
        await respond(scope, receive, send, planned, lines, Readable(size, live.read))

    async def _record(self, asked: Mapping[str, str]) -> Record | None:
        """Return the record where an answer is better that begins with it, None where that takes too long."""
        live, size = self._live, self._live.head.length
        if not live.digest and asked.get("if-match", "*").strip() != "*":
            return await live.finished()  # what is compared must be known
        if live.verified and size is not None and size <= VERIFIED_FIRST:
            return await _soon(live.finished)  # bytes with another digest are an error with a text then
        return await _soon(live.finished) if size is None and "range" in asked else None

    def _lines(self, record: Record | None) -> dict[str, str]:
        live = self._live
        lines = _described(live.head.headers, self._pinned)
        if record or live.digest:
            lines["etag"] = record.etag if record else f'"{live.digest}"'
        lines["accept-ranges"] = "none" if live.unkept else "bytes"
        audience = "public" if live.head.scope == PUBLIC else "private"
        lines["cache-control"] = "no-store" if live.unkept else f"{audience}, {FOREVER}"
        lines["cache-status"] = self.status
        if self._vary:
            lines["vary"] = self._vary
        return lines


def fetched(live: FlightReader) -> str:
    """Return the `Cache-Status` (RFC 9211) of what an upstream is asked for now."""
    kept = f'; detail="{live.unkept}"' if live.unkept else "; stored"
    collapsed = "; collapsed" if live.collapsed else ""
    return f"httpcache; fwd=uri-miss; fwd-status={live.head.status}{kept}{collapsed}"


async def _soon(event: Callable[[], Awaitable[T]]) -> T | None:
    """Wait for something, but not longer than clients wait for an answer to begin; None where it takes longer."""
    with anyio.move_on_after(SOON):
        return await event()
    return None


class BytesResponse(Cacheable):
    """A page that the mirror made itself, in the content coding that the client likes.

    `lasting`: it was made of the store's entries alone, and is the answer as long as these do not change.
    """

    def __init__(
        self, body: Body, media_type: str, cache_control: str, headers: Mapping[str, str], *, lasting: bool = False
    ) -> None:
        self._body = body
        self._common = {"content-type": media_type, "cache-control": cache_control, **headers}
        self._lasting = lasting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        lines, body = await self._coded(scope)
        # `Range` is ignored, as it may be (RFC 9110 section 14.2): nobody resumes a page.
        planned = plan(scope["method"], request_headers(scope), etag=lines["etag"], modified=None, size=None)
        await respond(scope, receive, send, planned, lines, Readable(len(body), lambda start, stop: _all(body)))

    async def ready(self, scope: Scope) -> CachedResponse | None:
        """See Cacheable."""
        if not self._lasting:
            return None
        lines, body = await self._coded(scope)
        start = head(200, lines | {"content-length": str(len(body))})
        return CachedResponse(start, {"type": "http.response.body", "body": body}, lambda: True)

    async def _coded(self, scope: Scope) -> tuple[dict[str, str], bytes]:
        encoded = await self._body.encoded(", ".join(Headers(scope=scope).getlist("accept-encoding")))
        coding = {} if encoded.coding == IDENTITY else {"content-encoding": encoded.coding}
        return self._common | coding | {"etag": encoded.etag}, encoded.body


async def _all(body: bytes) -> AsyncIterator[bytes]:
    yield body


def answer_with(
    store: Store,
    outcome: Record | FlightReader | PassedThrough,
    vary: str | None = "Accept",
    pinned: str = "",
    slashed: Callable[[str], str | None] | None = None,
    status: str = HIT,
) -> ASGIApp:
    """Return the response for what the mirror found.

    `pinned` is what the targets of its `Link` begin with (`Request.pinned`); without it there is none. `slashed` is
    `Request.slashed`: with it HTML that an upstream has at the address with a slash is answered by a redirect there.
    `status` is the `Cache-Status` of a record.
    """
    location = _slashed(outcome, slashed) if slashed else None
    if location:
        return redirect(location)
    if isinstance(outcome, Record):
        return FrozenResponse(store, outcome, status, vary=vary, pinned=pinned)
    if isinstance(outcome, FlightReader):
        return LiveResponse(outcome, vary=vary, pinned=pinned)
    said = HIT if outcome.hit else f"httpcache; fwd=uri-miss; fwd-status={outcome.status}"
    return PlainResponse(outcome.status, outcome.body, _led(outcome.headers, pinned) | {"cache-status": said})


def _slashed(outcome: Record | FlightReader | PassedThrough, slashed: Callable[[str], str | None]) -> str | None:
    """Return where a page of HTML is redirected to, and close it; None where it is served as it is."""
    if isinstance(outcome, PassedThrough):
        return None
    final, headers = (
        (outcome.final, outcome.headers) if isinstance(outcome, Record) else (outcome.head.url, outcome.head.headers)
    )
    location = slashed(final) if "html" in headers.get("content-type", "").lower() else None
    if location and isinstance(outcome, FlightReader):
        outcome.close()
    return location


def error_response(error: MirrorError) -> ASGIApp:
    """Return the response that tells a client of an error."""
    forwarded = "; fwd=uri-miss" if isinstance(error, UpstreamError) else ""
    said = {"cache-status": f"httpcache{forwarded}; detail={type(error).__name__}"} | error.headers
    if not error.problem:
        return text(error.status, error.text, said)
    details = {"title": HTTPStatus(error.status).phrase, "status": error.status, "detail": error.text}
    return PlainResponse(error.status, msgspec.json.encode(details), said | {"content-type": PROBLEM})


def redirect(location: str, status: int = 307) -> ASGIApp:
    """Return a redirect to a path of the mirror, the root path included in it."""
    return PlainResponse(status, b"", {"location": location})


def _described(kept: Mapping[str, str], pinned: str) -> dict[str, str]:
    """Return the headers for an upstream's bytes: a browser downloads them, whatever the upstream said (RFC 6266)."""
    _, semicolon, parameters = kept.get("content-disposition", "").partition(";")
    lines = {"content-type": DEFAULT_TYPE, **kept, "content-disposition": f"attachment{semicolon}{parameters}"}
    return _led(lines, pinned)


def _led(lines: dict[str, str], pinned: str) -> dict[str, str]:
    """Lead the links of an upstream's answer through the pin, as `next` of an API that gives a list page by page."""
    if "link" not in lines:
        return lines
    links = map_links(lines["link"], lambda url: pinned + url) if pinned else ""
    return {name: value for name, value in lines.items() if name != "link"} | ({"link": links} if links else {})
