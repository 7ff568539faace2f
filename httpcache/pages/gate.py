"""Who may see the pages: everybody, or who has logged in; and which copies are listed to whom."""

from __future__ import annotations

import hmac
import secrets

import anyio
import anyio.to_thread

from httpcache.credentials import PUBLIC
from httpcache.freezing.download import absence_key
from httpcache.login import is_password, password_of
from httpcache.settings import PASSWORD, Settings
from httpcache.store.record import Entry, Record
from httpcache.target import pin_prefix

CHALLENGE = {"www-authenticate": 'Basic realm="httpcache pages", charset="UTF-8"'}


class Gate:
    """Checks logins. A right one is remembered, as a keyed hash, since each check takes some tenths of a second."""

    def __init__(self, settings: Settings) -> None:
        self.is_closed = settings.pages == PASSWORD
        self._stored = settings.pages_password_hash or ""
        self._key = secrets.token_bytes(32)
        self._known = b""
        self._turns = anyio.CapacityLimiter(1)  # who guesses gets one core at most

    async def opens(self, authorization: str | None) -> bool:
        """Whether a request's `Authorization` is the login of the pages."""
        password = password_of(authorization)
        if not self.is_closed or password is None:
            return False
        digest = hmac.digest(self._key, password.encode(), "sha256")
        if hmac.compare_digest(digest, self._known):
            return True
        if not await anyio.to_thread.run_sync(is_password, self._stored, password, limiter=self._turns):
            return False
        self._known = digest
        return True


def is_listed(key: str, entry: Entry, settings: Settings, *, sees_all: bool) -> bool:
    """Whether an entry, kept under this key, may be named to a visitor: to all if all may read it.

    An absence has no scope; one that holds for who sends no credentials is kept under a key that says so.
    """
    if sees_all or pin_prefix(entry.pin) in settings.shared:
        return True
    return entry.scope == PUBLIC if isinstance(entry, Record) else key == absence_key(entry.target, PUBLIC)
