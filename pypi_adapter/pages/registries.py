"""The pages of registries: their captures, the rules in force, and how healthy each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from httpcache.errors import NotFound, redact
from httpcache.page import Shown, Visit
from httpcache.pages.upstreams import Answered, by_origin
from httpcache.store.store import Store
from httpcache.target import origin
from pypi_adapter.instants import now, to_segment
from pypi_adapter.policy.rule_log import RuleCommand, RuleLog, in_force
from pypi_adapter.policy.rules import Rule
from pypi_adapter.registry.pass_changes import Change
from pypi_adapter.registry.passes import Pass

from .known import Known, chosen

PASSES = 50  # on a page
FAILED = 20  # names
RULES = 200  # on a page
CHANGES = 200  # on a page


@dataclass(frozen=True)
class Captures:
    """The captures of a registry, the newest first; and how many there are in all.

    Each comes with whether it counts, and with the instant at which it began, as its address has it.
    """

    registry: str
    registries: Sequence[str]
    rows: Sequence[tuple[Pass, bool, str]]
    count: int
    names: int


async def captures(store: Store, known: Sequence[Known], visit: Visit) -> Shown:
    """Show the completed captures of a registry."""
    one = chosen(known, visit)
    every = await one.registry.passes.all()
    counted = {id(done) for done in await one.registry.passes.counted()}
    rows = [(done, id(done) in counted, to_segment(done.started)) for done in every[: -PASSES - 1 : -1]]
    names = [each.registry.name for each in known]
    return Shown("pypi_adapter/captures.html", Captures(one.registry.name, names, rows, len(every), FAILED))


@dataclass(frozen=True)
class CapturePage:
    """One capture, and a page of the projects that it changed: each with the instant of what was seen, as text.

    `begin`: the instant of the capture before, "" if there is none. `noted`: how many projects are named in all.
    """

    registry: str
    is_builtin: bool
    done: Pass
    begin: str
    changes: Sequence[tuple[Change, str]]
    noted: int
    page: int
    pages: int


async def capture(store: Store, known: Sequence[Known], visit: Visit) -> Shown:
    """Show what a capture, named by the instant at which it began, has changed. Raises NotFound, StoreError."""
    one = chosen(known, visit)
    every = await one.registry.passes.all()
    place = next((i for i, done in enumerate(every) if to_segment(done.started) == visit.parts["started"]), None)
    if place is None:
        raise NotFound("there is no such capture")
    done = every[place]
    changes = await one.registry.passes.changes(done.started).by_name()
    part = visit.part(changes, CHANGES)
    shown = CapturePage(
        registry=one.registry.name,
        is_builtin=not one.registry.path,
        done=done,
        begin=to_segment(every[place - 1].instant) if place else "",
        changes=[(change, to_segment(change.instant)) for change in part.rows],
        noted=len(changes),
        page=part.page,
        pages=part.pages,
    )
    return Shown("pypi_adapter/capture.html", shown)


@dataclass(frozen=True)
class RulesPage:
    """Blocks and exceptions from them that contain what was searched for, and the commands of operators."""

    part: str
    blocked: Sequence[Rule]
    allowed: Sequence[Rule]
    more: int
    commands: Sequence[tuple[RuleCommand, bool]]


async def rules(store: Store, known: Sequence[Known], visit: Visit) -> Shown:
    """Show the rules in force for the built-in registry, which has all of them."""
    part = visit.query.get("q", "").strip().lower()
    found = (await known[0].policy.current()).rules
    blocked, allowed = ([rule for rule in each if part in _text(rule)] for each in (found.blocked, found.allowed))
    commands = await RuleLog(store).all()
    current = {id(command) for command in in_force(commands)}
    told = [(command, id(command) in current) for command in commands[: -RULES - 1 : -1]]
    more = max(0, len(blocked) - RULES) + max(0, len(allowed) - RULES)
    return Shown("pypi_adapter/rules.html", RulesPage(part, blocked[:RULES], allowed[:RULES], more, told))


def _text(rule: Rule) -> str:
    return " ".join(filter(None, (rule.project, rule.versions, rule.sha256, rule.reason, rule.source))).lower()


@dataclass(frozen=True)
class Health:
    """A registry: its index, its last complete capture and how old what that saw is, and how it has answered.

    `lag` is in seconds. `rest`: seconds for which this process leaves it alone.
    """

    name: str
    index: str
    with_login: bool
    requested: int
    last: Pass | None
    lag: float
    rest: float
    answered: Answered | None


async def registries(store: Store, known: Sequence[Known], visit: Visit) -> Shown:
    """Show how healthy each registry is, as far as is known without asking it."""
    answered = by_origin(visit.numbers())
    return Shown("pypi_adapter/registries.html", [await _health(each, answered.get(_origin(each))) for each in known])


def _origin(one: Known) -> str:
    return origin(one.registry.client.index)


async def _health(one: Known, answered: Answered | None) -> Health:
    registry = one.registry
    passes = await registry.passes.counted()
    last = passes[-1] if passes else None
    return Health(
        name=registry.name,
        index=redact(registry.client.index),
        with_login=registry.client.private,
        requested=len(await registry.requested.all()),
        last=last,
        lag=(now() - last.instant) / 1e6 if last else 0.0,
        rest=registry.client.rest.left,
        answered=answered,
    )
