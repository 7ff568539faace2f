"""Finds files whose link on a frozen page has expired, as signed links do after a while.

The frozen page is not changed. Its address is requested again, and if the page still links the same file, the file is
fetched from the new link. A file is the same if its name and digest are; without a digest, if its name and its path or
size are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from httpcache.credentials import Credentials
from httpcache.errors import MirrorError, UpstreamError, redact
from httpcache.freezing.mirror import NOBODY, Mirror
from httpcache.store.record import Record
from httpcache.target import Address, Target, origin
from httpcache.upstream.client import Headers, UpstreamResponse
from pypi_adapter.registry.client import INDEX_ACCEPT, INSTALLER
from pypi_adapter.registry.files import REFUSED, detached, file_digests
from pypi_adapter.registry.metadata_source import metadata_url
from pypi_adapter.simple.model import File, Page

from .frozen_pages import FrozenPages
from .listings import Listing, Listings, filename_of, link

PAGES = 3  # at most so many of the pages that list a file are requested again
_HEADERS = (("Accept", INDEX_ACCEPT), ("Cache-Control", "max-age=0"))


class LinkedFiles:
    """Requests the files that frozen pages link from their upstreams."""

    def __init__(self, mirror: Mirror, pages: FrozenPages, listings: Listings) -> None:
        self._mirror = mirror
        self._pages = pages
        self._listings = listings

    @asynccontextmanager
    async def ask(
        self, file: Target, url: str, headers: Headers, credentials: Credentials, *, metadata: bool = False
    ) -> AsyncIterator[UpstreamResponse]:
        """Request a file at `url`, its address on a page of its pin; if that is refused, at its current address.

        `metadata`: request its metadata file instead. `credentials` are sent only to the origin of `file`. Raises
        MirrorError.
        """
        first = metadata_url(url) if metadata else url
        async with self._mirror.upstream.ask(first, headers=headers, credentials=credentials) as answer:
            if answer.status not in REFUSED or "www-authenticate" in answer.headers:
                yield answer
                return
            answer = await detached(answer)
        newer = await self._newer(file, url, answer, credentials)  # after that exchange: none may wait for another
        if isinstance(newer, UpstreamResponse):
            yield newer
            return
        address, sent = newer
        allowed = credentials if origin(address.url) == file.origin else NOBODY
        again = metadata_url(address.wire) if metadata else address.wire
        async with self._mirror.upstream.ask(again, headers=headers, credentials=allowed) as answer:
            yield replace(answer, sent=answer.sent or sent)  # a file found through a private page is just as private

    async def _newer(
        self, file: Target, url: str, refusal: UpstreamResponse, credentials: Credentials
    ) -> tuple[Address, Headers] | UpstreamResponse:
        """Return the current link to a file and the credential headers sent to find it, or else the refusal."""
        listings = await self._listings.find(file)
        reason = ""
        for page in list({listing.page.url: listing.page for listing in listings}.values())[:PAGES]:
            try:
                files, sent = await self._files(page, file, credentials)
            except UpstreamError as error:
                reason = f"its page cannot be fetched again: {error.text}"
                continue
            except MirrorError:  # the mirror is offline, or it may not send requests to the address of the page
                continue
            found = _same(files, file, listings)
            if any(address.wire == url for address in found):
                return refusal  # the link has not expired: the file is refused for another reason
            if found:
                return found[0], sent
            reason = "its page no longer links the same file"
        return _expired(file, refusal, reason) if reason else refusal

    async def _files(self, page: Record, file: Target, credentials: Credentials) -> tuple[Sequence[File], Headers]:
        """Return the files a page lists now, and the credential headers sent for it. Raises MirrorError."""
        allowed = credentials if origin(page.url) == file.origin else NOBODY
        if "?" in page.url:
            raise UpstreamError("the values of its query are not kept")
        ask = self._mirror.upstream.ask
        async with ask(page.url, headers=_HEADERS, credentials=allowed, agent=INSTALLER) as answer:
            if answer.status != 200:
                raise UpstreamError(f"{page.url} answered {answer.status}")
            body = await answer.read(self._mirror.settings.max_page, page.url)
        found = (await self._pages.interpret(body, answer.headers, answer.base)).page
        return found.files if isinstance(found, Page) else (), answer.sent


def _same(files: Iterable[File], target: Target, listings: Sequence[Listing]) -> list[Address]:
    """Return the addresses at which `files` has the file of `target`, those with the same path first."""
    path, name = _path(target.url), filename_of(target.url)
    digests = {digest for listing in listings for digest in file_digests(listing.file)}
    sizes = {listing.file.size for listing in listings} - {None}
    found = []
    for file in files:
        address = link(file.url)
        if address and filename_of(address.url) == name:
            known = digests.intersection(file_digests(file))
            if known if digests else (_path(address.url) == path or file.size in sizes):
                found.append(address)
    return sorted(found, key=lambda address: _path(address.url) != path)


def _path(url: str) -> str:
    return url[len(origin(url)) :].partition("?")[0]


def _expired(file: Target, refusal: UpstreamResponse, reason: str) -> UpstreamResponse:
    """Return the refusal with a body that explains it and says what to do."""
    text = (
        f"the upstream answered {refusal.status} for the link to {redact(file.url)} on the frozen page of the pin "
        f"{file.pin}: it has expired, or the file is gone, and {reason}. Use a new pin, which freezes the page as it "
        "is now. If links expire after a while, fetch all files soon after the page, with one full install.\n"
    )
    headers = refusal.headers.copy()
    for name in ("content-length", "content-encoding", "transfer-encoding"):
        headers.pop(name, None)
    headers["content-type"] = "text/plain; charset=utf-8"
    return replace(refusal, headers=headers, body=_once(text.encode()))


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
