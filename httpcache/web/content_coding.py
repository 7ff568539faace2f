"""Content codings of what the mirror makes itself, chosen by `Accept-Encoding` (RFC 9110 section 12.5.3), made once.

What comes from an upstream is frozen as it came, and sent as it was frozen.
"""

from __future__ import annotations

import sys
import zlib
from hashlib import sha256
from typing import NamedTuple

import anyio.to_thread

from httpcache.accept import quality

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

IDENTITY = "identity"
CODINGS = ("zstd", "gzip")
"""What we can make, the one we prefer first (RFC 8878, RFC 1952)."""
WORTHWHILE = 1024  # bytes from which on a body is coded
LIGHT = 64 * 1024  # bytes that are coded and hashed at once: that takes less time than to go to a thread and back
GZIP_LEVEL = 2
ZSTD_LEVEL = 1  # of index pages it makes less than level 3 does, in half of the time


class Encoded(NamedTuple):
    """The bytes of a body in one coding, and their strong entity tag (RFC 9110 section 8.8.3)."""

    coding: str
    body: bytes
    etag: str


class Body:
    """The bytes of a page, and what they are in each content coding."""

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self._encoded: dict[str, Encoded] = {}

    @property
    def size(self) -> int:
        """The bytes of all that is kept of it."""
        return len(self.plain) + sum(
            len(encoded.body) for encoded in self._encoded.values() if encoded.body is not self.plain
        )

    async def encoded(self, accept_encoding: str) -> Encoded:
        """Return the bytes that a header asks for; off the event loop where making it takes time."""
        coding = choose(accept_encoding) if len(self.plain) >= WORTHWHILE else IDENTITY
        if coding not in self._encoded:
            light = len(self.plain) <= LIGHT
            made = _made(coding, self.plain) if light else await anyio.to_thread.run_sync(_made, coding, self.plain)
            self._encoded.setdefault(coding, made)
        return self._encoded[coding]


def choose(accept_encoding: str) -> str:
    """Return the coding that a header likes best, `identity` where it likes none of ours."""
    weights: dict[str, float] = {}
    for element in accept_encoding.lower().split(","):
        name, _, parameter = (part.strip() for part in element.partition(";"))
        weights[name] = _weight(parameter)
    rest = weights.get("*", 0.0)
    best = max(CODINGS, key=lambda coding: weights.get(coding, rest))
    return best if weights.get(best, rest) > weights.get(IDENTITY, 0.0) else IDENTITY


def _weight(parameter: str) -> float:
    """Read `q=0.5`; 1 where there is none, 0 for what cannot be read."""
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
