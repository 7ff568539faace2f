"""The health and readiness checks."""

from __future__ import annotations

import anyio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from httpcache.errors import MirrorError
from httpcache.store import keys

PROBES = (b"/-/health", b"/-/ready")
READY_SECONDS = 2.0
"""Seconds for the store to answer; load balancers do not wait long for a readiness check."""

_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


async def health(request: Request) -> Response:
    """Answer 200 whenever the process is running."""
    return PlainTextResponse("ok\n", headers=_HEADERS)


async def ready(request: Request) -> Response:
    """Answer 200 if the store can be read, 503 otherwise."""
    try:
        with anyio.fail_after(READY_SECONDS):
            await request.app.state.store.get(keys.SECRET)
    except TimeoutError:
        text = f"the store has not answered within {READY_SECONDS:.0f} seconds\n"
        return PlainTextResponse(text, 503, headers=_HEADERS)
    except MirrorError as error:
        return PlainTextResponse(error.text + "\n", 503, headers=_HEADERS)
    return PlainTextResponse("ready\n", headers=_HEADERS)
