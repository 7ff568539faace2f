"""Access keys for a test, and the ways in which a client gives one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import anyio
import httpx

from httpcache.access_keys import Rights, new_key
from httpcache.keys.key_log import KeyLog, Rate, added
from httpcache.store.local import LocalStore
from tests.support import http


def make(
    data: Path,
    key: str = "",
    *,
    expired: bool = False,
    revoked: bool = False,
    rate: Rate | None = None,
    **rights: object,
) -> str:
    """Return a new key, or the given one, in the store of a data folder, which a server may be using."""
    key = key or new_key()
    pins, registries = (frozenset(rights.get(name, ())) for name in ("pins", "registries"))  # type: ignore[call-overload]
    name = str(rights.get("name", f"key-{time.time_ns()}"))
    given = Rights(name, pins, registries, bool(rights.get("read_only")))

    async def work() -> None:
        store = LocalStore(data)
        try:
            log = KeyLog(store)
            await log.add(added(key, given, expires=time.time() if expired else None, rate=rate))
            if revoked:
                await log.revoke(name)
        finally:
            store.close()

    anyio.run(work)
    return key


def _in_address(key: str, path: str) -> tuple[str, Mapping[str, str]]:
    return f"/k/{key}{path}", {}


def _basic(user: str, password: str) -> Mapping[str, str]:
    return {"Authorization": httpx.BasicAuth(user, password)._auth_header}


FORMS: Final[Mapping[str, Callable[[str, str], tuple[str, Mapping[str, str]]]]] = {
    "address": _in_address,
    "bearer": lambda key, path: (path, {"Authorization": f"Bearer {key}"}),
    "basic": lambda key, path: (path, _basic("anybody", key)),
    "user": lambda key, path: (path, _basic(key, "")),
}
"""For each form, what path and which headers a request for a path has with a key."""


def ask(url: str, path: str, key: str = "", form: str = "bearer", client: str = "", **headers: str) -> httpx.Response:
    """What a mirror answers for a path with a key; `client` is an address that a proxy tells. No redirects."""
    where, given = FORMS[form](key, path) if key else (path, {})
    told = {"X-Forwarded-For": client} if client else {}
    return http.get(url + where, headers={**given, **told, **headers})
