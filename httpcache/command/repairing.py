"""Repairs damaged bodies: asks a mirror in this process for each address, which fetches it again if it is damaged.

The mirror accepts nothing but the bytes that the record names, so what was answered once does not change.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from starlette.types import Message

from httpcache.adapter import Adapter
from httpcache.freezing.mirror import running
from httpcache.settings import Settings
from httpcache.store.record import Record
from httpcache.store.recorder import Recorder
from httpcache.store.store import Store
from httpcache.store.usage import Journal
from httpcache.web.accounting import Accounts
from httpcache.web.app import Front
from httpcache.web.labels import Labels, older_pins

from .verifying import Repair

OTHERWISE = "restore the data folder from a backup, or forget the entry"


@asynccontextmanager
async def repairing(store: Store, settings: Settings, installed: Sequence[Adapter]) -> AsyncIterator[Repair]:
    """Return how to repair a body, inside the block. Its requests are not in the usage journal."""
    async with running(settings, store, store.spool, "(repair)") as mirror:
        bound = [adapter.bind(mirror) for adapter in installed]
        accounts = Accounts(mirror.metrics, Journal(store.usage), Recorder(store.builds, 0.0))
        front = Front(mirror, bound, accounts, Labels((), await older_pins(store)))

        async def repair(record: Record) -> str:
            if record.scope:
                return "it is private: request it once with credentials that may read it"
            if "=…" in record.url:
                return "the values of its query are not kept: request it once with them"
            status = await _ask(front, record)
            if await store.check(record.digest, record.size):
                return ""
            return f"the upstream does not have these bytes any more (answered {status}): {OTHERWISE}"

        yield repair


async def _ask(front: Front, record: Record) -> int:
    """Request the address of a record as a client does; return the status."""
    path = f"/{record.pin}/{quote(record.url, safe='%/:?#[]@!$&()*+,;=~')}"
    raw, _, query = path.partition("?")
    headers = [(b"host", b"localhost"), (b"accept", (record.varies or "*/*").encode())]
    scope: dict[str, Any] = {
        "type": "http", "method": "GET", "http_version": "1.1", "scheme": "http", "root_path": "", "path": raw,
        "raw_path": raw.encode(), "query_string": query.encode(), "headers": headers, "client": ("127.0.0.1", 0),
        "server": ("localhost", 80),
    }  # fmt: skip
    status = 0

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    try:
        await front(scope, receive, send)
    except Exception:  # noqa: BLE001
        return status  # it broke off: the body is checked next
    return status
