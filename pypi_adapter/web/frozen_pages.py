"""Reads frozen answers as index pages: whether they are, what they list, and why one cannot be parsed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import anyio

from httpcache.errors import BadUpstream
from httpcache.freezing.flight import FlightReader
from httpcache.freezing.mirror import Mirror
from httpcache.lru import SizedLRU
from httpcache.store.record import Record
from httpcache.upstream.client import UpstreamResponse
from httpcache.upstream.decoding import BadCoding, decoded
from httpcache.upstream.sign_in import leads_elsewhere
from pypi_adapter.offload import PARSERS, in_parser_thread
from pypi_adapter.simple.html_page import other_links
from pypi_adapter.simple.model import BadPage, Page, ProjectList, is_distribution
from pypi_adapter.simple.negotiation import choose
from pypi_adapter.simple.parser import narrow, parse
from pypi_adapter.simple.same_project import has_in_common

READ_BYTES = 8 * 1024 * 1024  # of pages whose parsed form is kept in memory, where it takes many times that
SNIFFED = 64  # bytes at the start of an answer that show whether it can be a page
OVERHEAD = 500  # bytes that an entry takes even if it is not a page
HEAD_BYTES = 64 * 1024  # in which HTML declares that it is an index page

_SIMPLE = "application/vnd.pypi.simple."
_HTML = ("text/html", "application/xhtml+xml")
_JSON = "application/json"
_BEFORE = b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n"  # what may precede the first character, in any charset
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")  # "binary data bytes": MIME Sniffing Standard, section 3
_API_VERSION = re.compile(rb'"meta"\s*:\s*\{[^{}]{0,1000}"api-version"')
_META = re.compile(rb"<meta[^<>]{1,200}pypi:", re.IGNORECASE)


class Reading(NamedTuple):
    """A frozen answer, read as an index page.

    `page` is None if it is not an index page or cannot be parsed; `reason` says why. `claims`: it declares itself an
    index page, by a media type of PEP 691, its API version (PEP 629) or another `pypi:` meta. `looks`: it is HTML or
    JSON. `size` is in bytes.
    """

    page: Page | ProjectList | None
    reason: str
    claims: bool
    looks: bool
    size: int

    @property
    def lists_files(self) -> bool:
        """Whether it has links to distribution files."""
        return isinstance(self.page, Page) and any(is_distribution(file.filename) for file in self.page.files)

    def is_page(self, *, installer: bool) -> bool:
        """Whether it is served as an index page.

        Installers get everything that can be parsed as one. For other clients it must list distribution files or
        declare itself an index page, because any directory listing has links.
        """
        if installer or self.claims:
            return self.page is not None
        return self.lists_files

    def is_refused(self, *, installer: bool) -> bool:
        """Whether it must not be served: the links of a page that cannot be parsed would leave the pin."""
        return self.page is None and (self.claims or (installer and self.looks))


_NEITHER = Reading(None, "it is neither JSON nor HTML", claims=False, looks=False, size=0)


class FrozenPages:
    """Reads the pages that a mirror has frozen, and keeps the most recently used in memory."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._limit = mirror.settings.max_page
        self._read: SizedLRU[str, Reading] = SizedLRU(READ_BYTES)
        self._reading = anyio.CapacityLimiter(PARSERS)

    async def read(self, record: Record, file: Path | None = None) -> Reading:
        """Read a record as a page; `file` has the bytes if it is not frozen yet. Raises Damaged."""
        key = page_key(record)
        found = self._read.get(key)
        if found is None:
            async with self._reading:
                found = self._read.get(key) or await self._fresh(record, file)  # may have been read meanwhile
            self._read.put(key, found, found.size + OVERHEAD)
        return found

    async def _fresh(self, record: Record, file: Path | None) -> Reading:
        if record.size > self._limit:
            return self.too_long(record.headers)
        if file is None:
            start = await self._mirror.read(record, SNIFFED)
            if not begins_as_page(record.headers, start):
                return _NEITHER
            return await self.interpret(await self._mirror.read(record), record.headers, record.final)
        read = file.read_bytes
        return await in_parser_thread(
            lambda: _interpreted(read(), record.headers, record.final, self._limit), record.size
        )

    def too_long(self, headers: Mapping[str, str]) -> Reading:
        """Return the reading of an answer with these headers that exceeds the size limit of a page."""
        reason = f"it is longer than {self._limit} bytes (--max-page)"
        return Reading(None, reason, is_simple(headers), has_page_type(headers), 0)

    async def interpret(self, body: bytes, headers: Mapping[str, str], url: str) -> Reading:
        """Read the body of an answer with these headers that came from `url`."""
        return await in_parser_thread(lambda: _interpreted(body, headers, url, self._limit), len(body))

    async def read_live(self, live: FlightReader) -> Reading:
        """Read an answer that has arrived but is not frozen. Raises MirrorError."""
        body = b"".join([chunk async for chunk in live.read()])
        return await self.interpret(body, live.head.headers, live.head.url)

    async def is_same(self, record: Record, answer: UpstreamResponse, body: bytes) -> bool:
        """Whether an answer is the current version of the index page of a record: they have a file in common."""
        shown = await self.interpret(body, answer.headers, answer.base)
        return has_in_common((await self.read(record)).page, shown.page)

    async def others(self, record: Record) -> tuple[str, ...]:
        """Return the links of a page that do not lead to files: see `other_links`. Raises Damaged."""
        body = await self._mirror.read(record)
        return await in_parser_thread(lambda: _others(body, record, self._limit), len(body))

    async def check(self, record: Record, file: Path, *, installer: bool) -> None:
        """Refuse to freeze an index page that cannot be parsed, or another page in its place. Raises BadUpstream."""
        if installer or may_be_page(record.headers):
            reading = await self.read(record, file)
            if reading.is_refused(installer=installer):
                raise bad_page(record.final, reading.reason)
            if installer and leads_elsewhere(record.url, record.final) and not reading.lists_files:
                raise BadUpstream(
                    f"{record.url} redirects to {record.final}, which lists no files and may be a sign-in page; "
                    "nothing was kept: check the address and the credentials"
                )


