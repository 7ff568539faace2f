"""Lets in only who has an access key (`--require-keys`), and takes the key out of the request.

So nothing behind the door sees a key: it goes to no upstream, and requests with different keys share what is kept ready
in memory. A key in the address becomes a part of the root path, which all links of the answer begin with.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from httpcache.access_keys import IN_ADDRESS, RIGHTS, key_of, split_key
from httpcache.credentials import AUTHORIZATION
from httpcache.errors import KeyNeeded, MirrorError, TooMany
from httpcache.keys.current import CurrentKeys
from httpcache.keys.guesses import MOST, Guesses
from httpcache.keys.key_log import Issued
from httpcache.keys.rates import Rates
from httpcache.login import password_of
from httpcache.pages.rendering import STATIC
from httpcache.request import ROOT

from .endpoints import PROBES

log = logging.getLogger("httpcache")

_LOGIN: Final = AUTHORIZATION.encode()
_CACHED: Final = b"cache-control"
_PUBLIC: Final = b"public"
HOW: Final = (
    "this mirror needs an access key: give it as the password of a login (with any user name), as a Bearer token, or "
    "in the address, /k/<key>/...; who runs the mirror makes one with `httpcache key add NAME`"
)


class Door:
    """Knows the keys of a store, and what clients have sent.

    `opens` says whether an `Authorization` is the login of the pages, where these have one.
    """

    def __init__(self, keys: CurrentKeys, rates: Rates, opens: Callable[[str], Awaitable[bool]]) -> None:
        self._keys = keys
        self._rates = rates
        self._opens = opens
        self._guesses = Guesses()

    async def admitted(self, scope: Scope) -> Scope:
        """Return the scope of a request without its key, and with its Rights.

        Raises KeyNeeded, TooMany, Refused if it may not see the mirror's own pages, and StoreError.
        """
        scope, in_address = without_key(scope)
        logins = [value.decode("latin-1") for name, value in scope["headers"] if name == _LOGIN]
        key = in_address or next(filter(None, map(key_of, logins)), None)
        path: bytes = scope["raw_path"]
        if key is None:
            if (path == b"/" or path.startswith(b"/-/")) and await self._is_login(logins):
                return scope
            raise KeyNeeded(HOW)
        rights = (await self._checked(key, scope)).key.rights
        if path.startswith(b"/-/") and not path.startswith(STATIC.encode()):
            rights.check_pages()
        headers = [(name, value) for name, value in scope["headers"] if name != _LOGIN or not _has_key(value)]
        return {**scope, "headers": headers, RIGHTS: rights}

    async def _is_login(self, logins: Iterable[str]) -> bool:
        """Whether one is the login of the pages."""
        return any([await self._opens(login) for login in logins if password_of(login) is not None])

    async def _checked(self, key: str, scope: Scope) -> Issued:
        """Return what is known of a key that may be used now. Raises KeyNeeded, TooMany and StoreError."""
        client = scope["client"][0] if scope["client"] else ""
        found = await self._keys.find(key)
        wait = self._guesses.wait(client, found and found.number)
        if wait:
            raise TooMany("too many wrong access keys have come from your address: wait a minute", wait)
        if found is None:
            if self._guesses.wrong(client):
                log.warning("%d wrong access keys within a minute from %s: no more are looked at", MOST, client)
            raise KeyNeeded(f"your access key is not one of this mirror: {HOW}")
        state = found.state(time.time())
        if state != "active":
            how = "`httpcache key add` makes another"
            raise KeyNeeded(f"your access key, {found.key.name!r}, is {state}: ask who runs the mirror for one ({how})")
        self._guesses.right(client, found.number)
        if found.key.rate:
            wait = self._rates.wait(found.number, found.key.rate)
            if wait:
                raise TooMany(
                    f"the access key {found.key.name!r} is over its rate: wait as long as Retry-After says", wait
                )
        return found


class Guarded:
    """An application that only those requests reach which a Door admits; probes need no key.

    `door` returns it, once the store is open. `refuse` answers a request with an error.
    """

    def __init__(
        self,
        app: ASGIApp,
        door: Callable[[], Door],
        refuse: Callable[[MirrorError, Scope, Receive, Send], Awaitable[None]],
    ) -> None:
        self._app = app
        self._door = door
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["raw_path"] in PROBES:
            await self._app(scope, receive, send)
            return
        try:
            scope = await self._door().admitted(scope)
        except MirrorError as error:
            await self._refuse(error, scope, receive, send)
            return

        async def private(message: Message) -> None:
            await send(_private(message) if message["type"] == "http.response.start" else message)

        await self._app(scope, receive, private)


def without_key(scope: Scope) -> tuple[Scope, str | None]:
    """Return the scope without the key at the beginning of the address, and the key; None if it has none.

    The key stands in front of every link in the answer then.
    """
    found = split_key(scope["raw_path"]) if scope["raw_path"].startswith(IN_ADDRESS) else None
    if found is None:
        return scope, None
    key, raw = found
    return {**scope, "path": unquote(raw), "raw_path": raw, ROOT: f"/k/{key}"}, key


def _has_key(authorization: bytes) -> bool:
    return key_of(authorization.decode("latin-1")) is not None


def _private(message: Message) -> Message:
    """Return the head of a response that no shared cache may give to others, who may have no key (RFC 9111)."""
    headers = [
        (name, b"private" + value.removeprefix(_PUBLIC) if name == _CACHED and value.startswith(_PUBLIC) else value)
        for name, value in message["headers"]
    ]
    return {**message, "headers": headers}
