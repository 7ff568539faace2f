"""The leaves of the history's Merkle log: one for each entry that was ever added to a log, or removed from one.

An index writes a leaf in the transaction of the change that it is about, under the next number. So leaves have the
order in which changes were committed, without gaps, and there is no entry without one.

A leaf says nothing of what it is about: it has a byte for its kind, and a commitment, which is the sha256 of a random
nonce, the entry's place and the sha256 of its bytes. Who is given these three can check it; who is not learns nothing,
and cannot guess a name either.
"""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import NamedTuple

from . import keys

NONCE = 16  # bytes
PLACE = 40  # bytes: the sha256 of a log's name, and the number of the entry
REMOVED = bytes(32)
"""What a leaf about a removal has in the place of the sha256 of an entry."""


class Leaf(NamedTuple):
    """A leaf: its number in the Merkle log, whether it is about a removal, and where and what the entry is.

    `place`, `nonce` and `commitment` are bytes, see above.
    """

    number: int
    is_removal: bool
    place: bytes
    nonce: bytes
    commitment: bytes

    @property
    def data(self) -> bytes:
        """What is published of it, and hashed into the tree: 33 bytes."""
        return bytes([self.is_removal]) + self.commitment

    @property
    def key(self) -> str:
        """The key of the entry in the index."""
        return keys.numbered(f"{keys.LOGS}{self.place[:32].hex()}/", self.entry)

    @property
    def entry(self) -> int:
        """The number of the entry in its log."""
        return int.from_bytes(self.place[32:], "big")

    def is_about(self, value: bytes | None) -> bool:
        """Whether it is about an entry with these bytes; None: about its removal."""
        return self.is_removal == (value is None) and self.commitment == commitment(self.nonce, self.place, value)


def place(key: str) -> bytes:
    """Return the place of an entry of a log, by its key."""
    log, _, number = key.removeprefix(keys.LOGS).partition("/")
    return bytes.fromhex(log) + int(number).to_bytes(8, "big")


def commitment(nonce: bytes, place: bytes, value: bytes | None) -> bytes:
    """Return the commitment to an entry's bytes, or with None to its removal."""
    return sha256(nonce + place + (REMOVED if value is None else sha256(value).digest())).digest()


def new(key: str, value: bytes | None) -> tuple[bool, bytes, bytes, bytes]:
    """Return all but the number of a new leaf about an entry with these bytes; None: about its removal."""
    where, nonce = place(key), secrets.token_bytes(NONCE)
    return value is None, where, nonce, commitment(nonce, where, value)
