"""Freezes the files that a registry has removed, while their bytes are still where it had them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import anyio

from httpcache.errors import BadUpstream, MirrorError, OtherBytes
from httpcache.freezing.mirror import Mirror
from httpcache.store.record import Record
from pypi_adapter.addresses import token
from pypi_adapter.history.history import Missing
from pypi_adapter.history.rescue_log import GONE, RESCUED, WITHHELD, Loss, RescueLog, RescueOutcome
from pypi_adapter.instants import now
from pypi_adapter.policy.rule_log import RuleLog
from pypi_adapter.registry.client import RetryLater
from pypi_adapter.registry.registry import Registry
from pypi_adapter.simple.model import File, ProjectStatus

from .retry import Rest, SharedBackoff

log = logging.getLogger("httpcache")

AT_ONCE = 4  # files of a registry
A_WHILE = 10 * 60 * 1_000_000  # microseconds in which what became of a file is not asked again, if it is lost again
NOT_THERE = frozenset({403, 404, 410})  # what file hosts answer for a file that has been removed
FAILED = "failed"


@dataclass(frozen=True)
class Outcomes:
    """How many files were rescued, were gone already, are withheld; and how many will have to be tried again."""

    rescued: int = 0
    gone: int = 0
    withheld: int = 0
    failed: int = 0


class Rescue:
    """Rescues the files of one registry.

    `withheld` tells why a file is withheld, None where it is not: malware that a registry has removed is not fetched.
    """

    def __init__(
        self,
        registry: Registry,
        mirror: Mirror,
        withheld: Callable[[str, File, ProjectStatus | None], Awaitable[str | None]],
    ) -> None:
        self.rest = Rest()
        """The rest that the registry has asked for."""
        self._registry = registry
        self._mirror = mirror
        self._withheld = withheld
        self._rule_log = RuleLog(mirror.store)
        self._backoff = SharedBackoff(self.rest)
        self._turns = anyio.CapacityLimiter(AT_ONCE)
        self._next: dict[str, tuple[list[Missing], ProjectStatus | None] | None] = {}

    def start(self, project: str, missing: list[Missing], status: ProjectStatus | None) -> None:
        """Settle beside the requests: what the end of the mirror cuts off has no outcome yet.

        A page can come and go with each poll. So a project is settled once at a time, and then as it is by then; and a
        file that is lost again within `A_WHILE` waits for a later loss, or a pass.
        """
        under_way = project in self._next
        self._next[project] = missing, status
        if not under_way:
            self._mirror.start(partial(self._settle_all, project))

    async def _settle_all(self, project: str) -> None:
        try:
            while found := self._next[project]:
                self._next[project] = None
                await self.settle(project, *found, rest=A_WHILE)
        finally:
            del self._next[project]

    async def settle(
        self, project: str, missing: list[Missing], status: ProjectStatus | None, rest: int = 0
    ) -> Outcomes:
        """Freeze the missing files of a project (normalised) that have no outcome yet, and keep what became of them.

        `status` is the project's as last observed. What fails for now has no outcome, so the next call tries it again.
        So it does with what is lost again within `rest` microseconds of an outcome.
        Raises StoreError where the outcomes so far cannot be read.
        """
        rescue_log = RescueLog(self._mirror.store, self._registry.name, project)
        await rescue_log.all()
        counts: Counter[str] = Counter()

        async def settle_one(file: File, loss: Loss) -> None:
            async with self._turns:
                try:
                    outcome = await self._backoff.run(lambda: self._outcome(project, file, loss, status))
                    if await rescue_log.add(outcome):
                        counts[outcome.outcome] += 1
                        # A pass can find thousands that are gone.
                        level = logging.INFO if outcome.outcome == RESCUED else logging.DEBUG
                        log.log(level, "%s is gone from the registry: %s", file.filename, outcome.outcome)
                except MirrorError as error:
                    counts[FAILED] += 1
                    log.warning("%s is gone from the registry and not rescued yet: %s", file.filename, error.text)

        losses = ((each.file, (each.file.filename, token(each.file), each.gone)) for each in missing)

        async def settle_next() -> None:
            for file, loss in losses:  # which all of these share
                found = rescue_log.found(loss)
                settled = found is not None and found.outcome != WITHHELD and now() < found.instant + rest
                if rescue_log.last(loss) in (None, WITHHELD) and not settled:
                    await settle_one(file, loss)

        async with anyio.create_task_group() as tasks:
            for _ in range(min(AT_ONCE, len(missing))):
                tasks.start_soon(settle_next)
        return Outcomes(**counts)

    async def _outcome(self, project: str, file: File, loss: Loss, status: ProjectStatus | None) -> RescueOutcome:
        """Return what becomes of a file now. Raises MirrorError where that cannot be told yet."""
        reason = await self._withheld(project, file, status)
        if reason:
            return RescueOutcome(now(), *loss, WITHHELD, reason)
        try:
            found = await self._registry.files.freeze(project, file)
        except OtherBytes:
            if self._registry.client.private:  # a page to sign in at, perhaps
                raise
            return RescueOutcome(now(), *loss, GONE, "other bytes are at its address")
        if isinstance(found, Record):
            return RescueOutcome(now(), *loss, RESCUED, size=found.size)
        if found.status in NOT_THERE and not (found.status == 403 and self._registry.client.private):
            return RescueOutcome(now(), *loss, GONE, f"its address answers {found.status}")
        if found.status == 429 or found.status >= 500:
            raise RetryLater(file.filename, found.status, found.headers.get("retry-after"))
        raise BadUpstream(f"the registry answered {found.status} for it")

    async def allowed_since(self, instant: int) -> set[str]:
        """Return the projects of which a rule by command was lifted after an instant (microseconds).

        What was withheld of them can be rescued now. Raises StoreError.
        """
        commands = [
            command for command in await self._rule_log.all() if command.instant >= instant and command.kind != "block"
        ]
        return {command.what.project for command in commands if command.what.project}
