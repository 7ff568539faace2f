"""Answers that are ready to be sent: made once, and good as long as nothing in the store has changed.

What a mirror answers from its store is a function of the request and of the store's entries. So the answer to a plain
GET is kept as the two messages of ASGI that it is, with the state of the store in which it was made; while that is the
state, they are sent again. Nothing else has to be looked at, but whether a file that is sent is still the one that was
checked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

from starlette.types import Message, Scope

from .credentials import AUTHORIZATION

MAX_BYTES = 24 * 1024 * 1024  # of bodies that are kept in memory
MAX_BODY = MAX_BYTES // 2
MAX_ANSWERS = 8192
MAX_KEY = 1024  # bytes of an address and of what is accepted

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

Key = tuple[bytes, bytes, bytes, bytes]


class Ready(NamedTuple):
    """An answer as ASGI sends it. `holds`: what is sent from a file is still there; `size`: bytes held in memory."""

    start: Message
    body: Message
    holds: Callable[[], bool]
    size: int


class ReadyAnswers:
    """The answers of one process that are ready, those that were asked for last."""

    def __init__(self, state: Callable[[], Hashable], credential_headers: Iterable[str]) -> None:
        """`state` is the store's; `credential_headers` those that the settings add to `Authorization`."""
        self.state = state
        self._special = frozenset(name.encode() for name in (*_SPECIAL, *credential_headers))
        self._answers: OrderedDict[Key, tuple[Hashable, Ready]] = OrderedDict()
        self._size = 0

    def key(self, scope: Scope) -> Key | None:
        """Return what the answer to a plain GET depends on, besides the store; None for any other request."""
        if scope["method"] != "GET":
            return None
        accept = encoding = b""
        for name, value in scope["headers"]:
            if name in self._special:
                return None
            if name == b"accept":
                accept = accept + b"," + value if accept else value
            elif name == b"accept-encoding":
                encoding = encoding + b"," + value if encoding else value
        return scope["raw_path"], scope["query_string"], accept, encoding

    def find(self, key: Key) -> Ready | None:
        """Return the answer to a request, None where there is none that holds."""
        found = self._answers.get(key)
        if found is None:
            return None
        state, ready = found
        if state != self.state() or not ready.holds():
            self._drop(key)
            return None
        self._answers.move_to_end(key)
        return ready

    def keep(self, key: Key, state: Hashable, ready: Ready) -> None:
        """Keep an answer that was made while the store was in a state, or later."""
        if ready.size > MAX_BODY or sum(map(len, key)) > MAX_KEY:
            return
        if key in self._answers:
            self._drop(key)
        self._answers[key] = state, ready
        self._size += ready.size
        while self._size > MAX_BYTES or len(self._answers) > MAX_ANSWERS:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: Key) -> None:
        _, ready = self._answers.pop(key)
        self._size -= ready.size
