"""What became of the files that a registry has removed: one log for each project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from httpcache.store.log import TypedLog
from httpcache.store.store import Store

RESCUED, GONE, WITHHELD = "rescued", "gone", "withheld"

Loss: TypeAlias = tuple[str, str, int]
"""One disappearance of a file: its name, its content, and the instant from which it is gone."""


Content: TypeAlias = tuple[str, str]
"""A file by its name and content."""


class RescueOutcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of a missing file, determined at an instant (microseconds).

    `content` is its token in the addresses of files. `missing` is when it disappeared: a file can come back and be
    removed again. `reason` is for people. `size` is the size of a rescued file in bytes.
    """

    instant: int
    filename: str
    content: str
    missing: int
    outcome: str
    reason: str | None = None
    size: int | None = None

    @property
    def loss(self) -> Loss:
        """The loss that has this outcome."""
        return self.filename, self.content, self.missing


class RescueLog(TypedLog[RescueOutcome]):
    """The outcomes of one project's losses, which all processes share.

    A loss has one outcome. Only "withheld" can be followed by another, because a rule can be lifted.
    """

    def __init__(self, store: Store, registry: str, project: str) -> None:
        name, subject = f"{registry}/{project} rescues", f"the rescues of {project}"  # no project's name has a space
        super().__init__(store, name, subject, msgspec.msgpack.encode, msgspec.msgpack.Decoder(RescueOutcome).decode)
        self._count = 0  # of the outcomes that the two below contain
        self._last: dict[Loss, str] = {}
        self._last_of_file: dict[Content, RescueOutcome] = {}

    async def all(self) -> Sequence[RescueOutcome]:
        """Return all outcomes, the oldest first. Raises StoreError."""
        outcomes = await super().all()
        for outcome in outcomes[self._count :]:
            self._last[outcome.loss] = outcome.outcome
            self._last_of_file[outcome.filename, outcome.content] = outcome
        self._count = len(outcomes)
        return outcomes

    def last(self, loss: Loss) -> str | None:
        """Return the outcome of a loss, as far as the log has been read."""
        return self._last.get(loss)

    def last_of_file(self, loss: Loss) -> RescueOutcome | None:
        """Return the last outcome of the same file, for any of its losses, as far as the log has been read."""
        return self._last_of_file.get(loss[:2])

    async def add(self, outcome: RescueOutcome) -> bool:
        """Append an outcome unless its loss has one; return whether it was appended. Raises StoreError."""
        while True:
            await self.all()
            if self.last(outcome.loss) not in ((None,) if outcome.outcome == WITHHELD else (None, WITHHELD)):
                return False
            if await self.try_append(outcome):
                return True
