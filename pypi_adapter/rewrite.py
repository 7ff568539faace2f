"""Index pages of any registry behind a pin: recognised, their links led through the pin, their announcements kept.

The raw bytes stay frozen as they came; a page is rewritten each time it is served. So a page fetched by curl is byte
for byte the upstream's, and pip that wants HTML and uv that wants JSON see one and the same frozen page.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import anyio
import msgspec
from packaging.utils import canonicalize_name
from starlette.types import ASGIApp

from httpcache.codings import Body
from httpcache.decoding import BadCoding, decoded
from httpcache.errors import BadAddress, BadUpstream
from httpcache.flight import Live, Passed
from httpcache.incoming import Incoming
from httpcache.kept import Kept
from httpcache.mirror import ANY, Expected, Mirror, Want
from httpcache.record import Record, decode
from httpcache.responses import FOREVER, HIT, STORED, answer_with
from httpcache.store import Log
from httpcache.target import Address, Target, looks_like_url, origin, read_url, split_path
from httpcache.upstream import Answer, Headers

from .asking import INDEX_ACCEPT
from .coding import Announced, without_codings
from .files import file_digests, metadata_digests
from .forms import parse
from .metadata import SUFFIX, MetadataSource, confirm, metadata_url, settle, soon
from .negotiate import MediaType, is_installer
from .page import BadPage, File, Page, ProjectList, is_distribution
from .parsing import PARSERS, in_parser
from .render import advertised, chosen, in_form, rendered

PARSED_BYTES = 8 * 1024 * 1024  # of pages that are kept parsed; parsed they take many times as many
RENDERED_BYTES = 12 * 1024 * 1024  # of pages that are kept as they are sent
HEAD_BYTES = 64 * 1024  # in which a page says that it is one
FLAT = 20  # projects on a page from which on it is noted once, and not for each of them
ANNOUNCED = 10_000  # pages of which it is remembered that nothing is left to note

_ANY = ""  # stands for the projects of a page that lists many
_SIMPLE = "application/vnd.pypi.simple."
_META = re.compile(rb"<meta[^<>]{1,200}pypi:repository-version", re.IGNORECASE)


class _Parsed(NamedTuple):
    """A page, None for what is none; its files by the addresses that they lead to; the bytes that it was read from."""

    page: Page | ProjectList | None
    files: dict[str, list[File]]
    size: int


class Pinned:
    """The view of installers on `/<pin>/<upstream-url>`."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._pages = _Pages(mirror)
        self._bodies: Kept[tuple[str, str, MediaType], Body] = Kept(RENDERED_BYTES)

    async def answer(self, incoming: Incoming) -> ASGIApp | None:
        """Answer index pages, distribution files and their metadata; None for everything else. Raises MirrorError."""
        if not looks_like_url(split_path(incoming.path).rest):
            return None
        target = incoming.target
        incoming = replace(incoming, credentials=self._mirror.credentials(target, incoming.credentials))
        metadata = _metadata_of(target)
        if metadata:
            return await self._metadata(incoming, *metadata)
        if is_distribution(_filename(target)):
            return await self._file(incoming, target)
        if incoming.raw:
            return None
        if is_installer(incoming.accept):
            return await self._index(incoming, target)
        if "text/html" in incoming.accept:
            return await self._browsed(incoming, target)
        return None

    async def _index(self, incoming: Incoming, target: Target) -> ASGIApp:
        want = Want(
            INDEX_ACCEPT,
            lambda kind: not kind or _may_be_index({"content-type": kind}),
            incoming.credentials,
            verify=self._pages.verify,
            freeze_absence=True,
            limit=self._mirror.settings.max_page,
        )
        started = time.time()
        outcome = await self._mirror.whole(target, want)
        if isinstance(outcome, Passed):
            return answer_with(self._mirror.store, outcome, pinned=incoming.pinned)
        return await self._rewritten(incoming, target, want, outcome, started)

    async def _browsed(self, incoming: Incoming, target: Target) -> ASGIApp | None:
        """A browser gets an index page with links that stay in the pin, and every other page as it is."""
        started = time.time()
        want = Want(incoming.accept, credentials=incoming.credentials)
        outcome = await self._mirror.answer(target, want)
        if isinstance(outcome, Live) and _may_be_index(outcome.head.headers):
            outcome = await self._mirror.landed(target, outcome)
        if isinstance(outcome, Record) and await self._pages.says_index(outcome):
            return await self._rewritten(incoming, target, want, outcome, started)
        return answer_with(self._mirror.store, outcome, pinned=incoming.pinned)

    async def _rewritten(
        self, incoming: Incoming, target: Target, want: Want, record: Record, started: float
    ) -> ASGIApp:
        form = chosen(incoming.accept)
        pinned = f"{incoming.root}/{target.pin}/"
        key = (_page_key(record), pinned, form)
        body = self._bodies.get(key)
        name = await self._mirror.record_key(target, want)
        if body is None or not self._pages.is_announced(name, record):
            page = await self._pages.read(record)
            if page is None:
                return answer_with(self._mirror.store, record, pinned=incoming.pinned)
            if name and isinstance(page, Page):
                await self._pages.announce(target.pin, name, record, page)
            prefix = pinned + record.final[: record.final.rindex("/") + 1]
            body = body or await rendered(page, form, lambda file: _linked(file, pinned), prefix)
        self._bodies.put(key, body, body.size)
        return in_form(
            form,
            body,
            f"{'private' if record.scope else 'public'}, {FOREVER}",
            HIT if record.created < started else STORED,
            lasting=not record.scope and record.created < started,
        )

    async def _file(self, incoming: Incoming, target: Target) -> ASGIApp:
        return answer_with(self._mirror.store, await self._mirror.answer(target, self._file_want(incoming, target)))

    def _file_want(self, incoming: Incoming, target: Target) -> Want:
        @asynccontextmanager
        async def source() -> AsyncIterator[Answer]:
            wire, accept = await self._spelling(target), (("Accept", incoming.accept),)
            async with self._mirror.upstream.ask(wire, headers=accept, credentials=incoming.credentials) as answer:
                expected = await expect()
                announced = Announced(_filename(target), expected.digests, expected.size)
                yield await without_codings(answer, announced, self._mirror.settings.max_file)

        async def expect() -> Expected:
            listed = await self._pages.find(target)
            digests = {digest for file in listed for digest in file_digests(file)}
            sizes = {file.size for file in listed}
            return Expected(tuple(sorted(digests)), sizes.pop() if len(sizes) == 1 else None)

        async def frozen(wheel: Record) -> None:
            listed = await self._pages.find(target)
            if _filename(target).endswith(".whl") and not any(map(metadata_digests, listed)):
                metadata = Target(target.pin, metadata_url(target.url))
                want = Want(credentials=incoming.credentials)
                await settle(self._mirror, metadata, want, _filename(target), wheel)

        return Want(incoming.accept, credentials=incoming.credentials, source=source, expect=expect, frozen=frozen)

    async def _spelling(self, target: Target) -> str:
        """Return how the pages of the pin spell the address of a file: pip and uv quote links their own way."""
        listed = [read_url(file.url).wire for file in await self._pages.find(target)]
        return target.wire if target.wire in listed or not listed else listed[0]

    async def _metadata(self, incoming: Incoming, wheel: Target, metadata: Target) -> ASGIApp:
        async def expect() -> Expected:
            listed = await self._pages.find(wheel)
            return Expected(tuple(sorted({digest for file in listed for digest in metadata_digests(file)})))

        async def frozen(record: Record) -> None:
            found = await self._mirror.frozen(wheel, self._file_want(incoming, wheel))
            if found and not any(map(metadata_digests, await self._pages.find(wheel))):
                await confirm(self._mirror, metadata, want, _filename(wheel), found)

        want = Want(
            credentials=incoming.credentials,
            source=lambda: self._metadata_source(incoming, wheel),
            expect=expect,
            frozen=frozen,
        )
        outcome = await soon(self._mirror.answer(metadata, want), _filename(wheel))
        return answer_with(self._mirror.store, outcome)

    @asynccontextmanager
    async def _metadata_source(self, incoming: Incoming, wheel: Target) -> AsyncIterator[Answer]:
        def ask(url: str, headers: Headers) -> AbstractAsyncContextManager[Answer]:
            accept = (("Accept", ANY), *headers)
            return self._mirror.upstream.ask(url, headers=accept, credentials=incoming.credentials)

        want = self._file_want(incoming, wheel)
        listed = await self._pages.find(wheel)
        url = await self._spelling(wheel)
        source = MetadataSource(
            filename=_filename(wheel),
            url=url,
            own=(lambda: ask(metadata_url(url), ()))
            if not listed or any(file.core_metadata for file in listed)
            else None,
            frozen=lambda: self._mirror.frozen(wheel, want),
            ask=lambda headers: ask(url, headers),
            freeze=lambda: self._mirror.whole(wheel, want),
            path=self._mirror.store.blob_path,
            digests=tuple(digest for file in listed for digest in file_digests(file)),
            announced=tuple(digest for file in listed for digest in metadata_digests(file)),
            credentials=incoming.credentials,
        )
        async with source() as answer:
            yield answer


