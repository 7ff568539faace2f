"""What the commands do: tell what was observed (`history`, `captures`), and set rules (`block`, ...)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from packaging.utils import canonicalize_name

from httpcache.adapter import Row
from httpcache.errors import BadAddress, MirrorError, NotFound
from httpcache.store.store import Store
from httpcache.target import canonical_url
from pypi_adapter.history.project_log import entries_log
from pypi_adapter.history.rescue_log import RescueLog
from pypi_adapter.history.timeline import timeline, told
from pypi_adapter.policy.rule_log import RuleCommand, RuleLog, in_force, parse_subject
from pypi_adapter.registry.index_url import IndexUrlLog
from pypi_adapter.registry.pass_changes import Change
from pypi_adapter.registry.passes import Pass, Passes

from .addresses import PYPI
from .instants import now, to_segment


async def history(store: Store, given: Mapping[str, Any]) -> list[Row]:
    """Return the timeline of a project. Raises NotFound, StoreError."""
    registry, name = given["registry"] or PYPI, canonicalize_name(given["project"])
    entries = await entries_log(store, registry, name).all()
    if not entries:
        raise NotFound(
            f"{given['project']!r} of {registry} has not been observed: "
            f"request it first, for example at {'' if registry == PYPI else f'/{registry}'}/live/"
        )
    return [Row(text, values) for text, values in told(timeline(entries, await RescueLog(store, registry, name).all()))]


async def captures(store: Store, given: Mapping[str, Any]) -> list[Row]:
    """Return one line for each completed capture of a registry, and with `changes` what it changed.

    Raises NotFound, StoreError.
    """
    registry = given["registry"] or PYPI
    passes = await Passes(store, registry).all()
    if not passes and registry != PYPI and not await IndexUrlLog(store, registry).is_known():
        raise NotFound(f"the store has no logs of {registry!r}: --registry must be the name of a [[registry]]")
    if not passes:
        raise NotFound(
            f"no capture of {registry} has been completed: run `httpcache capture`, which captures every registry"
        )
    counted = await Passes(store, registry).counted()
    named = Passes(store, registry).changes if given["changes"] else None
    changes = [await named(done.started).by_name() if named else None for done in passes]
    return [_capture(done, each, counts=done in counted) for done, each in zip(passes, changes, strict=True)]


async def undo_future(store: Store, given: Mapping[str, Any]) -> list[Row]:
    """Remove what was recorded about a registry while the clock was ahead. Raises MirrorError.

    Without `yes` it is only listed: if the clock is behind now, good observations would be removed.
    """
    from pypi_adapter.registry.undo import undo  # imports the client of a registry

    registry, instant = given["registry"] or PYPI, now()
    found = await undo(store, registry, instant, remove=given["yes"])
    if not found:
        raise NotFound(f"nothing about {registry} was recorded later than {to_segment(instant)}: nothing to undo")
    if given["yes"]:
        return [Row(f"removed: {line}") for line in found]
    return [
        *(Row(f"in the future: {line}") for line in found),
        Row(f"nothing was changed. If the time is really {to_segment(instant)} now, remove these with --yes"),
    ]


async def moved(store: Store, given: Mapping[str, Any]) -> list[Row]:
    """Record that a registry has moved to another address. Raises MirrorError."""
    try:
        index = canonical_url(given["url"].rstrip("/") + "/")
    except BadAddress as error:
        raise MirrorError(f"{given['url']!r} is not the URL of a simple index: use http or https") from error
    await IndexUrlLog(store, given["registry"]).move(index)
    return [Row(f"{given['registry']} is now at {index}")]


async def block(store: Store, given: Mapping[str, Any]) -> list[Row]:
    """Block a subject; report exceptions that may override the block. Raises MirrorError."""
    command = _command("block", given["subject"], given["reason"] or "")
    rule_log = RuleLog(store)
    await rule_log.append(command)
    near = (other for other in in_force(await rule_log.all()) if other.subject.touches(command.subject))
    return [
        Row(f"blocked: {command.subject} ({command.rule.reason})"),
        *(
            Row(f"an exception is in force and overrides it: {other.subject} ({other.reason})")
            for other in near
            if other.kind == "allow"
        ),
    ]


async def allow(store: Store, given: Mapping[str, Any]) -> list[Row]:
    """Exempt a subject from all blocks. Raises MirrorError, also if no reason is given."""
    command = _command("allow", given["subject"], given["reason"])
    if not command.reason:
        raise MirrorError("an exception needs a reason: use --reason to say why it may be served")
    await RuleLog(store).append(command)
    return [Row(f"exempt from all blocks: {command.subject} ({command.reason})")]


async def unblock(store: Store, given: Mapping[str, Any]) -> list[Row]:
    """Remove a rule set by `block` or `allow`. Raises MirrorError, and NotFound if there is no such rule."""
    command = _command("unblock", given["subject"], "")
    rule_log = RuleLog(store)
    removed = next((other for other in in_force(await rule_log.all()) if other.subject == command.subject), None)
    if removed is None:
        raise NotFound(f"no rule was set for exactly {command.subject}: `httpcache blocks` lists the rules in force")
    await rule_log.append(command)
    return [Row(f"removed: {_text(removed)}")]


async def blocks(store: Store, given: Mapping[str, Any]) -> list[Row]:
    """Return one line for each rule in force that a command set; with `all`, for each command ever given."""
    commands = await RuleLog(store).all()
    return [_rule(command) for command in (commands if given["all"] else in_force(commands))]


def _capture(done: Pass, changes: Sequence[Change] | None, *, counts: bool) -> Row:
    text = f"{to_segment(done.instant)}  {done.scope}: {done.summary}{'' if counts else AHEAD}"
    named = None if changes is None else [change.project for change in changes]
    more = done.changed - len(named) if named is not None else 0
    names = [*(named or []), *([f"{more:,} more, whose names were not noted"] if more > 0 else [])]
    return Row(
        "\n".join([text, *(f"    {name}" for name in names)]),
        {
            "instant": to_segment(done.instant), "started": to_segment(done.started),
            "finished": to_segment(done.finished), "scope": str(done.scope), "counts": counts, "due": done.due,
            "asked": done.asked, "changed": done.changed, "rescued": done.rescued, "lost": done.lost,
            "withheld": done.withheld, "failed": list(done.failed), "requests": done.requests,
            "changed_projects": named,
        },
    )  # fmt: skip


def _rule(command: RuleCommand) -> Row:
    reason = None if command.kind == "unblock" else command.rule.reason
    return Row(
        f"{command.time}  {_text(command)}",
        {"given": command.time, "rule": command.kind, "subject": str(command.subject), "reason": reason},
    )


def _command(kind: Literal["block", "allow", "unblock"], subject: str, reason: str) -> RuleCommand:
    reason = " ".join(reason.split())
    if not reason.isprintable():
        raise MirrorError("--reason contains unprintable characters: write it as plain text")
    return RuleCommand(now(), kind, parse_subject(subject), reason)


def _text(command: RuleCommand) -> str:
    reason = "" if command.kind == "unblock" else f" ({command.rule.reason})"
    return f"{command.kind} {command.subject}{reason}"


AHEAD = "; ignored: made while the clock was ahead (httpcache undo-future)"
