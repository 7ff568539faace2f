"""What became of the files that a registry has removed, in a log of its own for each project."""

from __future__ import annotations

from typing import TypeAlias

import anyio
import msgspec

from httpcache.errors import StoreError
from httpcache.store.base import Store
from httpcache.store.log import Log

RESCUED, GONE, WITHHELD = "rescued", "gone", "withheld"

Loss: TypeAlias = tuple[str, str, int]
"""One disappearance of a file: its name, its content, and the instant from which on it is gone."""


Content: TypeAlias = tuple[str, str]
"""A file by its name and content."""


class RescueOutcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of a missing file, as was found at an instant (microseconds).

    `content` is its token in the addresses of files. `missing`: from when on it is gone, for a file can come back and
    be removed again. `reason` is for people; `size` is that of a rescued file, in bytes.
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
        """What this is the outcome of."""
        return self.filename, self.content, self.missing


def rescues_log(store: Store, registry: str, project: str) -> Log:
    """Return the log of the outcomes of a project's losses."""
    return Log(store, f"{registry}/{project} rescues")  # no name has a space in it


class RescueLog:
    """The outcomes of one project's losses, in the store: shared by all processes.

    A loss has one outcome. Only "withheld" can be followed by another: a rule can be lifted.
    """

    def __init__(self, store: Store, registry: str, project: str) -> None:
        self._log = rescues_log(store, registry, project)
        self._project = project
        self._outcomes: list[RescueOutcome] = []
        self._last: dict[Loss, str] = {}
        self._found: dict[Content, RescueOutcome] = {}  # the last of each
        self._adding = anyio.Lock()

    async def read(self) -> list[RescueOutcome]:
        """Return all outcomes, the oldest first. Raises StoreError."""
        for value in await self._log.read(len(self._outcomes)):
            try:
                found = msgspec.msgpack.decode(value, type=RescueOutcome)
            except ValueError as error:
                raise StoreError(
                    f"the log of the rescues of {self._project} is damaged: restore the store from a copy"
                ) from error
            self._outcomes.append(found)
            self._last[found.loss] = found.outcome
            self._found[found.filename, found.content] = found
        return self._outcomes

    def last(self, loss: Loss) -> str | None:
        """Return the outcome of a loss, as far as the log has been read."""
        return self._last.get(loss)

    def found(self, loss: Loss) -> RescueOutcome | None:
        """Return the last outcome of the same file, of whichever of its losses, as far as the log has been read."""
        return self._found.get(loss[:2])

    async def add(self, outcome: RescueOutcome) -> bool:
        """Keep an outcome unless its loss has one; return whether it was kept. Raises StoreError."""
        value = msgspec.msgpack.encode(outcome)
        async with self._adding:
            while True:
                await self.read()
                if self.last(outcome.loss) not in ((None,) if outcome.outcome == WITHHELD else (None, WITHHELD)):
                    return False
                if await self._log.append(len(self._outcomes), value):
                    return True
