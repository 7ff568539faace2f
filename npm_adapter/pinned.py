"""Serves packuments behind a pin with links within the pin, and checks tarballs against the announced digests.

npm, pnpm and Yarn accept only absolute URLs of tarballs, so these are built with the host that the client requested,
and the answer is private to that client. The upstream's own bytes are frozen, of the full packument if the upstream has
it: both forms are made from it.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread
import msgspec
from starlette.types import ASGIApp

from httpcache.errors import BadUpstream
from httpcache.freezing.flight import FlightReader, PassedThrough
from httpcache.freezing.mirror import Expected, Mirror, Want
from httpcache.lru import SizedLRU
from httpcache.request import Request
from httpcache.store.record import Record
from httpcache.target import Address, Target, canonical_url, looks_like_url, split_path
from httpcache.upstream.decoding import BadCoding, decoded
from httpcache.web.content_coding import Body
from httpcache.web.page_cache import PageCache
from httpcache.web.responses import FOREVER, HIT, STORED, BytesResponse, answer_with
from httpcache.web.sending import subject

from . import packument
from .announcements import Announcements, Tarball

SNIFFED = 64  # bytes at the start of an answer that show whether it can be a packument
OTHERS = 10_000  # answers remembered as not being packuments
WHOLE = "application/json, */*;q=0.1"
"""The `Accept` of requests for packuments: for the full form, from which the abbreviated one is made."""

_CLIENT = re.compile(r"(npm|pnpm|yarn|bun)/", re.IGNORECASE)


class _Made(NamedTuple):
    """A rendered packument, the tarballs that it announces, and the URL of its registry."""

    body: bytes
    tarballs: list[Tarball]
    registry: str | None


class Pinned:
    """Answers `/<pin>/<upstream-url>` as npm clients need it."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._announcements = Announcements(mirror.store)
        self._cache: PageCache[tuple[str, ...], Body] = PageCache()
        self._others: SizedLRU[str, bool] = SizedLRU(OTHERS)
        self._reading = anyio.CapacityLimiter(1)  # parsing a packument takes many times its size in memory

    async def answer(self, request: Request) -> ASGIApp | None:
        """Answer npm clients and requests for announced tarballs, or return None for others. Raises MirrorError."""
        if not looks_like_url(split_path(request.path).rest):
            return None
        target = request.target
        request = replace(request, credentials=self._mirror.credentials(target, request.credentials))
        if _is_client(request) or _path(target).endswith(".tgz"):
            announced = await self._announcements.find(target)
            if announced:
                return await self._tarball(request, target, Expected(announced))
        if not request.raw and await self._asks_registry(request, target):
            return await self._packument(request, target)
        return None

    async def _asks_registry(self, request: Request, target: Target) -> bool:
        """Whether a packument or another answer of a registry is requested: Yarn 4 sends no `Accept`."""
        if "accept" in request.headers:
            return _is_client(request) and "json" in request.accept.lower()
        return await self._announcements.is_in_registry(target)

    async def shown(self, request: Request, outcome: Record | FlightReader, status: str) -> ASGIApp | None:
        """Return a packument for a client that does not identify itself as an npm client; None for anything else."""
        if request.raw or not looks_like_url(split_path(request.path).rest):
            return None
        if isinstance(outcome, Record):
            if not _is_json(outcome.headers) or self._others.get(outcome.digest):
                return None
            return await self._rewritten(request, outcome, status)
        if not await self._may_be_packument(outcome):
            return None
        record = await self._mirror.landed(request.target, outcome)
        rewritten = await self._rewritten(request, record, STORED)
        return rewritten or answer_with(self._mirror.store, record, pinned=request.pinned)

    async def _may_be_packument(self, live: FlightReader) -> bool:
        """Whether to wait until an answer is frozen: it may be a JSON object within the size limit of a page."""
        if not _is_json(live.head.headers) or live.unkept:
            return False
        start = await anext(live.read(0, SNIFFED), b"")
        if "content-encoding" not in live.head.headers and start.lstrip()[:1] not in (b"", b"{"):
            return False
        return await live.ends_within(self._mirror.settings.max_page)

    async def _tarball(self, request: Request, target: Target, expected: Expected) -> ASGIApp:
        async def expect() -> Expected:
            return expected

        want = Want(request.accept, credentials=request.credentials, expect=expect, may_redirect=request.is_get)
        return answer_with(self._mirror.store, await self._mirror.answer(target, want), pinned=request.pinned)

    async def _packument(self, request: Request, target: Target) -> ASGIApp:
        async def verify(record: Record, file: Path) -> None:
            body = await anyio.to_thread.run_sync(file.read_bytes)
            if _looks_wrong(target, body) and await self._made(record, body, "", short=False) is None:
                raise BadUpstream(
                    f"{record.final} is not a packument, but other JSON or HTML; nothing was kept: check the address"
                )

        want = Want(
            WHOLE,
            lambda kind: "html" not in kind.lower(),
            request.credentials,
            verify=verify,
            freeze_absence="/-/" not in _path(target),
        )
        started = time.time()
        outcome = await self._mirror.whole(target, want)
        if isinstance(outcome, PassedThrough):
            return answer_with(self._mirror.store, outcome, pinned=request.pinned)
        status = HIT if outcome.created < started else STORED
        rewritten = await self._rewritten(request, outcome, status)
        return rewritten or answer_with(self._mirror.store, outcome, pinned=request.pinned)

    async def _rewritten(self, request: Request, record: Record, status: str) -> ASGIApp | None:
        """Return a packument in the form the client requests, or None if it is not a packument. Raises MirrorError."""
        pinned, short = request.origin + request.pinned, packument.ABBREVIATED in request.accept.lower()
        pin = request.target.pin
        key = (record.digest, record.final, record.headers.get("content-encoding", ""), pinned, str(short))
        body = self._cache.get(key)
        if body is None or not self._announcements.is_noted(pin, record.digest, record.final):
            made = None
            if record.size <= self._mirror.settings.max_page:
                made = await self._made(record, await self._mirror.read(record), pinned, short=short)
            if made is None:
                self._others.put(record.digest, True, 1)
                return None
            await self._announcements.note(pin, record.digest, canonical_url(record.final), made.tarballs)
            if made.registry:
                await self._announcements.note_registry(pin, canonical_url(made.registry))
            if body is None:
                body = Body(made.body)
                self._cache.put(key, body)
        kind = packument.ABBREVIATED if short else "application/json"
        headers = {"vary": "Accept, Accept-Encoding", "cache-status": status}
        return BytesResponse(body, kind, f"private, {FOREVER}", headers, subject=subject(record))

    async def _made(self, record: Record, body: bytes, pinned: str, *, short: bool) -> _Made | None:
        coding, limit = record.headers.get("content-encoding"), self._mirror.settings.max_page
        work = partial(_make, body, coding, limit, record.final, pinned, short=short)
        return await anyio.to_thread.run_sync(work, limiter=self._reading)


