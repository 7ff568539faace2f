"""What an audit finds: each time what it is, where, and what to do."""

from __future__ import annotations

from typing import NamedTuple

BACKUP = "restore the store from a backup from before, or find out who changed it"


class Finding(NamedTuple):
    """Something that is not as it should be; or with `is_note`, something that is to be known and allowed.

    `kind` is one word. `log` is the name of a log, or the beginning of its sha256 if the name is not known. `entry` is
    a number in that log, `leaf` one in the Merkle log; None where they do not apply.
    """

    kind: str
    text: str
    advice: str
    log: str | None = None
    entry: int | None = None
    leaf: int | None = None
    is_note: bool = False

    def __str__(self) -> str:
        return f"{'note' if self.is_note else 'found'}  {self.text}: {self.advice}"
