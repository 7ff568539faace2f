"""Signed checkpoints of a log: what it is at an instant, in a form that programs of others read too.

A checkpoint (c2sp.org/tlog-checkpoint) is a note (c2sp.org/signed-note) with the log's name, its size and its root. It
has two signatures by the log's own key: a plain one, and one with the time (c2sp.org/tlog-cosignature). The name of a
log has the sha256 of its public key in it, so who has kept a checkpoint knows whose the next one has to be.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

LONGEST = 16 * 1024  # characters of a note
SEED = 32  # bytes of a private key (RFC 8032 section 5.1.5)
_PLAIN, _TIMED = b"\1", b"\4"
_NAME = "httpcache-"


class BadNote(ValueError):
    """A text is no checkpoint, or not one that this key has signed."""


class Checkpoint(NamedTuple):
    """A log's name, how many leaves it had and their root, and when it was signed (seconds since the epoch)."""

    origin: str
    size: int
    root: bytes
    time: int

    @property
    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


class Key(NamedTuple):
    """The public key of a log, 32 bytes (RFC 8032 section 5.1.5)."""

    public: bytes

    @property
    def name(self) -> str:
        """The name of its log."""
        return f"{_NAME}{sha256(self.public).hexdigest()[:32]}"

    def id(self, kind: bytes) -> bytes:
        """Return the number of the key for one kind of signature, 4 bytes."""
        return sha256(self.name.encode() + b"\n" + kind + self.public).digest()[:4]

    def __str__(self) -> str:
        """As other programs take it: its name, its number, and the key itself."""
        return f"{self.name}+{self.id(_PLAIN).hex()}+{b64encode(_PLAIN + self.public).decode()}"

    @classmethod
    def read(cls, text: str) -> Key:
        """Read a key as it is written. Raises BadNote."""
        try:
            key = cls(b64decode(text.strip().split("+", 2)[2], validate=True)[1:])
        except (IndexError, Error):
            raise BadNote("this is not the key of a log") from None
        if str(key) != text.strip() or len(key.public) != SEED:
            raise BadNote("this is not the key of a log")
        return key


class Signer:
    """The private key of a log."""

    def __init__(self, seed: bytes) -> None:
        """`seed`: SEED bytes."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # 30 ms, and 9 MB

        private = Ed25519PrivateKey.from_private_bytes(seed)
        self.key = Key(private.public_key().public_bytes_raw())
        self._sign: Callable[[bytes], bytes] = private.sign

    def sign(self, size: int, root: bytes, time: int) -> str:
        """Return a signed checkpoint of the log at a time (seconds since the epoch)."""
        text = Checkpoint(self.key.name, size, root, time).text
        plain = self.key.id(_PLAIN) + self._sign(text.encode())
        timed = self.key.id(_TIMED) + time.to_bytes(8, "big") + self._sign(_timed(text, time))
        lines = (f"— {self.key.name} {b64encode(each).decode()}\n" for each in (plain, timed))
        return f"{text}\n{''.join(lines)}"


def _timed(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def read(note: str, key: Key) -> Checkpoint:
    """Return a checkpoint that a key has signed. Raises BadNote."""
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    found = re.fullmatch(r"([^\n]+)\n(0|[1-9]\d{0,18})\n([A-Za-z0-9+/]{43}=)\n", text)
    if len(note) > LONGEST or not found:
        raise BadNote("this is not a checkpoint of a log")
    if found[1] != key.name:
        raise BadNote(f"this is a checkpoint of the log {found[1]}, and not of {key.name}")
    verify, time, is_signed = _verifier(key), None, False
    for line in signatures.splitlines():
        mark, name, given = f"{line}  ".split(" ", 2)
        try:
            value = b64decode(given.strip(), validate=True)
        except Error:
            raise BadNote("this is not a checkpoint of a log") from None
        if (mark, name) != ("—", key.name):
            continue  # that of a witness
        if value.startswith(key.id(_PLAIN)):
            verify(value[4:], text.encode())
            is_signed = True
        elif value.startswith(key.id(_TIMED)):
            time = int.from_bytes(value[4:12], "big")
            verify(value[12:], _timed(text, time))
    if not is_signed or time is None:
        raise BadNote("the checkpoint is not signed by the key of this log")
    return Checkpoint(found[1], int(found[2]), b64decode(found[3]), time)


def _verifier(key: Key) -> Callable[[bytes, bytes], None]:
    """Return a function that raises BadNote unless a signature of some text is right."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    public = Ed25519PublicKey.from_public_bytes(key.public)

    def verify(signature: bytes, text: bytes) -> None:
        try:
            public.verify(signature, text)
        except InvalidSignature:
            raise BadNote("the signature of the checkpoint is wrong") from None

    return verify
