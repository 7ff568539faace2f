"""Undoes the content codings of index pages (RFC 9110 section 8.4), which some servers apply though none was asked."""

from __future__ import annotations

import zlib
from collections.abc import Callable

MAX_CODINGS = 5  # as many as urllib3 undoes
_GZIP = b"\x1f\x8b"  # RFC 1952 section 2.3.1
_ZLIB, _RAW, _GZIP_MEMBER = zlib.MAX_WBITS, -zlib.MAX_WBITS, zlib.MAX_WBITS | 16


class BadCoding(ValueError):
    """The body is cut, longer than it may be, or in too many codings."""


def decoded(body: bytes, coding: str | None, limit: int) -> bytes:
    """Return the body without the codings of its `Content-Encoding`.

    Undone are gzip and deflate, the one that was applied last first. Other names (`aws-chunked`, `utf-8`, and those of
    codings that are not known here) are passed over, and so is one that the bytes are not in: whether what is left is
    a page, its reader tells. Raises BadCoding, also for more than `limit` bytes.
    """
    names = [name for name in ((coding or "").lower().replace(" ", "").split(",")) if name]
    if len(names) > MAX_CODINGS:
        raise BadCoding(f"it is in more than {MAX_CODINGS} content codings")
    for name in reversed(names):
        body = _UNDO.get(name, _as_it_is)(body, limit)
    return body


def _as_it_is(body: bytes, limit: int) -> bytes:
    return body


def _gunzipped(body: bytes, limit: int) -> bytes:
    """RFC 1952 section 2.2: members, one after the other. What follows that is none is no part of the body."""
    if not body.startswith(_GZIP):
        return body
    plain = bytearray()
    while body.startswith(_GZIP):
        try:
            member, body = _inflated(body, _GZIP_MEMBER, limit - len(plain))
        except zlib.error as error:
            raise BadCoding(f"it is not gzip: {error}") from error
        plain += member
    return bytes(plain)


def _inflated_either_way(body: bytes, limit: int) -> bytes:
    """Without `deflate`: that is zlib (RFC 1950), and what many servers mean by it is the bare stream (RFC 1951)."""
    for form in (_ZLIB, _RAW):
        try:
            return _inflated(body, form, limit)[0]
        except zlib.error:
            pass
    return body


def _inflated(body: bytes, form: int, limit: int) -> tuple[bytes, bytes]:
    """Return a compressed stream without its compression, and what stands behind it."""
    inflate = zlib.decompressobj(form)
    plain = inflate.decompress(body, limit + 1)
    if not inflate.eof or len(plain) > limit:
        raise BadCoding(f"it is cut, or longer than {limit} bytes (--max-page)")
    return plain, inflate.unused_data


_UNDO: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gunzipped,
    "x-gzip": _gunzipped,
    "deflate": _inflated_either_way,
}
