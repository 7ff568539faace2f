"""The fuzz target of a whole request: any path, any headers to the application, offline, with a few things frozen."""

from __future__ import annotations

import asyncio
import atexit
import logging
import re
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from httpcache.adapter import adapters
from httpcache.settings import Settings
from httpcache.store.local import LocalStore
from httpcache.store.record import Record
from httpcache.target import parse_target
from httpcache.web.app import build
from tests.fuzz.fields import CREDENTIAL, fields, header, scratch

ROOT = "/mirror"
STATUSES = {200, 206, 304, 307, 400, 404, 405, 406, 412, 416, 504}
HEADERS = (b"accept", b"range", b"if-none-match", b"if-modified-since", b"if-range", b"host", b"x-forwarded-proto")
JSON = "application/vnd.pypi.simple.v1+json"
FROZEN = {
    "/pin/https://example.com/file": ("text/plain", bytes(range(256))),
    "/pin/https://example.com/empty": ("text/plain", b""),
    "/pin/https://example.com/page.html": ("text/html", b"<html><a href='/x'>x</a></html>"),
    "/pin/https://example.com/simple/thing/": (
        JSON,
        b'{"meta": {"api-version": "1.0"}, "name": "thing", "files": '
        b'[{"filename": "thing-1.0-py3-none-any.whl", "url": "../../f/thing-1.0-py3-none-any.whl?a=b", "hashes": {}}]}',
    ),
    "/pin/https://example.com/simple/": (
        "text/html",
        b"<meta name='pypi:repository-version' content='1.0'><a href=x>x",
    ),
}
_FORBIDDEN = (b"\r", b"\n", b"\0")


@dataclass
class _Sent:
    """What the application sent."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    ended: bool = False


def requests(data: bytes) -> None:
    """Method, path, query, headers: a documented status, a whole body, no line end in a header, no credential."""
    head, *values = fields(data, 2 + len(HEADERS))
    line = re.sub("[\x00-\x20\x7f#]", "", head.decode("utf-8", "ignore")).replace(
        CREDENTIAL, ""
    )  # others get no answer
    raw, _, query = line.encode().partition(b"?")
    method = "HEAD" if values[0][:1] == b"h" else "GET"
    values[0] = values[0][1:]
    path = raw if raw.startswith(b"/") else b"/" + raw
    lines = [(b"authorization", f"Basic {CREDENTIAL}".encode()), (b"x-api-key", CREDENTIAL.encode())]
    lines += [
        (name, header(value).encode("latin-1")) for name, value in zip(HEADERS, values, strict=False) if header(value)
    ]
    sent = _application().ask(method, path, query + b"&sig=" + CREDENTIAL.encode() if query else b"", lines)
    names = dict(sent.headers)
    assert sent.status in STATUSES, sent.status
    assert sent.ended
    assert len(names) == len(sent.headers)
    assert not any(bad in name + value for name, value in sent.headers for bad in _FORBIDDEN)
    assert all(name == name.lower() for name in names)
    if sent.status != 304 and method == "GET":
        assert int(names[b"content-length"]) == len(sent.body)
    assert CREDENTIAL.encode() not in sent.body + b"".join(value for _, value in sent.headers)
    if b"cache-status" in names:  # of a stranger, or about one
        assert b"sandbox" in names[b"content-security-policy"]
        assert names[b"x-content-type-options"] == b"nosniff"
    if sent.status == 307:
        assert names[b"location"].startswith(f"{ROOT}/".encode())
        assert not names[b"location"].startswith(f"{ROOT}//".encode())


class _Application:
    """The application on an event loop of its own, in a folder that is gone at the end."""

    def __init__(self) -> None:
        self._folder = scratch("app")
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(_freeze(self._folder))
        settings = Settings(
            data=self._folder / "data",
            root_path=ROOT,
            offline=True,
            adapters={"pypi-upstream": "http://127.0.0.1:9/simple/"},
        )
        self._app = build(settings, list(adapters()))
        self._stop = asyncio.Event()
        self._started = asyncio.Event()
        level = logging.getLogger("httpcache").level
        self._life = self._loop.create_task(self._live())
        self._loop.run_until_complete(self._started.wait())
        logging.getLogger("httpcache").setLevel(level)
        atexit.register(self._close)

    def ask(self, method: str, path: bytes, query: bytes, headers: list[tuple[bytes, bytes]]) -> _Sent:
        """Send one request."""
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": headers if b"host" in dict(headers) else [(b"host", b"mirror"), *headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8080),
        }
        return self._loop.run_until_complete(self._ask(scope))

    async def _ask(self, scope: dict[str, Any]) -> _Sent:
        sent = _Sent()
        asked: list[dict[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not asked:
                await asyncio.Event().wait()
            return asked.pop()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                assert not sent.status
                sent.status, sent.headers = message["status"], list(message["headers"])
            else:
                assert sent.status
                assert not sent.ended
                sent.body += message.get("body", b"")
                sent.ended = not message.get("more_body", False)

        async with asyncio.timeout(30):
            await self._app(scope, receive, send)
        return sent

    async def _live(self) -> None:
        waiting: list[dict[str, str]] = [{"type": "lifespan.startup"}]

        async def receive() -> dict[str, str]:
            if not waiting:
                await self._stop.wait()
                return {"type": "lifespan.shutdown"}
            return waiting.pop()

        async def send(message: Any) -> None:
            assert not message["type"].endswith("failed"), message
            self._started.set()

        await self._app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)

    def _close(self) -> None:
        self._stop.set()
        self._loop.run_until_complete(self._life)
        self._loop.close()


@cache
def _application() -> _Application:
    return _Application()


async def _freeze(folder: Path) -> None:
    """Put `FROZEN` into a store."""
    store = LocalStore(folder / "data")
    for number, (path, (kind, body)) in enumerate(FROZEN.items()):
        target, file = parse_target(path), store.spool / f"{number}"
        file.write_bytes(body)
        headers = {"content-type": kind, "last-modified": "Tue, 02 Jan 2024 03:04:05 GMT"}
        digest = sha256(body).hexdigest()
        record = Record(target.key, target.pin, target.url, target.url, digest, len(body), 0.0, headers=headers)
        await store.freeze(f"r/{target.key}", record, file)
    store.close()
