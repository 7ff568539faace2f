"""Lets web pages from any origin read the mirror's public responses (CORS, as defined by the Fetch standard).

Credentials are never allowed: `Access-Control-Allow-Credentials` is not sent, and no header that carries credentials is
allowed. Pages from other origins cannot read a private copy or the response to a request with credentials, not even
from the browser's cache.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SENT = (
    "Accept, Cache-Control, If-Match, If-Modified-Since, If-None-Match, If-Range, If-Unmodified-Since, Pragma, Range, "
    "User-Agent"
)
READ = "Accept-Ranges, Cache-Status, Content-Disposition, Content-Encoding, Content-Length, Content-Range, ETag, Link"
_MAX_AGE = b"86400"  # seconds for which a browser may cache a preflight response
_ANYBODY = (b"access-control-allow-origin", b"*")


class Cors:
    """Adds the CORS headers to every public response, and answers preflight requests."""

    def __init__(self, app: ASGIApp, credential_headers: Iterable[str], kept: Iterable[str]) -> None:
        """`credential_headers` carry credentials, as `Authorization` does; `kept` are additional headers to expose."""
        self._app = app
        self._private = ("authorization", "cookie", *credential_headers)
        self._exposed = (b"access-control-expose-headers", ", ".join((READ, "Retry-After", *kept)).encode("ascii"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await self._preflight(send)
            return
        private = any(name in headers for name in self._private)

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and not private and not _is_private(message):
                message = {**message, "headers": [*message["headers"], _ANYBODY, self._exposed]}
            await send(message)

        await self._app(scope, receive, sent)

    async def _preflight(self, send: Send) -> None:
        headers = [
            _ANYBODY,
            (b"access-control-allow-methods", b"GET, HEAD"),
            (b"access-control-allow-headers", SENT.encode("ascii")),
            (b"access-control-max-age", _MAX_AGE),
        ]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _is_private(message: Message) -> bool:
    return any(name == b"cache-control" and value.startswith(b"private") for name, value in message["headers"])
