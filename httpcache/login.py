"""The password of the pages for people: how its hash is written, and the user name that is never sent to an upstream.

scrypt:<log2 of N>:<r>:<p>:<salt>:<key>          salt and key in URL-safe Base64 (RFC 4648 section 5)

Browsers send a login again to every address of the same host that asks for one, and an upstream can ask. So the user
name is fixed, and a request's `Authorization` with that name is for the pages alone.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from hashlib import scrypt

USER = "httpcache-pages"
_COST, _BLOCK, _PARALLEL = 14, 8, 5  # 16 MiB, and some tenths of a second
_LENGTH = 32
_HOW = "write what `httpcache pages-password` prints"


def make_hash(password: str) -> str:
    """Return the hash of a password for the settings, with a new salt."""
    salt = secrets.token_bytes(16)
    key = _derive(password, salt, _COST, _BLOCK, _PARALLEL, _LENGTH)
    return f"scrypt:{_COST}:{_BLOCK}:{_PARALLEL}:{_text(salt)}:{_text(key)}"


def is_password(stored: str, password: str) -> bool:
    """Whether a hash is that of a password. Takes some tenths of a second. Raises ValueError if it is no hash."""
    cost, block, parallel, salt, key = _parts(stored)
    return hmac.compare_digest(_derive(password, salt, cost, block, parallel, len(key)), key)


def check_hash(stored: str) -> str:
    """Return a hash unchanged. Raises ValueError if it is none."""
    _parts(stored)
    return stored


def password_of(authorization: str | None) -> str | None:
    """Return the password in a Basic `Authorization` (RFC 7617) with the user name of the pages, else None."""
    kind, _, coded = (authorization or "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        user, colon, password = b64decode(coded.strip()).decode().partition(":")
    except ValueError:
        return None
    return password if colon and user == USER else None


def _derive(password: str, salt: bytes, cost: int, block: int, parallel: int, length: int) -> bytes:
    memory = 2 * 128 * block * (2**cost + parallel)
    return scrypt(password.encode(), salt=salt, n=2**cost, r=block, p=parallel, maxmem=memory, dklen=length)


def _parts(stored: str) -> tuple[int, int, int, bytes, bytes]:
    try:
        name, *numbers, salt, key = stored.split(":")
        cost, block, parallel = map(int, numbers)
        found = cost, block, parallel, urlsafe_b64decode(salt), urlsafe_b64decode(key)
    except ValueError:
        raise ValueError(f"the hash of the pages' password cannot be read: {_HOW}") from None
    if name != "scrypt" or not 10 <= cost <= 20 or not 1 <= block <= 16 or not 1 <= parallel <= 16:
        raise ValueError(f"the hash of the pages' password is not one of scrypt with usual costs: {_HOW}")
    if len(found[3]) < 8 or not 16 <= len(found[4]) <= 64:
        raise ValueError(f"the hash of the pages' password is cut off: {_HOW}")
    return found


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode()
