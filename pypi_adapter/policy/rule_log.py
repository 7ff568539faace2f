"""The rules that an operator adds by command. They are in the store, and in force beside those of the settings file.

The log contains the commands in order. Of several commands about the same subject, the last one counts.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from dataclasses import replace
from typing import Literal

import anyio
import msgspec
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from httpcache.errors import MirrorError
from httpcache.store.log import TypedLog
from httpcache.store.store import Store
from pypi_adapter.instants import to_datetime

from .policy import Policy
from .rules import Rule

_CONTENT = re.compile(r" *(?:([^@]+?) *@ *)?sha256:([0-9A-Fa-f]{64}) *")
_HOW = (
    "write a project (evil), some of its versions ('evil>=1.2,<2'), a content (sha256:<64 hex digits>) or "
    "a content in one project (evil@sha256:<64 hex digits>), without extras, markers or a URL"
)


class Subject(msgspec.Struct, frozen=True, array_like=True):
    """What a rule is about, with the fields of `rules.Rule`. `parse_subject` reads its text.

    Raises ValueError if no rule can be about it.
    """

    project: str | None = None
    versions: str | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        Rule(self.project, self.versions, self.sha256, "", "")

    def __str__(self) -> str:
        if self.sha256:
            return f"{self.project}@sha256:{self.sha256}" if self.project else f"sha256:{self.sha256}"
        return f"{self.project}{self.versions or ''}"

    def touches(self, other: Subject) -> bool:
        """Whether both name the same project or the same content."""
        pairs = (self.project, other.project), (self.sha256, other.sha256)
        return any(mine is not None and mine == theirs for mine, theirs in pairs)


class RuleCommand(msgspec.Struct, frozen=True, array_like=True):
    """A command about a rule, given at an instant (microseconds)."""

    instant: int
    kind: Literal["block", "allow", "unblock"]
    subject: Subject
    reason: str = ""

    @property
    def rule(self) -> Rule:
        """The rule that the command adds."""
        reason, source = self.reason or "no reason given", f"httpcache {self.kind}, {self.time[:10]}"
        return Rule(self.subject.project, self.subject.versions, self.subject.sha256, reason, source)

    @property
    def time(self) -> str:
        """When it was given, in UTC (ISO 8601)."""
        return to_datetime(self.instant).strftime("%Y-%m-%dT%H:%M:%SZ")


class RuleLog(TypedLog[RuleCommand]):
    """All commands about rules, which all processes share."""

    def __init__(self, store: Store) -> None:
        name = "pypi/ rules"  # no project has a space in its name
        super().__init__(store, name, "rules", msgspec.msgpack.encode, msgspec.msgpack.Decoder(RuleCommand).decode)


class CurrentPolicy:
    """The policy of the settings file, with the rules added by command."""

    def __init__(self, store: Store, policy: Policy) -> None:
        self._rule_log = RuleLog(store)
        self._settings = policy
        self._current = policy
        self._seen = 0
        self._store = store
        self._generation: Hashable = None  # of the store when the commands were last read
        self._reading = anyio.Lock()

    async def current(self) -> Policy:
        """Return the policy in force: the same object as long as no rule has changed.

        A command takes effect in every process as soon as it is in the store. Raises StoreError if the commands cannot
        be read, because nothing that they withhold must be served.
        """
        if self._store.generation() != self._generation:
            async with self._reading:
                generation = self._store.generation()
                if generation != self._generation:
                    await self._follow()
                    self._generation = generation
        return self._current

    async def _follow(self) -> None:
        commands = await self._rule_log.all()
        if len(commands) != self._seen:
            rules = [(command.kind, command.rule) for command in in_force(commands)]
            blocked, allowed = ([rule for kind, rule in rules if kind == wanted] for wanted in ("block", "allow"))
            self._current = replace(self._settings, rules=self._settings.rules.below(blocked, allowed))
            self._seen = len(commands)


def in_force(commands: Iterable[RuleCommand]) -> list[RuleCommand]:
    """Return the commands whose rules are in force, oldest first. Pure."""
    last = {command.subject: command for command in commands}
    return sorted(
        (command for command in last.values() if command.kind != "unblock"), key=lambda command: command.instant
    )


def parse_subject(text: str) -> Subject:
    """Read the subject of a rule (PEP 508, or a sha256). Raises MirrorError with a text that says how to write it.

    Names, specifiers and hashes are normalised (PEP 503, PEP 440).
    """
    try:
        if not text.isprintable():
            raise ValueError("a character that cannot be printed")
        if not (content := _CONTENT.fullmatch(text)):
            return _required(Requirement(text))
        project = content[1] and canonicalize_name(content[1], validate=True)
        return Subject(project, sha256=content[2].lower())
    except ValueError as error:
        raise MirrorError(f"{text[:200]!r} cannot be the subject of a rule: {_HOW}") from error


def _required(requirement: Requirement) -> Subject:
    if requirement.extras or requirement.marker or requirement.url:
        raise ValueError("extras, a marker or a URL")
    versions = ",".join(sorted(map(str, requirement.specifier)))
    return Subject(canonicalize_name(requirement.name), versions or None)
