"""Sends responses: the headers, ranges and multipart bodies, and what happens when a client disconnects."""

from __future__ import annotations

import asyncio
import logging
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from httpcache.errors import MirrorError
from httpcache.store.record import Record
from httpcache.store.usage import Subject

from .conditional import Plan

log = logging.getLogger("httpcache")
DEFAULT_TYPE = "application/octet-stream"
SAFETY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
}


class Answer(ABC):
    """A response that says what it is an answer of."""

    @abstractmethod
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""

    @property
    def record(self) -> Record | None:
        """The record whose body is the answer's, or the client is sent to, once the response has been sent."""
        return None

    @property
    def subject(self) -> Subject | None:
        """What is noted as used once the response has been sent, if anything."""
        return subject(self.record) if self.record else None


class PlainResponse(Answer):
    """A short response without validators: an error, a response passed through, or a redirect.

    `record` is what it leads to, if it sends the client elsewhere for that.
    """

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str], record: Record | None = None) -> None:
        self._status = status
        self._body = body
        self._record = record
        self._lines = {"cache-control": "no-store", **headers}

    @property
    def record(self) -> Record | None:
        """See Answer."""
        return self._record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await start_response(send, self._status, self._lines | {"content-length": str(len(self._body))})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self._body})


def subject(record: Record) -> Subject:
    """Return what is noted as used when a record is answered."""
    return Subject(record.pin, record.target, record.url)


def text(status: int, body: str, headers: Mapping[str, str] | None = None) -> ASGIApp:
    """Return a short plain-text response."""
    lines = {"content-type": "text/plain; charset=utf-8", **(headers or {})}
    return PlainResponse(status, f"{body}\n".encode(), lines)


class Readable:
    """A body that can be read from any offset; `size` in bytes is None while it is not known."""

    def __init__(self, size: int | None, read: Callable[[int, int | None], AsyncIterator[bytes]]) -> None:
        self.size = size
        self.read = read


async def respond(
    scope: Scope, receive: Receive, send: Send, planned: Plan, lines: dict[str, str], body: Readable
) -> None:
    """Send the planned response for a body (RFC 9110 sections 13 and 14)."""
    if planned.status == 304:
        kept = {name: value for name, value in lines.items() if not name.startswith("content-")}
        await start_response(send, 304, kept)
        await send({"type": "http.response.body", "body": b""})
    elif planned.status == 416:
        headers = {"content-range": f"bytes */{body.size}"} | _kept(lines, "cache-status")
        await text(416, "the range is not satisfiable", headers)(scope, receive, send)
    elif planned.status == 412:
        await text(412, "the precondition failed", _kept(lines, "cache-status", "etag"))(scope, receive, send)
    elif len(planned.ranges) > 1:
        await _send_multipart(scope, receive, send, planned, lines, body)
    else:
        start, stop = planned.ranges[0] if planned.ranges else (0, body.size)
        if planned.ranges:
            lines = lines | {"content-range": f"bytes {start}-{planned.ranges[0][1] - 1}/{body.size}"}
        if stop is not None:
            lines = lines | {"content-length": str(stop - start)}
        await stream(scope, receive, send, planned.status, lines, body.read(start, stop))


def _kept(lines: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: lines[name] for name in names if name in lines}


async def _send_multipart(
    scope: Scope, receive: Receive, send: Send, planned: Plan, lines: dict[str, str], body: Readable
) -> None:
    """Send several ranges as multipart/byteranges (RFC 9110 section 14.6)."""
    boundary = secrets.token_hex(16)
    kind = lines.get("content-type", DEFAULT_TYPE)
    heads = [
        f"\r\n--{boundary}\r\nContent-Type: {kind}\r\n"
        f"Content-Range: bytes {start}-{stop - 1}/{body.size}\r\n\r\n".encode("latin-1")
        for start, stop in planned.ranges
    ]
    tail = f"\r\n--{boundary}--\r\n".encode()
    length = sum(map(len, heads)) + sum(stop - start for start, stop in planned.ranges) + len(tail)

    async def parts() -> AsyncIterator[bytes]:
        for head, (start, stop) in zip(heads, planned.ranges, strict=True):
            yield head
            async for chunk in body.read(start, stop):
                yield chunk
        yield tail

    lines = lines | {
        "content-type": f"multipart/byteranges; boundary={boundary}",
        "content-length": str(length),
    }
    await stream(scope, receive, send, 206, lines, parts())


async def stream(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int,
    lines: dict[str, str],
    chunks: AsyncIterator[bytes],
) -> None:
    """Send the headers and the chunks. Stops if the client disconnects; breaks the connection if the chunks fail.

    Nothing is sent before the first chunk has arrived, so that an earlier failure can be answered with a proper error.
    """
    if scope["method"] == "HEAD":
        await start_response(send, status, lines)
        await send({"type": "http.response.body", "body": b""})
        return
    first = await anext(chunks, b"")
    await start_response(send, status, lines)

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.cancel()

    with anyio.CancelScope() as gone:
        watching = asyncio.ensure_future(watch())  # a task group takes five times as long to begin and to end
        try:
            await send({"type": "http.response.body", "body": first, "more_body": True})
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except MirrorError as error:
            # Returning without ending the body makes the server break the connection: the client must not mistake
            # what it has for the complete body.
            log.warning("a client was cut off: %s", error.text)
        finally:
            watching.cancel()


def request_headers(scope: Scope) -> dict[str, str]:
    """Return the request headers; repeated ones are joined into a comma-separated list (RFC 9110 section 5.3)."""
    merged: dict[str, str] = {}
    for name, value in Headers(scope=scope).items():
        merged[name] = f"{merged[name]}, {value}" if name in merged else value
    return merged


async def start_response(send: Send, status: int, lines: Mapping[str, str]) -> None:
    """Send the status and headers of a response."""
    await send(head(status, lines))


def head(status: int, lines: Mapping[str, str]) -> Message:
    """Return the ASGI message that starts a response, with headers that stop browsers from running its content."""
    lines = SAFETY | dict(lines)
    headers = [(name.encode("ascii"), value.encode("latin-1", "replace")) for name, value in lines.items()]
    return {"type": "http.response.start", "status": status, "headers": headers}


def can_send_paths(scope: Scope) -> bool:
    """Whether the server supports sending a file by its path (`http.response.pathsend`), and this is a GET."""
    return scope["method"] == "GET" and "http.response.pathsend" in scope.get("extensions", {})