def bad_page(url: str, reason: str) -> BadUpstream:
    """Return the error for a page that cannot be parsed."""
    return BadUpstream(f"{url} cannot be read as an index page, so its links cannot be kept in the pin: {reason}")


def page_key(record: Record) -> str:
    """Return a key of all that a page is parsed from: its bytes, their declared type and coding, and its base URL."""
    said = [record.headers.get(name, "") for name in ("content-type", "content-encoding")]
    return "\n".join([record.digest, record.final, *said])


def may_be_page(headers: Mapping[str, str]) -> bool:
    """Whether an answer with these headers must be inspected: it has a type that pages have, or no type."""
    return not _type(headers) or has_page_type(headers)


def begins_as_page(headers: Mapping[str, str], start: bytes) -> bool:
    """Whether an answer with these headers can be a page, judging by `start`, the first bytes of its body.

    A file without a type may begin with `<` or `{` by chance; the next bytes show that it is not text.
    """
    if _is_markup(headers) or headers.get("content-encoding"):
        return True
    start = narrow(start, "")[0][:SNIFFED].lstrip(_BEFORE)
    return start[:1] in (b"", b"<", b"{") and (has_page_type(headers) or not _BINARY.search(start))


def admitted(kind: str, accept: str) -> bool:
    """Whether an index page of this type satisfies an `Accept`, in one of the media types it can be rendered in."""
    return _is_markup({"content-type": kind}) and choose(accept) is not None


def has_page_type(headers: Mapping[str, str]) -> bool:
    """Whether the content type is one that index pages have."""
    return _type(headers).startswith((_SIMPLE, *_HTML, _JSON))


def is_simple(headers: Mapping[str, str]) -> bool:
    """Whether the content type is one of PEP 691."""
    return _type(headers).startswith(_SIMPLE)


def _is_markup(headers: Mapping[str, str]) -> bool:
    """Whether the content type is one of PEP 691, or HTML."""
    return is_simple(headers) or _type(headers).startswith(_HTML)


def _type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").strip().lower()


def _others(body: bytes, record: Record, limit: int) -> tuple[str, ...]:
    try:
        plain = decoded(body, record.headers.get("content-encoding"), limit)
        markup, content_type = narrow(plain, record.headers.get("content-type", ""))
        return other_links(markup, content_type, record.final) if markup.lstrip(_BEFORE)[:1] == b"<" else ()
    except (BadPage, BadCoding):
        return ()


def _interpreted(body: bytes, headers: Mapping[str, str], url: str, limit: int) -> Reading:
    if not begins_as_page(headers, body[:SNIFFED]):
        return _NEITHER
    typed, claims, content_type = has_page_type(headers), is_simple(headers), headers.get("content-type", "")
    coding = headers.get("content-encoding")
    try:
        plain = decoded(body, coding, limit)
    except BadCoding as error:
        return Reading(None, str(error), claims, typed, 0)
    start = narrow(plain[:HEAD_BYTES], content_type)[0].lstrip(_BEFORE)
    claims = claims or (start[:1] == b"<" and _META.search(start) is not None)
    claims = claims or (start[:1] == b"{" and _API_VERSION.search(plain.replace(b"\0", b"")) is not None)
    looks = typed or start[:1] in (b"<", b"{")
    try:
        return Reading(parse(plain, content_type, url), "", claims, looks, len(plain))
    except BadPage as error:
        said = f" (its content coding is {coding[:40]!r})" if coding else ""
        return Reading(None, f"{error}{said}", claims, looks, 0)
