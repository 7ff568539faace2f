"""The trace of the request that is being answered: its `traceparent` (W3C Trace Context) goes to upstreams.

A download belongs to the request that began it; others that share it have no part in it. What has another form than
version 00 says is not handed on, nor is `tracestate`, which is for those who have agreed on it. Where spans are
recorded (see `web.telemetry`), an upstream gets that of the request to it.
https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

PARENT = "traceparent"
_FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

Asking = Callable[[str], AbstractContextManager[str]]

_current: ContextVar[str] = ContextVar("traceparent", default="")
_recorded: ContextVar[Asking | None] = ContextVar("asking", default=None)


def begin(traceparent: str) -> None:
    """Note the header of a request, if it is valid, for all that is done for it from now on, also by other tasks."""
    _current.set(traceparent if _FORM.fullmatch(traceparent) else "")


def record(asking: Asking) -> None:
    """Enter a block of `asking(url)` for each request to an upstream that is made for this request."""
    _recorded.set(asking)


@contextmanager
def to_upstream(url: str) -> Iterator[str]:
    """Yield the `traceparent` to send with a request to a URL, "" for none."""
    recorded = _recorded.get()
    if recorded is None:
        yield _current.get()
        return
    with recorded(url) as parent:
        yield parent