class _Pages:
    """The frozen index pages: parsed, and what they announced of the files in their pin."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._store = mirror.store
        self._max_page = mirror.settings.max_page
        self._parsed: OrderedDict[str, _Parsed] = OrderedDict()
        self._reading = anyio.CapacityLimiter(PARSERS)
        self._announced: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def says_index(self, record: Record) -> bool:
        """Whether a record says of itself that it is an index page: by a type of PEP 691, or PEP 629's meta."""
        if not _may_be_index(record.headers) or record.size > self._max_page:
            return False
        if _is_simple(record.headers):
            return True
        head = await self._mirror.read(record, HEAD_BYTES)
        return await in_parser(lambda: _META.search(head), len(head)) is not None

    async def read(self, record: Record) -> Page | ProjectList | None:
        """Return the page of a record, None where it is none. Raises BadUpstream for a broken page of PEP 691."""
        return (await self._read(record)).page

    async def _read(self, record: Record) -> _Parsed:
        key = _page_key(record)
        if key not in self._parsed:
            async with self._reading:
                if key not in self._parsed:  # nobody has in the meantime
                    body = await self._body(record)
                    self._parsed[key] = await in_parser(lambda: self._parse_and_index(body, record), len(body))
        self._parsed.move_to_end(key)
        found = self._parsed[key]
        while len(self._parsed) > 1 and sum(parsed.size for parsed in self._parsed.values()) > PARSED_BYTES:
            self._parsed.popitem(last=False)
        return found

    async def announce(self, pin: str, name: str, record: Record, page: Page) -> None:
        """Note for the projects on a page that this page lists files of them, for `find`; `name`: its record's key."""
        if self.is_announced(name, record):
            return
        value = name.encode()
        projects = {_project(file.filename) for file in page.files}
        for project in projects if len(projects) < FLAT else {_ANY}:
            log = self._log(pin, project)
            values = await log.read()
            while value not in values and not await log.append(len(values), value):
                values = await log.read()
        self._announced[name, record.digest] = None
        while len(self._announced) > ANNOUNCED:
            self._announced.popitem(last=False)

    def is_announced(self, name: str | None, record: Record) -> bool:
        """Whether nothing is left to note of a page."""
        return (name, record.digest) in self._announced

    async def find(self, target: Target) -> list[File]:
        """Return what the index pages of the pin announced of a file.

        Any page can link any file, so that no page may decide alone: the file must be what one of them says. But a page
        of the file's own origin speaks for it, and no other one against that.
        """
        own: list[File] = []
        others: list[File] = []
        for key in await self._noted(target):
            value = await self._store.get(key)
            record = decode(value) if value else None  # an operator may have removed it
            if isinstance(record, Record):
                listed = (await self._read(record)).files.get(target.url, [])
                (own if origin(record.final) == target.origin else others).extend(listed)
        return own or others

    async def _noted(self, target: Target) -> list[str]:
        projects = (_project(_filename(target)), _ANY)
        return [key.decode() for project in projects for key in await self._log(target.pin, project).read()]

    def _log(self, pin: str, project: str) -> Log:
        return Log(self._store, f"pages/{pin}/{project}")

    async def verify(self, record: Record, file: Path) -> None:
        """Refuse to freeze what says that it is a page of PEP 691 and is none. Raises BadUpstream."""
        if _is_simple(record.headers):
            await in_parser(lambda: self._parse(file.read_bytes(), record), record.size)

    async def _body(self, record: Record) -> bytes:
        self._check_size(record)
        return await self._mirror.read(record)

    def _check_size(self, record: Record) -> None:
        if record.size > self._max_page:
            raise BadUpstream(f"{record.url} is longer than {self._max_page} bytes (--max-page): it is no index page")

    def _parse_and_index(self, body: bytes, record: Record) -> _Parsed:
        page, size = self._parse(body, record)
        files: dict[str, list[File]] = {}
        for file in page.files if isinstance(page, Page) else ():
            if link := _link(file.url):
                files.setdefault(link.url, []).append(file)
        return _Parsed(page, files, size)

    def _parse(self, body: bytes, record: Record) -> tuple[Page | ProjectList | None, int]:
        content_type = record.headers.get("content-type")
        try:
            plain = decoded(body, record.headers.get("content-encoding"), self._max_page)
            return parse(plain, content_type, record.final), len(plain)
        except (BadPage, BadCoding) as error:
            if _is_simple(record.headers):
                raise BadUpstream(f"{record.final} is no index page: {error}") from error
            return None, 0


