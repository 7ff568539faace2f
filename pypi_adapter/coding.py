"""Undoes the content coding of an index page (RFC 9110 section 8.4), which some servers apply though none was asked."""

from __future__ import annotations

import zlib


class BadCoding(ValueError):
    """The body is not in the coding that its header names, or in one that is not known here."""


def decoded(body: bytes, coding: str | None, limit: int) -> bytes:
    """Return the body without its coding, None or gzip. Raises BadCoding, also for more than `limit` bytes."""
    coding = (coding or "identity").strip().lower()
    if coding == "identity":
        return body
    if coding not in ("gzip", "x-gzip"):
        raise BadCoding(f"its content coding is {coding[:40]!r}")
    plain = bytearray()
    while body:  # RFC 1952 section 2.2: members, one after the other
        inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            plain += inflate.decompress(body, limit - len(plain) + 1)
        except zlib.error as error:
            raise BadCoding(f"it is not gzip: {error}") from error
        if not inflate.eof or len(plain) > limit:
            raise BadCoding(f"it is cut, or longer than {limit} bytes (--max-page)")
        body = inflate.unused_data
    return bytes(plain)
