"""The files of a registry: fetches and freezes them and their metadata."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TypeAlias

from httpcache.credentials import Credentials
from httpcache.freezing.download import Digest
from httpcache.freezing.downloads import PASSED_BODY, beginning
from httpcache.freezing.flight import FlightReader, PassedThrough
from httpcache.freezing.mirror import Expected, Mirror, Want
from httpcache.store.record import Record
from httpcache.target import Target
from httpcache.upstream.client import Headers, UpstreamResponse
from pypi_adapter.addresses import file_target, token
from pypi_adapter.simple.model import File, strongest

from .client import RegistryClient
from .file_coding import Announced, without_codings
from .metadata_source import SUFFIX, MetadataSource, confirm, metadata_url, settle, soon
from .ranges import Ranges

Find: TypeAlias = Callable[[], Awaitable[File]]
"""Finds the listing of a file."""
Renew: TypeAlias = Callable[[str, File], Awaitable[str | None]]
"""Finds an address of a project's file that differs from the known one, None if there is none."""

_EMPTY_LINE = re.compile(rb"\n\r?\n")

REFUSED = frozenset({400, 401, 403, 404, 410})  # statuses of file hosts for an expired link


class Files:
    """The files that a registry's pages list. They are trusted; `path` is the prefix of their addresses on the mirror.

    `renew` is called if the address of a file is refused: signed links expire.
    """

    def __init__(self, path: str, client: RegistryClient, mirror: Mirror, renew: Renew) -> None:
        self._path = path
        self._renew = renew
        self._client = client
        self._mirror = mirror
        self.ranges = Ranges(mirror.store)
        """What is known of the file hosts."""

    async def is_frozen(self, project: str, content: str, filename: str) -> bool:
        """Whether a frozen copy exists, by the parts of its address; `filename` can be that of a metadata file."""
        target = file_target(self._path, project, content, filename)
        return await self._mirror.record_key(target, Want()) is not None

    async def open(
        self, project: str, file: File, find: Find | None = None, *, whole: bool = False, may_redirect: bool = False
    ) -> Record | FlightReader | PassedThrough:
        """Return a file, which is frozen after its digest was checked. Raises MirrorError.

        For a frozen file, `file` needs only the fields in its address, if `find` returns the full listing: that is
        needed only if the frozen copy is damaged. `whole`: wait until it is frozen. For `may_redirect` see Want.
        """
        want = replace(self._want(project, file, find), may_redirect=may_redirect and not whole)
        target = self._target(project, file)
        return await (self._mirror.whole(target, want) if whole else self._mirror.answer(target, want))

    async def open_metadata(
        self, project: str, file: File, find: Find | None = None
    ) -> Record | FlightReader | PassedThrough:
        """Return the metadata file of a wheel (PEP 658). For `find` see `open`. Raises MirrorError."""
        target, want = self._target(project, file, SUFFIX), self._metadata_want(project, file, find)
        return await soon(self._mirror.answer(target, want), file.filename)

    async def metadata_head(self, project: str, file: File, find: Find | None, limit: int) -> tuple[bytes, bool]:
        """Return the fields of a metadata file, at most `limit` bytes, and whether the registry was asked for them.

        They are returned as soon as they have arrived, before they are checked and frozen. They are empty if the
        registry has none. For `find` see `open`. Raises MirrorError.
        """
        asked: list[bool] = []
        target = self._target(project, file, SUFFIX)
        want = self._metadata_want(project, file, find, lambda: asked.append(True))
        outcome = await self._mirror.answer(target, want)
        if isinstance(outcome, FlightReader):
            body = await _head(outcome, limit)
        else:
            body = await self._mirror.read(outcome, limit) if isinstance(outcome, Record) else b""
        return body, bool(asked)

    def _metadata_want(
        self, project: str, file: File, find: Find | None, on_ask: Callable[[], None] = lambda: None
    ) -> Want:
        """Return how to get a metadata file. `on_ask` is called if that takes a request to the registry."""

        @asynccontextmanager
        async def source(_: Credentials) -> AsyncIterator[UpstreamResponse]:
            on_ask()
            async with self._metadata_source(project, await listing())() as answer:
                yield answer

        async def expect() -> Expected:
            return Expected(metadata_digests(await listing()))

        async def on_frozen(record: Record) -> None:
            wheel = await self._mirror.kept(self._target(project, file), Want())
            if wheel and not metadata_digests(await listing()):
                target = self._target(project, file, SUFFIX)
                await confirm(self._mirror, target, Want(), file.filename, wheel)

        listing = find or _given(file)
        return Want(source=source, expect=expect, on_frozen=on_frozen)

    async def freeze(self, project: str, file: File) -> Record | PassedThrough:
        """Return a file once it is frozen and checked, or the registry's current answer. Raises MirrorError."""
        return await self._mirror.whole(
            self._target(project, file), replace(self._want(project, file), skip_remembered=True)
        )

    def _target(self, project: str, file: File, suffix: str = "") -> Target:
        return file_target(self._path, project, token(file), f"{file.filename}{suffix}")

    def _want(self, project: str, file: File, find: Find | None = None) -> Want:
        @asynccontextmanager
        async def source(_: Credentials) -> AsyncIterator[UpstreamResponse]:
            listed = await listing()
            async with self._ask(project, listed) as answer:
                announced = Announced(file.filename, file_digests(listed), listed.size)
                yield await without_codings(answer, announced, self._mirror.settings.max_file)

        async def expect() -> Expected:
            listed = await listing()
            return Expected(file_digests(listed), listed.size)

        async def on_frozen(wheel: Record) -> None:
            if file.filename.endswith(".whl") and not metadata_digests(await listing()):
                await settle(self._mirror, self._target(project, file, SUFFIX), Want(), file.filename, wheel)

        listing = find or _given(file)
        return Want(source=source, expect=expect, on_frozen=on_frozen)

    def _metadata_source(self, project: str, file: File) -> MetadataSource:
        target, want = self._target(project, file), self._want(project, file)
        return MetadataSource(
            filename=file.filename,
            url=file.url,
            own=(lambda: self._ask(project, file, metadata=True)) if file.core_metadata else None,
            frozen=lambda: self._mirror.lookup(target, want),
            ask=lambda headers: self.ranges.watching(file.url, self._ask(project, file, headers)),
            freeze=lambda: self._mirror.whole(target, want),
            store=self._mirror.store,
            digests=file_digests(file),
            announced=metadata_digests(file),
        )

    @asynccontextmanager
    async def _ask(
        self, project: str, file: File, headers: Headers = (), *, metadata: bool = False
    ) -> AsyncIterator[UpstreamResponse]:
        """Request a file or its metadata file at its known address, and if that is refused at a newer one."""
        url = metadata_url(file.url) if metadata else file.url
        async with self._client.ask(url, headers) as answer:
            if answer.status not in REFUSED:
                yield answer
                return
            refusal = await detached(answer)
        newer = await self._renew(
            project, file
        )  # after the exchange has ended, because no exchange may wait for another
        if newer is None:
            yield refusal
            return
        async with self._client.ask(metadata_url(newer) if metadata else newer, headers) as answer:
            yield answer


async def detached(answer: UpstreamResponse) -> UpstreamResponse:
    """Return an answer with the part of its body that is passed on in memory, so that its exchange can end."""
    return replace(answer, body=_again(await beginning(answer, PASSED_BODY)))


async def _again(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _head(flight: FlightReader, limit: int) -> bytes:
    """Return what arrives up to the first empty line, or without the last byte, which comes when all is frozen."""
    body, enough = b"", limit if flight.head.length is None else min(limit, flight.head.length - 1)
    try:
        async with aclosing(flight.read(0, limit)) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) >= enough or _EMPTY_LINE.search(body):
                    break
    finally:
        flight.close()
    return body


def _given(file: File) -> Find:
    async def find() -> File:
        return file

    return find


def file_digests(file: File) -> tuple[Digest, ...]:
    """Return the digest of a file that the index announced, if any."""
    found = strongest(file.hashes)
    return (Digest(*found),) if found else ()


def metadata_digests(file: File) -> tuple[Digest, ...]:
    """Return the digest of a file's metadata that the index announced (PEP 658), if any."""
    found = strongest(file.core_metadata) if isinstance(file.core_metadata, dict) else None
    return (Digest(*found),) if found else ()
