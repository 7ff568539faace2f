"""The W3C trace context of the request that is being answered: its `traceparent` is handed on to upstreams.

A download belongs to the request that began it; others that share it have no part in it. What has another form than
version 00 says is not handed on, nor is `tracestate`, which is for those who have agreed on it.
https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from contextvars import ContextVar

PARENT = "traceparent"
_FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_current: ContextVar[str] = ContextVar("traceparent", default="")


def begin(traceparent: str) -> None:
    """Note the header of a request, if it is valid, for all that is done for it from now on, also by other tasks."""
    _current.set(traceparent if _FORM.fullmatch(traceparent) else "")


def current() -> str:
    """Return the `traceparent` of the request that is being answered, "" if it has none."""
    return _current.get()
