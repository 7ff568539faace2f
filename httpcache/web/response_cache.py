"""Answers that are ready to be sent: made once, and good as long as the state of the store is the same.

What a mirror answers from its store is a function of the request and of the store's entries. So the answer to a plain
GET is kept as the two messages of ASGI that it is, with the state of the store in which it was made; while that is the
state, they are sent again. Nothing else has to be looked at, but whether a file that is sent is still the one that was
checked.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache
from typing import NamedTuple

from starlette.types import Message, Scope

from httpcache.credentials import AUTHORIZATION
from httpcache.lru import SizedLRU

from .content_coding import choose

MAX_BYTES = 16 * 1024 * 1024  # that answers take in memory
MAX_BODY = MAX_BYTES // 2
MAX_KEY = 1024  # bytes of an address and of what is accepted
OVERHEAD = 2500  # bytes that an answer takes besides its body, its address and its headers

# What changes the answer to a request, and is not in the key: these requests are looked at one by one.
_SPECIAL = (
    AUTHORIZATION,
    "cdn-loop",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
)

Key = tuple[bytes, bytes, bytes | None, str]


class CachedResponse(NamedTuple):
    """An answer as ASGI sends it: its head, and its body or the path of it.

    `holds`: what is sent from a file is still there.
    """

    start: Message
    body: Message
    holds: Callable[[], bool]

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        headers = sum(len(name) + len(value) for name, value in self.start["headers"])
        return len(self.body.get("body", b"")) + 2 * headers + OVERHEAD


class ResponseCache:
    """The answers of one process that are ready, those that were asked for last."""

    def __init__(self, generation: Callable[[], Hashable], credential_headers: Iterable[str]) -> None:
        """`generation` is the store's; `credential_headers` those that the settings add to `Authorization`."""
        self.generation = generation
        self._special = frozenset(name.encode() for name in (*_SPECIAL, *credential_headers))
        self._answers: SizedLRU[Key, tuple[Hashable, CachedResponse]] = SizedLRU(MAX_BYTES)

    def key(self, scope: Scope) -> Key | None:
        """Return what the answer to a plain GET depends on, besides the store; None for any other request."""
        if scope["method"] != "GET":
            return None
        accept = encoding = None
        hosts = 0
        for name, value in scope["headers"]:
            if name == b"accept":
                if accept is not None:
                    return None
                accept = value
            elif name == b"accept-encoding":
                if encoding is not None:
                    return None
                encoding = value
            elif name == b"host":
                hosts += 1 if value else 2
            elif name in self._special:
                return None
        if hosts != 1:
            return None
        return scope["raw_path"], scope["query_string"], accept, _coding(encoding or b"")

    def find(self, key: Key) -> CachedResponse | None:
        """Return the answer to a request, None where there is none that holds."""
        found = self._answers.get(key)
        if found is None:
            return None
        generation, ready = found
        if generation != self.generation() or not ready.holds():
            self._answers.drop(key)
            return None
        return ready

    def keep(self, key: Key, generation: Hashable, ready: CachedResponse) -> None:
        """Keep an answer that was made while the store was in a state, or later."""
        path, query, accept, _ = key
        length = len(path) + len(query) + len(accept or b"")
        size = ready.size
        if length <= MAX_KEY and size <= MAX_BODY:
            self._answers.put(key, (generation, ready), size + length)


@lru_cache(maxsize=256)
def _coding(accept_encoding: bytes) -> str:
    """Return the coding that an answer would have: the header itself differs more than answers do."""
    return choose(accept_encoding.decode("latin-1"))
