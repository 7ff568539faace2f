"""Fuzz targets of `pypi_adapter`: index pages, content codings, wheels, the first segment of an address, `Accept`."""

from __future__ import annotations

import asyncio
import gzip
import io
import re
import zipfile
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from html.parser import HTMLParser

import msgspec

from httpcache.errors import BadAddress, BadUpstream
from httpcache.target import read_url
from httpcache.upstream.decoding import BadCoding, decoded
from pypi_adapter.addresses import AsOf, parse_when
from pypi_adapter.registry import wheel_metadata
from pypi_adapter.registry.metadata_source import looks_like_metadata
from pypi_adapter.simple.html_page import to_html
from pypi_adapter.simple.json_page import to_json
from pypi_adapter.simple.model import BadPage, File, Page, ProjectList, map_files, strongest
from pypi_adapter.simple.negotiation import MediaType, choose, is_installer
from pypi_adapter.simple.parser import parse
from pypi_adapter.web.pinned import _linked
from tests.fuzz.fields import fields, header, quoted

BASE = "https://example.com/simple/thing/"
PINNED = "/mirror/pin-1/"
WHEEL = "thing-1.0-py3-none-any.whl"
NOW = 1_750_000_000_000_000
TAGS = {"html", "head", "meta", "title", "body", "h1", "a", "br"}
ATTRIBUTES = {
    "href", "charset", "name", "content", "data-requires-python", "data-yanked", "data-core-metadata",
    "data-dist-info-metadata", "data-gpg-sig", "data-provenance", "data-upload-time",
}  # fmt: skip
_LOOP = asyncio.Runner()
_REPLACED = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\ufffe\\uffff\\ufdd0-\\ufdef]")  # by an HTML parser


def json_pages(data: bytes) -> None:
    """A body: BadPage, or a page whose JSON reads as the same page, and whose HTML has no foreign markup."""
    try:
        page = parse(data, MediaType.JSON, BASE)
    except BadPage:
        return
    _check(page)


def html_pages(data: bytes) -> None:
    """A body: BadPage, or a page whose HTML reads as the same page, with all that is above."""
    try:
        page = parse(data, "text/html", BASE)
    except BadPage:
        return
    _check(page)
    if not _REPLACED.search("".join(_texts(msgspec.to_builtins(page)))):
        written = to_html(page)
        again = parse(written, "text/html", BASE)
        assert again == _carried(page)
        assert to_html(again) == written


def _check(page: Page | ProjectList) -> None:
    written = to_json(page)
    again = parse(written, MediaType.JSON, BASE)
    assert again == _said(page)
    assert to_json(again) == written
    if isinstance(page, ProjectList):
        links = _links(to_html(page, f"{PINNED}{BASE}"))
        assert len(links) == len(page.names)
        assert all(re.fullmatch(re.escape(PINNED + BASE) + r"[A-Za-z0-9._~%-]*/", link) for link in links)
        return
    for file in page.files:
        _check_file(file)
    assert len(_links(to_html(page))) == len(page.files)
    rewritten = map_files(page, lambda file: _linked(file, PINNED, ()))
    for file in rewritten.files:
        for link in filter(None, (file.url, file.provenance)):
            assert link == f"{PINNED}{read_url(link.removeprefix(PINNED)).wire}"
    assert all(link.startswith(f"{PINNED}http") for link in _links(to_html(rewritten)))


def _said(page: Page | ProjectList) -> Page | ProjectList:
    """What a page of the mirror says of a page: no serial, and nothing of what could not be read."""
    unread = False if isinstance(page, ProjectList) else None
    return msgspec.structs.replace(page, serial=None, unread=unread)


def _check_file(file: File) -> None:
    assert re.fullmatch(r"https?://[^/\s]+[^\s\"<>\\^`{|}#]*", file.url), file.url
    assert re.fullmatch(r"[^/\\\x00-\x1f\x7f-\x9f]+", file.filename), file.filename
    assert file.filename not in (".", "..")
    assert file.size is None or file.size >= 0
    best = strongest(file.hashes)
    assert best is None or re.fullmatch("[0-9a-f]+", best[1])


