"""httpx's functions for plain HTTP on 127.0.0.1: no proxy, and no loading of certificates, which takes longer than all
the rest of a request.
"""

from __future__ import annotations

import ssl
from functools import partial
from typing import Any, Final

import httpx

_OPTIONS: Final[dict[str, Any]] = {
    "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    "trust_env": False,
    "timeout": 60,
}

get = partial(httpx.get, **_OPTIONS)
head = partial(httpx.head, **_OPTIONS)
request = partial(httpx.request, **_OPTIONS)
stream = partial(httpx.stream, **_OPTIONS)
