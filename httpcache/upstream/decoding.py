"""Streaming decoder for content codings (RFC 9110 section 8.4), which some servers apply even if asked not to."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

MAX_CODINGS = 5  # the same limit as urllib3
PIECE = 256 * 1024  # bytes decompressed at once, so that a decompression bomb is noticed in time
_GZIP = b"\x1f\x8b"  # RFC 1952 section 2.3.1
_FIRST = 64  # bytes needed to tell whether a body really is in its coding
_ZLIB, _RAW, _GZIP_MEMBER = zlib.MAX_WBITS, -zlib.MAX_WBITS, zlib.MAX_WBITS | 16
# `deflate` means zlib (RFC 1950), but many servers send the raw stream (RFC 1951).
_FORMS = {"gzip": (_GZIP_MEMBER,), "x-gzip": (_GZIP_MEMBER,), "deflate": (_ZLIB, _RAW)}
KNOWN = frozenset(_FORMS)
"""The names of the codings that can be decoded."""


class BadCoding(ValueError):
    """The body is truncated, damaged, too long, or in too many codings."""


def codings(header: str | None) -> tuple[str, ...]:
    """Return the names in a `Content-Encoding`, in lower case and in the order to decode them: last applied first.

    Leaves out `identity`. Raises BadCoding for more than MAX_CODINGS.
    """
    names = [name.strip().lower() for name in (header or "").split(",")]
    found = tuple(name for name in reversed(names) if name not in ("", "identity"))
    if len(found) > MAX_CODINGS:
        raise BadCoding(f"it is in more than {MAX_CODINGS} content codings")
    return found


def decoded(body: bytes, header: str | None, limit: int) -> bytes:
    """Decode a body by its `Content-Encoding`.

    Decodes gzip and deflate. Skips other names (`aws-chunked`, `utf-8`, unknown codings), and codings that the bytes
    are not actually in; the caller has to check whether the result is what it expects.
    Raises BadCoding, also for a result of more than `limit` bytes.
    """
    plain = bytearray()
    for piece in Decoder(codings(header)).whole(body):
        plain += piece
        if len(plain) > limit:
            raise BadCoding(f"it is longer than {limit} bytes when decompressed")
    return bytes(plain)


class Decoder:
    """Decodes content codings, given in the order to decode them; see `decoded` for what it skips."""

    def __init__(self, names: Sequence[str]) -> None:
        self._layers = [_Layer(name, _FORMS[name]) for name in names if name in _FORMS]

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decode the next bytes of the body, and yield at most PIECE bytes at once. Raises BadCoding."""
        return _through(self._layers, data)

    def end(self) -> Iterator[bytes]:
        """Yield what remains at the end of the body. Raises BadCoding if the body is truncated."""
        for number, layer in enumerate(self._layers, 1):
            for piece in layer.end():
                yield from _through(self._layers[number:], piece)

    def whole(self, body: bytes) -> Iterator[bytes]:
        """Decode a complete body. Raises BadCoding."""
        yield from self.feed(body)
        yield from self.end()


def _through(layers: Sequence[_Layer], data: bytes) -> Iterator[bytes]:
    if layers:
        for piece in layers[0].feed(data):
            yield from _through(layers[1:], piece)
    elif data:
        yield data


class _Layer:
    """One coding. Buffers the bytes that tell whether the body is in it; passes the body through if it is not."""

    def __init__(self, name: str, forms: tuple[int, ...]) -> None:
        self._name = name
        self._forms = forms
        self._held = b""
        self._passes = False
        self._stream: zlib._Decompress | None = None
        self._over = False  # what follows is not part of the body

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._stream is None and not self._passes:
            self._held += data
            if len(self._held) < _FIRST:
                return
            data = self._begin()
        yield from self._unpacked(data)

    def end(self) -> Iterator[bytes]:
        if self._stream is None and not self._passes:
            yield from self._unpacked(self._begin())
        if self._stream and not self._stream.eof:
            raise BadCoding(f"its {self._name} data is truncated")

    def _begin(self) -> bytes:
        """Detect the format from the first bytes, and return them."""
        data, self._held = self._held, b""
        self._stream = next((zlib.decompressobj(form) for form in self._forms if _is_in(form, data)), None)
        self._passes = self._stream is None
        return data

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        if self._stream is None:
            yield data
            return
        more = False  # the decompressor has more output than one piece
        while (data or more) and not self._over:
            if self._stream.eof:
                data, more = self._next_member(data), False
                continue
            try:
                piece = self._stream.decompress(data, PIECE)
            except zlib.error as error:
                raise BadCoding(f"it is not valid {self._name}: {error}") from error
            data = self._stream.unused_data or self._stream.unconsumed_tail
            more = len(piece) == PIECE and not self._stream.eof
            if piece:
                yield piece

    def _next_member(self, data: bytes) -> bytes:
        """Start the next gzip member (RFC 1952 section 2.2). Trailing bytes that are not a member are ignored."""
        data = self._held + data
        self._held = b""
        if self._forms == (_GZIP_MEMBER,) and data.startswith(_GZIP):
            self._stream = zlib.decompressobj(_GZIP_MEMBER)
            return data
        if data == _GZIP[:1]:
            self._held = data
        else:
            self._over = True
        return b""


def _is_in(form: int, data: bytes) -> bool:
    if form == _GZIP_MEMBER:
        return data.startswith(_GZIP)
    try:
        zlib.decompressobj(form).decompress(data, PIECE)
    except zlib.error:
        return False
    return bool(data)
