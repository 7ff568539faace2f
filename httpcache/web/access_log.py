"""Logs each request once it is answered, with an id: that of `X-Request-ID`, or a new one. It is sent back."""

from __future__ import annotations

import logging
import re
import secrets
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from httpcache.logs import ACCESS
from httpcache.target import shown_address, split_path

from .accounting import Sent

log = logging.getLogger(ACCESS)

ID = b"x-request-id"
_VALID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


class AccessLog:
    """An application whose requests are logged. Only what finds the client stands before it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = _identity(scope)

        async def identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (ID, identity)]}
            await send(message)

        began, sent = perf_counter(), Sent(identified)
        try:
            await self._app(scope, receive, sent)
        finally:
            _log(scope, sent, perf_counter() - began, identity.decode("ascii"))


def _identity(scope: Scope) -> bytes:
    """Return the id that a request has if it is a usable one: a client could put anything into the log."""
    given = [value for name, value in scope["headers"] if name == ID]
    return given[0] if len(given) == 1 and _VALID.fullmatch(given[0]) else secrets.token_hex(16).encode("ascii")


def _log(scope: Scope, sent: Sent, seconds: float, identity: str) -> None:
    client = scope["client"]
    target = shown_address(scope["raw_path"], scope["query_string"])
    fields = {
        "method": scope["method"],
        "pin": split_path(target).pin,
        "target": target,
        "status": sent.status,
        "bytes": sent.bytes,
        "seconds": round(seconds, 6),
        "cache_status": sent.cache_status,
        "request_id": identity,
        "client": client[0] if client else "",
    }
    log.info("%s", " ".join(f"{name}={_quoted(value)}" for name, value in fields.items()), extra={"fields": fields})


def _quoted(value: object) -> str:
    text = str(value)
    return text if text and not set(text) & set(' "=') else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