def _make(body: bytes, coding: str | None, limit: int, base: str, pinned: str, *, short: bool) -> _Made | None:
    """Render a packument with links that begin with `pinned`; return None if it is not a packument."""
    try:
        document = packument.read(decoded(body, coding, limit))
    except BadCoding:
        return None
    if document is None:
        return None
    tarballs = [(address.url, digests) for address, digests in packument.announced(document, base)]

    def link(address: Address) -> str:
        return pinned + address.wire

    packument.lead(document, base, link)
    sent = msgspec.json.encode(packument.abbreviated(document) if short else document)
    return _Made(sent, tarballs, packument.registry(document, base))


def _is_client(request: Request) -> bool:
    """Whether a request is from an npm client, judging by its `Accept` and `User-Agent`."""
    named = _CLIENT.match(request.headers.get("user-agent", ""))
    return named is not None or packument.ABBREVIATED in request.accept.lower()


def _is_json(headers: dict[str, str]) -> bool:
    return "json" in headers.get("content-type", "").lower()


def _looks_wrong(target: Target, body: bytes) -> bool:
    """Whether bytes at the address of a packument may be an error or a login page; below `/-/` neither is assumed."""
    return "/-/" not in _path(target) and body.lstrip()[:1] in (b"{", b"<")


def _path(target: Target) -> str:
    return target.url.partition("?")[0]
