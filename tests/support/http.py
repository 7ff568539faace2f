"""httpx's functions for plain HTTP on 127.0.0.1: no proxy, and no loading of certificates, which takes longer than all
the rest of a request.
"""

from __future__ import annotations

import ssl
from contextlib import AbstractContextManager
from typing import Any, Final

import httpx

_OPTIONS: Final[dict[str, Any]] = {
    "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    "trust_env": False,
    "timeout": 60,
}


def get(url: str, **options: Any) -> httpx.Response:
    """See httpx.get."""
    return request("GET", url, **options)


def head(url: str, **options: Any) -> httpx.Response:
    """See httpx.head."""
    return request("HEAD", url, **options)


def request(method: str, url: str, **options: Any) -> httpx.Response:
    """See httpx.request."""
    return httpx.request(method, url, **{**_OPTIONS, **options})


def stream(method: str, url: str, **options: Any) -> AbstractContextManager[httpx.Response]:
    """See httpx.stream."""
    return httpx.stream(method, url, **{**_OPTIONS, **options})
