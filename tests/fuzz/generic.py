"""Fuzz targets of `httpcache`: addresses, conditions, credentials, records, the spool's heads, upstreams' headers."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import cast

import httpx
import msgspec

from httpcache.credentials import AUTHORIZATION, DEFAULT_HEADERS, PUBLIC, read_credentials, scope
from httpcache.errors import BadAddress, BadUpstream, StoreError, redact
from httpcache.fields import MAX_LINKS, absolute_links, map_links
from httpcache.freezing.download import Download, Want
from httpcache.freezing.downloads import _head, _vary
from httpcache.freezing.spool import Claim, Head, Spool
from httpcache.settings import Settings
from httpcache.store.record import KEPT_HEADERS, Record, decode, encode
from httpcache.store.store import Store
from httpcache.target import canonical_url, looks_like_url, origin, parse_target, read_url
from httpcache.upstream.client import UpstreamClient, UpstreamResponse, _redirected
from httpcache.web.conditional import MAX_RANGES, plan
from tests.fuzz.fields import CREDENTIAL, fields, header, quoted, scratch

URL = re.compile(r"https?://[^/?#@\s\"<>\\^`{|}]+/[!-~]*")
SENT = re.compile(r"https?://[^/?#@\s\"<>\\^`{|}]+/[!\"$-\[\]-~]*")
WHERE = ("https://example.com/a/b?c=d", "http://example.com:8080/", "http://[2001:db8::1]/x", "http://127.1/")
KEY = "0" * 64
_USER = re.compile(rf"^/[a-z]+/+[a-z]+(:|%3A)//[^/?#]*{CREDENTIAL}[^/?#]*(@|%40)", re.IGNORECASE)


def addresses(data: bytes) -> None:
    """Raw path, query: no target but BadAddress; else one canonical form, which every reader takes the same way."""
    path, query = map(quoted, fields(data, 2))
    try:
        target = parse_target(path, query)
    except BadAddress as error:
        _check_text(path, error.text)
        return
    _check_canonical(target.url)
    _check_sent(target.wire)
    assert read_url(target.wire).url == target.url
    assert target.path == f"/{target.pin}/{target.url}"
    base, _, rest = target.path.partition("?")
    for form in (base, base.replace("://", ":/", 1), base.replace("://", "%3A//", 1)):
        again = parse_target(form, rest)
        assert again == target
        assert again.key == target.key
    assert looks_like_url(target.url)
    assert "\n" not in str(target)


def _check_text(path: str, text: str) -> None:
    assert text.encode()  # it is sent
    assert not _USER.search(path) or CREDENTIAL not in text


def _check_canonical(url: str) -> None:
    assert URL.fullmatch(url)
    assert "#" not in url
    base, mark, query = url.partition("?")
    assert canonical_url(base, query) == url
    assert not mark or query
    assert url.removeprefix(origin(url)).startswith("/")
    assert redact(url).partition("?")[0] == base
    try:
        asked = httpx.URL(url)  # what is connected to is the origin that credentials are for
    except httpx.InvalidURL:
        return  # a BadAddress when it is asked
    assert f"{asked.scheme}://{asked.netloc.decode()}" == origin(url)


def _check_sent(url: str) -> None:
    """What is asked for can stand in a request, and means what its one form means."""
    assert SENT.fullmatch(url), url
    found = read_url(url)
    assert found.wire == url
    assert origin(url) == origin(found.url)
    _check_canonical(found.url)


def redacted(data: bytes) -> None:
    """User, path, name, value: neither user info nor a value of the query is in what `redact` leaves."""
    user, path, name, value = (part.decode("latin-1") for part in fields(data, 4))
    user = re.sub("[/?#]", "", user)  # these end an authority
    url = f"https://{user}{CREDENTIAL}@example.com/{path}?{name}={CREDENTIAL}{value}&{name}={CREDENTIAL}&{CREDENTIAL}"
    shown = redact(url)
    assert CREDENTIAL not in shown, shown
    assert redact(shown) == shown


def conditions(data: bytes) -> None:
    """Size and headers: one of five statuses, and ranges that lie inside and are not more than the whole."""
    size_text, *values = fields(data, 8)
    size = int.from_bytes(size_text[:3]) if size_text else None
    names = ("range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range")
    headers = {name: header(value) for name, value in zip(names, values, strict=False) if value}
    modified = header(values[-1]) or None
    for method in ("GET", "HEAD"):
        planned = plan(method, headers, etag='"abc"', modified=modified, size=size)
        assert planned.status in (200, 206, 304, 412, 416)
        assert (planned.status == 206) == bool(planned.ranges)
        assert planned.status not in (206, 416) or (method == "GET" and size is not None and "range" in headers)
        assert len(planned.ranges) <= MAX_RANGES
        assert all(0 <= start < stop <= (size or 0) for start, stop in planned.ranges)
        assert sum(stop - start for start, stop in planned.ranges) <= (size or 0)


def credentials(data: bytes) -> None:
    """Headers: what carries credentials and nothing else, Basic in the second try only; a scope that tells nothing."""
    parts = [header(part) for part in data.split(b"\0")]
    headers = {name.lower(): value for name, value in zip(parts[::2], parts[1::2], strict=False)}
    names = (*DEFAULT_HEADERS, "x-our-key")
    levels = read_credentials(headers, names).levels
    assert 1 <= len(levels) <= 2
    scopes = [scope(b"secret", "https://example.com", level) for level in levels]
    assert len(set(scopes)) == len(levels)
    for level, found in zip(levels, scopes, strict=True):
        assert set(level) <= {(name, headers.get(name)) for name in (*names, AUTHORIZATION)}
        assert (found == PUBLIC) == (not level)
        assert not level or re.fullmatch("[0-9a-f]{64}", found)
        assert not any(len(value) > 5 and value in found for _, value in level)
        assert not level or found != scope(b"another", "https://example.com", level)
        assert not level or found != scope(b"secret", "https://example.org", level)
    assert not any(name == AUTHORIZATION and value.lower().startswith("basic ") for name, value in levels[0])


def records(data: bytes) -> None:
    """An entry of the store: StoreError, or something that is written and read as the same."""
    try:
        entry = decode(data)
    except StoreError:
        return
    assert encode(decode(encode(entry))) == encode(entry)


def heads(data: bytes) -> None:
    """The head of another process's download: none, one whose part is in the spool, or StoreError."""
    folder = scratch("spool")
    (folder / f"{KEY}.0.part").touch()
    (folder / f"{KEY}.head").write_bytes(data)
    try:
        found = Spool(folder).follow(KEY)
    except StoreError:
        return
    if found is None:
        return
    head, fd = found
    try:
        assert Path(f"/proc/self/fd/{fd}").readlink().parent == folder.resolve()
    finally:
        os.close(fd)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(head), type=Head) == head


