"""Compresses pages that the mirror generates: negotiated by `Accept-Encoding` (RFC 9110 section 12.5.3), encoded once.

Upstream responses are frozen exactly as received and sent exactly as frozen.
"""

from __future__ import annotations

import zlib
from hashlib import sha256
from typing import NamedTuple

import anyio.to_thread

from httpcache import zstd
from httpcache.accept import quality

IDENTITY = "identity"
CODINGS = ("zstd", "gzip")
"""The supported codings, the preferred one first (RFC 8878, RFC 1952)."""
WORTHWHILE = 1024  # bytes; smaller bodies are not compressed
LIGHT = 512 * 1024  # bytes that are compressed and hashed on the event loop: 1 ms in zstd, 2 ms in gzip
GZIP_LEVEL = 2
ZSTD_LEVEL = 1  # for index pages the output is smaller than with level 3, in half the time


class Encoded(NamedTuple):
    """A body in one content coding, with its strong entity tag (RFC 9110 section 8.8.3)."""

    coding: str
    body: bytes
    etag: str


class Body:
    """A generated page: its plain bytes and, once requested, its bytes in each content coding."""

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self._encoded: dict[str, Encoded] = {}

    @property
    def size(self) -> int:
        """The total number of bytes held in memory."""
        return len(self.plain) + sum(
            len(encoded.body) for encoded in self._encoded.values() if encoded.body is not self.plain
        )

    async def encoded(self, accept_encoding: str) -> Encoded:
        """Return the body in the coding that `Accept-Encoding` prefers; a large one is compressed in a thread."""
        coding = choose(accept_encoding) if len(self.plain) >= WORTHWHILE else IDENTITY
        if coding not in self._encoded:
            light = len(self.plain) <= LIGHT
            made = _made(coding, self.plain) if light else await anyio.to_thread.run_sync(_made, coding, self.plain)
            self._encoded.setdefault(coding, made)
        return self._encoded[coding]


def choose(accept_encoding: str) -> str:
    """Return the supported coding that the header prefers, or `identity` if it prefers none of them."""
    weights: dict[str, float] = {}
    for element in accept_encoding.lower().split(","):
        name, _, parameter = (part.strip() for part in element.partition(";"))
        weights[name] = _weight(parameter)
    rest = weights.get("*", 0.0)
    best = max(CODINGS, key=lambda coding: weights.get(coding, rest))
    return best if weights.get(best, rest) > weights.get(IDENTITY, 0.0) else IDENTITY


def _weight(parameter: str) -> float:
    """Parse `q=0.5`. Returns 1 if the parameter is missing, 0 if it cannot be parsed."""
    name, _, value = parameter.partition("=")
    if not parameter:
        return 1.0
    return quality(value) or 0.0 if name.strip() == "q" else 0.0


def _made(coding: str, plain: bytes) -> Encoded:
    body = plain
    if coding == "gzip":
        body = zlib.compress(plain, GZIP_LEVEL, wbits=zlib.MAX_WBITS | 16)
    elif coding == "zstd":
        body = zstd.compress(plain, ZSTD_LEVEL)
    return Encoded(coding, body, f'"{sha256(body).hexdigest()}"')