def _page_key(record: Record) -> str:
    """What a page is read from: its bytes, what they are said to be, and what its links are relative to."""
    said = [record.headers.get(name, "") for name in ("content-type", "content-encoding")]
    return "\n".join([record.digest, record.final, *said])


def _may_be_index(headers: Mapping[str, str]) -> bool:
    return _is_simple(headers) or headers.get("content-type", "").strip().lower().startswith("text/html")


def _is_simple(headers: Mapping[str, str]) -> bool:
    """Whether the type is one of PEP 691."""
    return headers.get("content-type", "").strip().lower().startswith(_SIMPLE)


def _linked(file: File, pinned: str) -> File | None:
    link = _link(file.url)
    if link is None:
        return None
    provenance = _link(file.provenance) if file.provenance else None
    return msgspec.structs.replace(
        file,
        url=pinned + link.wire,
        core_metadata=advertised(file),
        provenance=pinned + provenance.wire if provenance else None,
    )


def _link(url: str) -> Address | None:
    """Return the address of a link, None where it leads nowhere."""
    try:
        return read_url(url)
    except BadAddress:
        return None


def _metadata_of(target: Target) -> tuple[Target, Target] | None:
    """Return the wheel and the metadata file that an address means, None where it means no metadata."""
    url = _wheel_url(target.url)
    if url is None:
        return None
    wire = _wheel_url(target.wire) or url
    return Target(target.pin, url, wire), Target(target.pin, metadata_url(url), metadata_url(wire))


def _wheel_url(url: str) -> str | None:
    """Return the wheel of a metadata file, None where it is none.

    For `f.whl?a=b` uv puts the suffix behind the path and pip behind the query: both mean `f.whl.metadata?a=b`.
    """
    path, mark, query = url.partition("?")
    if path.endswith(".whl" + SUFFIX):
        return path.removesuffix(SUFFIX) + mark + query
    return url.removesuffix(SUFFIX) if path.endswith(".whl") and query.endswith(SUFFIX) else None


def _filename(target: Target) -> str:
    return unquote(target.url.partition("?")[0].rpartition("/")[2])


def _project(filename: str) -> str:
    """Return the project of a distribution file: what stands before the version (PEP 427, PEP 625)."""
    name = filename.partition("-")[0] if filename.endswith(".whl") else filename.rpartition("-")[0]
    return canonicalize_name(name)