def redirects(data: bytes) -> None:
    """Where from and `Location`: BadUpstream, or an address that can be asked for."""
    where, location = fields(data, 2)
    try:
        url = _redirected(WHERE[len(where) % len(WHERE)], header(location))
    except BadUpstream:
        return
    _check_sent(url)


async def _is_sound(record: Record) -> bool:
    return True


_TARGET = parse_target("/pin/https://example.com/file")
_NO_STORE, _NO_UPSTREAM = (
    cast(Store, None),
    cast(UpstreamClient, None),
)  # what an answer's head says is read without them
_DOWNLOAD = Download(_TARGET, Want(), _NO_STORE, _NO_UPSTREAM, Settings(data=Path()), b"secret", _is_sound)


def _links(value: str) -> list[str]:
    found: list[str] = []
    map_links(value, lambda url: found.append(url))
    assert len(found) <= MAX_LINKS
    return found


def answers(data: bytes) -> None:
    """An upstream's headers: the length is a number or none, what is kept can be written and read."""
    parts = data.split(b"\0")
    names = (re.sub(rb"[^A-Za-z0-9-]", b"", name) or b"x" for name in parts[::2])  # h11 lets tokens through
    values = (header(value).encode("latin-1") for value in parts[1::2])
    response = httpx.Response(200, headers=list(zip(names, values, strict=False)))
    answer = UpstreamResponse(200, response.headers, "https://example.com/", response.aiter_raw())
    assert answer.length is None or answer.length >= 0
    assert answer.is_delimited or answer.length is None
    assert all(name == name.lower() for name in _vary(answer))
    if (answer.length or 0) > Settings.max_file:
        return  # refused before it is written down
    for url in _links(absolute_links(answer.headers.get("link", ""), answer.url)):
        _check_sent(url)
    head = _head(answer, Claim(Path(), KEY, -1), _DOWNLOAD)
    assert set(head.headers) <= set(KEPT_HEADERS)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(head), type=Head) == head
