"""Whether the request that is being answered asks for what is stored alone: `Cache-Control: only-if-cached`.

Then nothing is asked of an upstream for it, and what is not stored is a 504 (RFC 9111 section 5.2.1.7). No other
directive of a request is followed (section 5.2.1): what is frozen does not age, and no client can have it renewed.
Requests with a read-only access key are all like this.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar

DIRECTIVE = "only-if-cached"
CACHE_CONTROL = b"cache-control"

_reason: ContextVar[str] = ContextVar(DIRECTIVE, default="")


def is_in(value: bytes) -> bool:
    """Whether the directive is in a value of `Cache-Control`. Names of directives have no case."""
    return any(part.strip() == DIRECTIVE.encode() for part in value.lower().split(b","))


def begin(headers: Iterable[tuple[bytes, bytes]], *, read_only: bool = False) -> None:
    """Note what the headers of a request say, for all that is done for it from now on, also by other tasks.

    `read_only`: its access key is.
    """
    is_said = any(is_in(value) for name, value in headers if name == CACHE_CONTROL)
    _reason.set("your access key is read-only" if read_only else "the request is only-if-cached" if is_said else "")


def is_asked() -> bool:
    """Whether what is being done is for such a request."""
    return bool(_reason.get())


def reason() -> str:
    """Return why nothing is asked of an upstream."""
    return _reason.get()
