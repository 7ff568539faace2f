"""Access keys: their shape, where a client gives one, and what one opens.

    hck_<32 characters of URL-safe Base64>      192 random bits (RFC 4648 section 5)

A client gives a key as Basic or Bearer login to the mirror, or at the beginning of the address, `/k/<key>/...`. It is
known by its shape wherever it stands, so that none is ever sent to an upstream or written to a log, and a login for an
upstream can be told from it.
"""

from __future__ import annotations

import re
import secrets
from base64 import b64decode
from collections.abc import Collection, Iterable, Set
from hashlib import sha256
from typing import Final, NamedTuple

from .errors import Refused
from .target import pin_prefix

PREFIX: Final = "hck_"
BYTES: Final = 24
RIGHTS: Final = "httpcache.rights"
"""In the scope of a request that came with a key, where one is needed: its Rights."""
IN_ADDRESS: Final = b"/k/" + PREFIX.encode()
"""What an address with a key begins with, below the root path."""
_ADDRESS = re.compile(rb"/k/(%b[^/]*)(/.*)?" % PREFIX.encode(), re.DOTALL)


def new_key() -> str:
    """Return a new key."""
    return PREFIX + secrets.token_urlsafe(BYTES)


def digest(key: str) -> bytes:
    """Return what is stored of a key.

    A plain SHA-256, because a key has 192 random bits: nobody can try them all, which is what the slow hashes of
    passwords are for.
    """
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


def key_of(authorization: str) -> str | None:
    """Return the key in an `Authorization`, None if it has none.

    It is a Bearer token (RFC 6750), or the password of Basic (RFC 7617) with any user name, or the user name itself.
    """
    kind, _, value = authorization.partition(" ")
    value = value.strip()
    if kind.lower() == "bearer":
        return value if value.startswith(PREFIX) else None
    if kind.lower() != "basic":
        return None
    try:
        user, _, password = b64decode(value).decode("utf-8", "surrogateescape").partition(":")
    except ValueError:
        return None
    return next((each for each in (password, user) if each.startswith(PREFIX)), None)


def split_key(raw_path: bytes) -> tuple[str, bytes] | None:
    """Split a raw path that begins with a key, `/k/<key>/...`, into the key and the path behind it; else None."""
    found = _ADDRESS.fullmatch(raw_path)
    return (found[1].decode("utf-8", "surrogateescape"), found[2] or b"/") if found else None


class Rights(NamedTuple):
    """What the key with this name opens: these pins, by their names without dates, and these registries and groups.

    With neither it opens everything. `read_only`: nothing is fetched for it.
    """

    key: str = ""
    pins: frozenset[str] = frozenset()
    registries: frozenset[str] = frozenset()
    read_only: bool = False

    @property
    def is_limited(self) -> bool:
        """Whether there is something that it does not open."""
        return bool(self.pins or self.registries)

    def check_pin(self, pin: str) -> None:
        """Raise Refused if it does not open a pin."""
        if self.is_limited and pin_prefix(pin) not in self.pins:
            raise self._refused(f"the pin {pin_prefix(pin)}")

    def check_registries(self, title: str, openers: Iterable[Set[str]]) -> None:
        """Raise Refused if it does not open an index, called `title`.

        `openers` has for each registry behind the index the names that open it: its own, and those of its groups.
        """
        if self.is_limited and not all(names & self.registries for names in openers):
            raise self._refused(title)

    def check_pages(self) -> None:
        """Raise Refused if it does not open the mirror's own pages and metrics, which name all pins and registries."""
        if self.is_limited:
            raise self._refused("the pages of this mirror")

    def _refused(self, what: str) -> Refused:
        opens = [*_named("pins", self.pins), *_named("registries", self.registries)]
        return Refused(f"the key {self.key!r} does not open {what}: it opens the {' and the '.join(opens)}")


def _named(kind: str, names: Collection[str]) -> list[str]:
    return [f"{kind} {', '.join(sorted(names))}"] if names else []


ALL: Final = Rights()