def _carried(page: Page | ProjectList) -> Page | ProjectList:
    """What HTML can carry of a page that came as HTML: one hash of each file, and no metadata that is not there."""
    page = _said(page)
    if isinstance(page, ProjectList):
        return page
    return map_files(
        page,
        lambda file: msgspec.structs.replace(file, hashes=_first(file.hashes), core_metadata=_metadata(file)),
    )


def _metadata(file: File) -> bool | dict[str, str] | None:
    found = file.core_metadata
    return _first(found) or True if isinstance(found, dict) else found or None


def _first(hashes: dict[str, str]) -> dict[str, str]:
    order = ["sha256", "sha512", "sha384", "sha3_512", "sha3_384", "sha3_256", "blake2b", "blake2s"]
    order += ["sha224", "sha3_224", "sha1", "md5"]
    return next(({name: hashes[name]} for name in order if name in hashes), {})


def _texts(value: object) -> Iterator[str]:
    """Every text in a page."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts([*value, *value.values()])
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


class _Reader(HTMLParser):
    """A parser that is not the one under test: what it sees is what a browser would make of a page, roughly."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        assert {name for name, _ in attrs} <= ATTRIBUTES, attrs
        if tag == "a":
            self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data[:50]!r}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data[:50]!r}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data[:50]!r}")


def _links(body: bytes) -> list[str]:
    reader = _Reader()
    reader.feed(body.decode())
    reader.close()
    return reader.links


def codings(data: bytes) -> None:
    """Coding and body: BadCoding, or the body; what was packed comes out as it was."""
    coding, body = fields(data, 2)
    limit = len(body) + 1
    with suppress(BadCoding):
        assert len(decoded(body, header(coding) or None, limit)) <= limit
    assert decoded(gzip.compress(body, 1), "gzip", limit) == body
    assert decoded(body, None, limit) == body


def wheels(data: bytes) -> None:
    """A wheel: BadUpstream or METADATA, the same of a frozen one as by ranges, and what zipfile finds."""

    async def more(start: int, stop: int) -> bytes:
        return data[start:stop]

    end = wheel_metadata._End(len(data), data[-wheel_metadata.TAIL :], more)
    found = _metadata_of(wheel_metadata.from_wheel(len(data), more, WHEEL))
    assert found == _metadata_of(wheel_metadata._metadata(end, WHEEL))
    assert found is None or len(found) <= wheel_metadata.MAX_METADATA
    expected = _by_zipfile(data)
    assert expected is None or found == expected
    assert looks_like_metadata(data) in (True, False)


def _metadata_of(read: Coroutine[None, None, bytes]) -> bytes | None:
    try:
        return _LOOP.run(read)
    except BadUpstream:
        return None


def _by_zipfile(data: bytes) -> bytes | None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as wheel:
            name = wheel_metadata._metadata_name(wheel.namelist(), WHEEL)
            with wheel.open(name) as file:
                return b"".join(iter(lambda: file.read(4096), b""))
    except (BadUpstream, *wheel_metadata.ZIP_ERRORS):
        return None


def moments(data: bytes) -> None:
    """The first segment of an address: BadAddress, none, now less some days, or an instant that has been."""
    try:
        found = parse_when(quoted(data), NOW)
    except BadAddress as error:
        _ = error.text.encode()  # it is sent
        return
    if isinstance(found, AsOf):
        assert found.instant <= NOW
        assert parse_when(quoted(data), found.instant) == found
    elif found is not None:
        assert 0 <= found.days <= 9999


def accepts(data: bytes) -> None:
    """An `Accept`: a form that it allows, or none; a form that is asked for alone is given."""
    accept = header(data)
    form = choose(accept)
    assert is_installer(accept) in (True, False)
    assert form is None or form in MediaType
    if form is not None:
        assert choose(form.value) is form
        weights = {"*/*", f"{form.partition('/')[0]}/*", form.value, form.value.replace("v1", "latest")}
        assert not accept or any(weight in accept.lower() for weight in weights) or choose("") is form
    else:
        assert choose(f"{accept}, text/html") in (MediaType.LEGACY, None)
