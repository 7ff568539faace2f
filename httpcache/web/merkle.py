"""The Merkle log at `/-/log/`: checkpoints, tiles (c2sp.org/tlog-tiles), and entries of logs with their leaves.

Checkpoints and tiles tell nothing, and are for everybody. Entries are as open as the pages are, but those of a registry
that is asked with credentials are only for who has logged in.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from httpcache.adapter import Bound
from httpcache.audit.published import LogNames, log_page
from httpcache.audit.tiles import Tile
from httpcache.audit.tree_log import TreeLog
from httpcache.errors import BadAddress, MirrorError, NotFound
from httpcache.login import USER
from httpcache.pages.gate import CHALLENGE, Gate
from httpcache.settings import OFF, Settings
from httpcache.store.store import Store

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
_NOT_KEPT = {**HEADERS, "cache-control": "no-store"}
_KEPT = {**HEADERS, "cache-control": "public, max-age=31536000, immutable"}


class MerkleLog:
    """Answers requests below `/-/log/`."""

    def __init__(self, store: Store, bound: Sequence[Bound], gate: Gate, settings: Settings) -> None:
        self._store = store
        self._log = TreeLog(store)
        self._bound = bound
        self._gate = gate
        self._is_off = settings.pages == OFF

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        try:
            return await self._answer(request, request.path_params["path"])
        except MirrorError as error:
            return PlainTextResponse(f"{error.text}\n", error.status, headers={**_NOT_KEPT, **error.headers})

    async def _answer(self, request: Request, path: str) -> Response:
        kind, _, rest = path.partition("/")
        if path == "checkpoint":
            return PlainTextResponse(await self._log.checkpoint(), headers=_NOT_KEPT)
        if path == "key":
            return PlainTextResponse(f"{(await self._log.signer()).key}\n", headers=_NOT_KEPT)
        if kind == "tile":
            return await self._tile(rest)
        if path == "logs" or kind == "entries":
            sees_all = await self._gate.opens(request.headers.get("authorization"))
            if self._is_off:
                raise NotFound("this mirror shows no entries, as it shows no pages (--pages off)")
            if self._gate.is_closed and not sees_all:
                return PlainTextResponse(
                    f"log in as {USER} to see the entries of logs\n", 401, headers={**_NOT_KEPT, **CHALLENGE}
                )
            return await (self._names(sees_all) if path == "logs" else self._entries(request, rest, sees_all))
        raise NotFound("there is no such address: /-/log/ has checkpoint, key, tile/, logs and entries/")

    async def _tile(self, path: str) -> Response:
        try:
            tile = Tile.read(path)
        except ValueError:
            raise BadAddress("the path of a tile is like 0/000, 1/x001/234 or entries/000.p/17") from None
        return Response(await self._log.tile(tile), media_type="application/octet-stream", headers=_KEPT)

    async def _names(self, sees_all: bool) -> Response:
        names = [name for bound in self._bound for name in await bound.log_names(sees_all=sees_all)]
        return _json(LogNames(sorted(names)))

    async def _entries(self, request: Request, name: str, sees_all: bool) -> Response:
        start = request.query_params.get("from", "0")
        if not (start.isascii() and start.isdecimal() and len(start) <= 10):
            raise BadAddress("from= is the number of an entry")
        if not any(bound.shows_log(name, sees_all=sees_all) for bound in self._bound):
            raise NotFound(
                "there is no such log, or it is not shown: /-/log/logs lists those that are. Entries of a registry "
                "that is asked with credentials are for who has logged in (--pages password)"
            )
        return _json(await log_page(self._store, name, int(start)))


def _json(value: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json", headers=_NOT_KEPT)
