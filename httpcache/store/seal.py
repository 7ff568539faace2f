"""Checksums of the values in an index: databases have none, or none that is always on."""

from __future__ import annotations

from hashlib import sha256

from httpcache.errors import Damaged

from .errors import RESTORE

CHECKSUM = 8  # bytes of sha256 before each value


def sealed(key: str, value: bytes) -> bytes:
    """Prefix a value with a checksum that covers the key too, so that it cannot pass under another key."""
    return sha256(key.encode() + b"\0" + value).digest()[:CHECKSUM] + value


def unsealed(key: str, found: object) -> bytes:
    """Return a value without its checksum. Raises Damaged if it is not what was sealed under the key."""
    if isinstance(found, bytes):
        value = found[CHECKSUM:]
        if sealed(key, value) == found:
            return value
    raise Damaged(f"the entry {key} of the store's index is damaged: {RESTORE}")
