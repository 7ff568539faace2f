"""Freezes files that a registry has removed from its pages, while they can still be downloaded."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import anyio

from httpcache.errors import BadUpstream, MirrorError, OtherBytes
from httpcache.freezing.mirror import Mirror
from httpcache.metrics import REMOVED
from httpcache.store.record import Record
from pypi_adapter.addresses import token
from pypi_adapter.history.history import Missing
from pypi_adapter.history.rescue_log import GONE, RESCUED, WITHHELD, Loss, RescueLog, RescueOutcome
from pypi_adapter.instants import now
from pypi_adapter.policy.rule_log import RuleLog
from pypi_adapter.registry.client import RetryLater
from pypi_adapter.registry.registry import Registry
from pypi_adapter.registry.rest import Rest
from pypi_adapter.simple.model import File, ProjectStatus

from .retry import SharedBackoff

log = logging.getLogger("httpcache")

AT_ONCE = 4  # files of a registry
A_WHILE = 10 * 60 * 1_000_000  # microseconds before a file that is lost again is tried again
NOT_THERE = frozenset({403, 404, 410})  # statuses of file hosts for a removed file
FAILED = "failed"


@dataclass(frozen=True)
class Outcomes:
    """How many files were rescued, were already gone, are withheld, and failed and will be tried again."""

    rescued: int = 0
    gone: int = 0
    withheld: int = 0
    failed: int = 0


class Rescue:
    """Rescues the files of one registry.

    `withheld` returns why a file is withheld, None if it is not: malware that a registry has removed is not fetched.
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
        for outcome in (RESCUED, GONE, WITHHELD, FAILED):  # they exist before there is anything to count
            mirror.metrics.count(REMOVED, registry.name, outcome, by=0)

    def start(self, project: str, missing: list[Missing], status: ProjectStatus | None) -> None:
        """Settle in the background. A file whose download is cut off when the mirror stops has no outcome yet.

        A page can come and go with each poll. So a project is settled once at a time, and then again if it has changed
        in the meantime; a file that is lost again within `A_WHILE` waits for a later loss or a pass.
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
        """Freeze the missing files of a project (normalised) that have no outcome yet, and record the outcomes.

        `status` is the project's as last observed. A file that fails has no outcome, so the next call tries it again.
        A file that is lost again within `rest` microseconds of an outcome is also left to a later call.
        Raises StoreError if the outcomes so far cannot be read.
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
                        self._mirror.metrics.count(REMOVED, self._registry.name, outcome.outcome)
                        # A pass can find thousands of files that are gone.
                        level = logging.INFO if outcome.outcome == RESCUED else logging.DEBUG
                        log.log(level, "%s was removed from the registry: %s", file.filename, outcome.outcome)
                except MirrorError as error:
                    counts[FAILED] += 1
                    self._mirror.metrics.count(REMOVED, self._registry.name, FAILED)
                    log.warning(
                        "%s was removed from the registry and is not rescued yet: %s", file.filename, error.text
                    )

        losses = ((each.file, (each.file.filename, token(each.file), each.gone)) for each in missing)

        async def settle_next() -> None:
            for file, loss in losses:  # shared by these tasks
                last = rescue_log.last_of_file(loss)
                settled = last is not None and last.outcome != WITHHELD and now() < last.instant + rest
                if rescue_log.last(loss) in (None, WITHHELD) and not settled:
                    await settle_one(file, loss)

        async with anyio.create_task_group() as tasks:
            for _ in range(min(AT_ONCE, len(missing))):
                tasks.start_soon(settle_next)
        return Outcomes(**counts)

    async def _outcome(self, project: str, file: File, loss: Loss, status: ProjectStatus | None) -> RescueOutcome:
        """Try to freeze a file and return the outcome. Raises MirrorError if there is none yet."""
        reason = await self._withheld(project, file, status)
        if reason:
            return RescueOutcome(now(), *loss, WITHHELD, reason)
        try:
            found = await self._registry.files.freeze(project, file)
        except OtherBytes:
            if self._registry.client.private:  # it may be a login page
                raise
            return RescueOutcome(now(), *loss, GONE, "other bytes are at its address")
        if isinstance(found, Record):
            return RescueOutcome(now(), *loss, RESCUED, size=found.size)
        if found.status in NOT_THERE and not (found.status == 403 and self._registry.client.private):
            return RescueOutcome(now(), *loss, GONE, f"its address answers {found.status}")
        if found.status == 429 or found.status >= 500:
            raise RetryLater(file.filename, found.status, found.headers.get("retry-after"))
        raise BadUpstream(f"the registry answered {found.status} for {file.filename}")

    async def allowed_since(self, instant: int) -> set[str]:
        """Return the projects for which a rule was lifted by command at or after an instant (microseconds).

        Files of them that were withheld can be rescued now. Raises StoreError.
        """
        commands = [
            command for command in await self._rule_log.all() if command.instant >= instant and command.kind != "block"
        ]
        return {command.subject.project for command in commands if command.subject.project}
