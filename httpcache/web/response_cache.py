"""An in-memory cache of complete responses, each valid as long as the generation of the store is the same.

What the mirror answers from its store is a function of the request and of the store's entries. So the response to a
plain GET is cached as its two ASGI messages, together with the generation of the store that it was made from; while the
store is at that generation, the messages are sent again. The only other check is whether a file to be sent is still the
one that was verified.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache
from typing import NamedTuple

from starlette.types import Message, Scope

from httpcache.access_keys import ALL, RIGHTS
from httpcache.credentials import AUTHORIZATION
from httpcache.lru import SizedLRU
from httpcache.metrics import Answers
from httpcache.request import ROOT
from httpcache.store.usage import Subject, Uses

from .content_coding import choose
from .labels import LABELLED

MAX_BYTES = 16 * 1024 * 1024  # of memory for all responses
MAX_BODY = MAX_BYTES // 2
MAX_KEY = 1024  # bytes of the path, the query and `Accept` together
OVERHEAD = 2500  # bytes of memory for a response besides its body, address and headers

# Headers that change the response but are not in the key: requests that have one bypass this cache.
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

Key = tuple[bytes, bytes, bytes | None, str, Hashable]


class CachedResponse(NamedTuple):
    """A response as its two ASGI messages: `start`, and `body` with the bytes or the path of a file.

    `holds` returns whether the file that the body comes from, if any, is still the one that was verified. `length` is
    that of the body in bytes. `subject` is what is noted as used; the answer is counted in `answers` and `uses`.
    """

    start: Message
    body: Message
    holds: Callable[[], bool]
    length: int = 0
    subject: Subject | None = None
    answers: Answers | None = None
    uses: Uses | None = None

    @property
    def size(self) -> int:
        """The approximate memory use in bytes."""
        headers = sum(len(name) + len(value) for name, value in self.start["headers"])
        return len(self.body.get("body", b"")) + 2 * headers + OVERHEAD


class ResponseCache:
    """The most recently used responses of one process (LRU)."""

    def __init__(self, generation: Callable[[], Hashable], credential_headers: Iterable[str]) -> None:
        """`generation` is `Store.generation`; `credential_headers` are those of `Settings`."""
        self.generation = generation
        self._special = frozenset(name.encode() for name in (*_SPECIAL, *credential_headers))
        self._answers: SizedLRU[Key, tuple[Hashable, CachedResponse]] = SizedLRU(MAX_BYTES)

    def key(self, scope: Scope) -> Key | None:
        """Return what the response to a plain GET depends on, besides the store, or None for any other request."""
        if scope["method"] != "GET" or LABELLED in scope:
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
        variant = None
        if ROOT in scope or RIGHTS in scope:  # the beginning of all links, and what may be read at all
            rights = scope.get(RIGHTS, ALL)
            variant = scope.get(ROOT), rights.pins, rights.registries
        return scope["raw_path"], scope["query_string"], accept, _coding(encoding or b""), variant

    def find(self, key: Key) -> CachedResponse | None:
        """Return the cached response, or None if there is no valid one."""
        found = self._answers.get(key)
        if found is None:
            return None
        generation, ready = found
        if generation != self.generation() or not ready.holds():
            self._answers.drop(key)
            return None
        return ready

    def keep(self, key: Key, generation: Hashable, ready: CachedResponse) -> None:
        """Cache a response; `generation` must have been read before the response was made."""
        path, query, accept, *_ = key
        length = len(path) + len(query) + len(accept or b"")
        size = ready.size
        if length <= MAX_KEY and size <= MAX_BODY:
            self._answers.put(key, (generation, ready), size + length)


@lru_cache(maxsize=256)
def _coding(accept_encoding: bytes) -> str:
    """Return the content coding of the response: many different headers lead to the same one."""
    return choose(accept_encoding.decode("latin-1"))
