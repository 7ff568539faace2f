"""Serves the index pages of any registry behind a pin, with links rewritten to stay within the pin.

The raw bytes are frozen as received, and a page is rewritten each time it is served. So pip, which wants HTML, uv,
which wants JSON, and curl, which accepts anything, all see the same frozen page, without links that leave the pin.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Container, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
from starlette.types import ASGIApp

from httpcache import only_if_cached
from httpcache.accept import admits
from httpcache.credentials import Credentials
from httpcache.errors import BadUpstream
from httpcache.freezing.flight import FlightReader, PassedThrough
from httpcache.freezing.mirror import ANY, NOBODY, Expected, Mirror, Want
from httpcache.request import Request
from httpcache.store.record import Record
from httpcache.target import Target, looks_like_url, origin, read_url, split_path
from httpcache.upstream.client import Headers, UpstreamResponse
from httpcache.web.content_coding import Body
from httpcache.web.page_cache import PageCache
from httpcache.web.responses import FOREVER, HIT, STORED, answer_with, fetched
from httpcache.web.sending import subject
from pypi_adapter.addresses import advertised
from pypi_adapter.registry.client import INDEX_ACCEPT, INSTALLER
from pypi_adapter.registry.file_coding import Announced, without_codings
from pypi_adapter.registry.files import file_digests, metadata_digests
from pypi_adapter.registry.metadata_source import SUFFIX, MetadataSource, confirm, metadata_url, settle, soon
from pypi_adapter.registry.ranges import Ranges
from pypi_adapter.simple.model import File, Page, ProjectList, is_distribution
from pypi_adapter.simple.negotiation import MediaType, choose, is_installer

from .expired import LinkedFiles
from .frozen_pages import SNIFFED, FrozenPages, admitted, bad_page, begins_as_page, may_be_page, page_key
from .index_response import chosen, page_response, rendered
from .listings import Listings, filename_of, link


class Pinned:
    """Answers `/<pin>/<upstream-url>` as Python installers need it."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._pages = FrozenPages(mirror)
        self._listings = Listings(mirror.store)
        self._links = LinkedFiles(mirror, self._pages, self._listings)
        self._ranges = Ranges(mirror.store)
        self._cache: PageCache[tuple[str, str, MediaType, bool, int], Body] = PageCache()

    async def answer(self, request: Request) -> ASGIApp | None:
        """Answer a request for an address behind a pin, or return None for any other address. Raises MirrorError."""
        if not looks_like_url(split_path(request.path).rest):
            return None
        target = request.target
        request = replace(request, credentials=self._mirror.credentials(target, request.credentials))
        metadata = _metadata_of(target)
        if metadata:
            return await self._metadata(request, *metadata)
        if is_distribution(filename_of(target.url)):
            return await self._file(request, target)
        return await self._any(request, target)

    def kind(self, path: str) -> str | None:
        """Return "metadata" for the metadata file of a wheel behind a pin, None for all else."""
        is_metadata = path.endswith(f".whl{SUFFIX}") and looks_like_url(split_path(path).rest)
        return "metadata" if is_metadata else None

    async def _any(self, request: Request, target: Target) -> ASGIApp:
        """Answer with an index page, or with the bytes as received if it is not one or the raw bytes are requested."""
        installer = is_installer(request.accept) and not request.raw
        want = self._any_want(request, target, installer)
        started = time.time()
        if request.raw:
            outcome = await self._mirror.answer(target, want)
        else:
            outcome = await self._settled(target, want, installer)
            if isinstance(outcome, Record) and (installer or may_be_page(outcome.headers)):
                page = await self._rewritten(request, target, want, outcome, started)
                if page:
                    return page if installer else await self._absent(request, target, want) or page
            if (
                isinstance(outcome, FlightReader)
                and outcome.unkept
                and (installer or may_be_page(outcome.head.headers))
            ):
                page = await self._unkept(request, target, outcome, installer)
                if page:
                    return page
        status = STORED if isinstance(outcome, Record) and outcome.created >= started else HIT
        return answer_with(self._mirror.store, outcome, pinned=request.pinned, slashed=request.slashed, status=status)

    async def _absent(self, request: Request, target: Target, want: Want) -> ASGIApp | None:
        """Return the frozen absence of a page if an installer got it before the page was frozen: it applies to all."""
        outcome = await self._mirror.answer(target, replace(want, freeze_absence=True))
        if isinstance(outcome, FlightReader):
            outcome.close()
        if not isinstance(outcome, PassedThrough):
            return None
        return answer_with(self._mirror.store, outcome, pinned=request.pinned)

    def _any_want(self, request: Request, target: Target, installer: bool) -> Want:
        async def verify(record: Record, file: Path) -> None:
            await self._pages.check(record, file, installer=installer)

        async def on_frozen(record: Record) -> None:
            if installer or may_be_page(record.headers):
                page = (await self._pages.read(record)).page
                if isinstance(page, Page):
                    await self._note(target, want, record, page)

        def takes(kind: str) -> bool:
            if installer:
                return may_be_page({"content-type": kind})
            return admits(request.accept, kind) or admitted(kind, request.accept)

        accept = INDEX_ACCEPT if installer else request.accept
        want = Want(
            accept,
            takes,
            request.credentials,
            INSTALLER if installer else "",
            verify=verify,
            on_frozen=on_frozen,
            is_same=self._pages.is_same,
            freeze_absence=installer,
            may_redirect=request.is_get and not installer,
        )
        return want

    async def _settled(self, target: Target, want: Want, installer: bool) -> Record | FlightReader | PassedThrough:
        """Return the mirror's answer: once it is frozen if it may be an index page, otherwise at once."""
        outcome = await self._mirror.answer(target, want)
        if not isinstance(outcome, FlightReader) or not (installer or may_be_page(outcome.head.headers)):
            return outcome
        with ExitStack() as stack:
            stack.callback(outcome.close)
            if not begins_as_page(outcome.head.headers, await anext(outcome.read(0, SNIFFED), b"")):
                stack.pop_all()
                return outcome
            await self._check_live(outcome, installer)
            if outcome.unkept or not await outcome.ends_within(self._mirror.settings.max_page):
                stack.pop_all()
                return outcome
            await outcome.finished()
        return await self._settled(target, want, installer)  # look again: it may have been removed since

    async def _check_live(self, live: FlightReader, installer: bool) -> None:
        """Raise BadUpstream if a page that must not be served unread is too long to be read."""
        if not await live.ends_within(self._mirror.settings.max_page):
            reading = self._pages.too_long(live.head.headers)
            if reading.is_refused(installer=installer):
                raise bad_page(live.head.url, reading.reason)

    async def _unkept(self, request: Request, target: Target, live: FlightReader, installer: bool) -> ASGIApp | None:
        """Return an index page that is passed on without freezing, or None if it is not one. Raises BadUpstream."""
        with ExitStack() as stack:
            stack.callback(live.close)
            if await live.ends_within(self._mirror.settings.max_page):
                reading = await self._pages.read_live(live)
                if reading.page and reading.is_page(installer=False):
                    media_type = chosen(request.accept) if installer else choose(request.accept) or MediaType.LEGACY
                    body = await _body(reading.page, media_type, f"{request.root}/{target.pin}/", live.head.url, (), ())
                    return page_response(media_type, body, "no-store", fetched(live), subject=None, lasting=False)
                if reading.looks and installer:
                    raise BadUpstream(f"{live.head.url} lists no files, and cannot be frozen: {live.unkept}")
            stack.pop_all()
        return None

    async def _rewritten(
        self, request: Request, target: Target, want: Want, record: Record, started: float
    ) -> ASGIApp | None:
        """Return an index page in the media type the client accepts, or None if it is not one. Raises BadUpstream."""
        installer = is_installer(request.accept)
        media_type = chosen(request.accept) if installer else choose(request.accept) or MediaType.LEGACY
        pinned = f"{request.root}/{target.pin}/"
        key = (page_key(record), pinned, media_type, installer, self._ranges.learned)
        body = self._cache.get(key)
        if body is None or not self._listings.is_noted(record):
            reading = await self._pages.read(record)
            if reading.is_refused(installer=installer):
                raise bad_page(record.final, reading.reason)
            if reading.page is None or not reading.is_page(installer=installer):
                return None
            if isinstance(reading.page, Page):
                await self._note(target, want, record, reading.page)
            if body is None:
                others = () if installer or media_type is MediaType.JSON else await self._pages.others(record)
                slow = await self._slow(request, reading.page)
                body = await _body(reading.page, media_type, pinned, record.final, others, slow)
                if not only_if_cached.is_asked():  # else no host was tested for it
                    self._cache.put((*key[:4], self._ranges.learned), body)
        return page_response(
            media_type,
            body,
            f"{'private' if record.scope else 'public'}, {FOREVER}",
            HIT if record.created < started else STORED,
            subject=subject(record),
            lasting=not record.scope and record.created < started,
        )

    async def _note(self, target: Target, want: Want, record: Record, page: Page) -> None:
        """Note which files a page lists, unless its record has been removed."""
        key = await self._mirror.record_key(target, want)
        if key:
            await self._listings.note(key, record, page)

    async def _slow(self, request: Request, page: Page | ProjectList) -> Container[str]:
        """Return the origins that ignore range requests, among those of the page's wheels without a metadata file."""

        def ask(url: str, headers: Headers) -> AbstractAsyncContextManager[UpstreamResponse]:
            own = origin(url) == request.target.origin  # the credentials are only for the page's origin
            credentials = request.credentials if own else NOBODY
            return self._mirror.upstream.ask(url, headers=(("Accept", ANY), *headers), credentials=credentials)

        files = page.files if isinstance(page, Page) else ()
        links = [link(file.url) for file in files if file.filename.endswith(".whl") and not file.core_metadata]
        hosts = {origin(found.url): found.wire for found in links if found}
        if only_if_cached.is_asked():
            return await self._ranges.known_to_ignore(hosts)
        return await self._ranges.ignoring(hosts, ask)

    async def _file(self, request: Request, target: Target) -> ASGIApp:
        want = replace(self._file_want(request, target), may_redirect=request.is_get)
        outcome = await self._mirror.answer(target, want)
        return answer_with(self._mirror.store, outcome, pinned=request.pinned)

    def _file_want(self, request: Request, target: Target) -> Want:
        @asynccontextmanager
        async def source(credentials: Credentials) -> AsyncIterator[UpstreamResponse]:
            listed, accept = await self._listed(target), (("Accept", request.accept),)
            async with self._links.ask(target, _spelling(target, listed), accept, credentials) as answer:
                expected = _expected(listed)
                announced = Announced(filename_of(target.url), expected.digests, expected.size)
                yield await without_codings(answer, announced, self._mirror.settings.max_file)

        async def expect() -> Expected:
            return _expected(await self._listed(target))

        async def on_frozen(wheel: Record) -> None:
            listed = await self._listed(target)
            if filename_of(target.url).endswith(".whl") and not any(map(metadata_digests, listed)):
                metadata = Target(target.pin, metadata_url(target.url))
                want = Want(credentials=request.credentials)
                await settle(self._mirror, metadata, want, filename_of(target.url), wheel)

        return Want(request.accept, credentials=request.credentials, source=source, expect=expect, on_frozen=on_frozen)

    async def _listed(self, target: Target) -> list[File]:
        return [listing.file for listing in await self._listings.find(target)]

    async def _metadata(self, request: Request, wheel: Target, metadata: Target) -> ASGIApp:
        async def expect() -> Expected:
            listed = await self._listed(wheel)
            return Expected(tuple(sorted({digest for file in listed for digest in metadata_digests(file)})))

        async def on_frozen(record: Record) -> None:
            found = await self._mirror.kept(wheel, self._file_want(request, wheel))
            if found and not any(map(metadata_digests, await self._listed(wheel))):
                await confirm(self._mirror, metadata, want, filename_of(wheel.url), found)

        want = Want(
            credentials=request.credentials,
            source=lambda credentials: self._metadata_source(request, wheel, credentials),
            expect=expect,
            on_frozen=on_frozen,
        )
        outcome = await soon(self._mirror.answer(metadata, want), filename_of(wheel.url))
        return answer_with(self._mirror.store, outcome)

    @asynccontextmanager
    async def _metadata_source(
        self, request: Request, wheel: Target, credentials: Credentials
    ) -> AsyncIterator[UpstreamResponse]:
        def ask(headers: Headers, *, metadata: bool = False) -> AbstractAsyncContextManager[UpstreamResponse]:
            accept = (("Accept", ANY), *headers)
            return self._links.ask(wheel, url, accept, credentials, metadata=metadata)

        want = self._file_want(request, wheel)
        listed = await self._listed(wheel)
        url = _spelling(wheel, listed)
        source = MetadataSource(
            filename=filename_of(wheel.url),
            url=url,
            own=(lambda: ask((), metadata=True)) if not listed or any(file.core_metadata for file in listed) else None,
            frozen=lambda: self._mirror.lookup(wheel, want),
            ask=lambda headers: self._ranges.watching(url, ask(headers)),
            freeze=lambda: self._mirror.whole(wheel, want),
            store=self._mirror.store,
            digests=tuple(digest for file in listed for digest in file_digests(file)),
            announced=tuple(digest for file in listed for digest in metadata_digests(file)),
            credentials=credentials,
        )
        async with source() as answer:
            yield answer


def _expected(listed: Sequence[File]) -> Expected:
    """Return what the pages of a pin announce of a file."""
    digests = {digest for file in listed for digest in file_digests(file)}
    sizes = {file.size for file in listed}
    return Expected(tuple(sorted(digests)), sizes.pop() if len(sizes) == 1 else None)


def _spelling(target: Target, listed: Sequence[File]) -> str:
    """Return the URL of a file as the pages of the pin spell it: pip and uv each quote links in their own way."""
    spelled = [read_url(file.url).wire for file in listed]
    return target.wire if target.wire in spelled or not spelled else spelled[0]


async def _body(
    page: Page | ProjectList, media_type: MediaType, pinned: str, url: str, others: Sequence[str], slow: Container[str]
) -> Body:
    """Render a page from `url` with links that stay within the pin; `others` are its links not to files."""
    prefix = pinned + url[: url.rindex("/") + 1]
    led = [pinned + address.wire for other in others if (address := link(other))]
    return await rendered(page, media_type, lambda file: _linked(file, pinned, slow), prefix, led)


def _linked(file: File, pinned: str, slow: Container[str]) -> File | None:
    """Return a file with its address behind the pin, or None if it cannot be fetched.

    A metadata file is advertised if the index has one, or if its origin is not in `slow`.
    """
    address = link(file.url)
    if address is None:
        return None
    provenance = link(file.provenance) if file.provenance else None
    return msgspec.structs.replace(
        file,
        url=pinned + address.wire,
        core_metadata=advertised(file) if file.core_metadata or origin(address.url) not in slow else None,
        provenance=pinned + provenance.wire if provenance else None,
    )


def _metadata_of(target: Target) -> tuple[Target, Target] | None:
    """Return the wheel and the metadata file of an address, or None if it is not the address of a metadata file."""
    url = _wheel_url(target.url)
    if url is None:
        return None
    wire = _wheel_url(target.wire) or url
    return Target(target.pin, url, wire), Target(target.pin, metadata_url(url), metadata_url(wire))


def _wheel_url(url: str) -> str | None:
    """Return the URL of the wheel of a metadata file, or None if the URL is not that of a metadata file.

    For `f.whl?a=b` uv appends the suffix to the path and pip to the query: both mean `f.whl.metadata?a=b`.
    """
    path, mark, query = url.partition("?")
    if path.endswith(".whl" + SUFFIX):
        return path.removesuffix(SUFFIX) + mark + query
    return url.removesuffix(SUFFIX) if path.endswith(".whl") and query.endswith(SUFFIX) else None
