"""The commands beside a running server: what was observed (`history`, `captures`), and rules (`block`, ...)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from packaging.utils import canonicalize_name

from httpcache.adapter import Argument, Command
from httpcache.errors import BadAddress, MirrorError, NotFound
from httpcache.store.base import Store
from httpcache.target import canonical_url
from pypi_adapter.history.project_log import entries_log
from pypi_adapter.history.rescue_log import RescueLog
from pypi_adapter.history.timeline import render, timeline
from pypi_adapter.policy.rule_log import RuleCommand, RuleLog, in_force, parse_subject
from pypi_adapter.registry.index_url import IndexUrlLog
from pypi_adapter.registry.passes import Passes
from pypi_adapter.registry.registry import PYPI
from pypi_adapter.registry.undo import undo

from .instants import now, to_segment


async def history(store: Store, given: Mapping[str, Any]) -> list[str]:
    """Return the time line of a project. Raises NotFound, StoreError."""
    registry, name = given["registry"] or PYPI, canonicalize_name(given["project"])
    entries = await entries_log(store, registry, name).all()
    if not entries:
        raise NotFound(
            f"{given['project']!r} of {registry} has not been observed: "
            f"ask for it first, for example at {'' if registry == PYPI else f'/{registry}'}/live/"
        )
    return render(timeline(entries, await RescueLog(store, registry, name).all()))


async def captures(store: Store, given: Mapping[str, Any]) -> list[str]:
    """Return a line for each completed pass over a registry. Raises NotFound, StoreError."""
    registry = given["registry"] or PYPI
    passes = await Passes(store, registry).all()
    if not passes and registry != PYPI and not await IndexUrlLog(store, registry).is_known():
        raise NotFound(f"there are no logs of {registry!r} here: --registry takes the name of a [[registry]]")
    if not passes:
        raise NotFound(f"no capture of {registry} has been completed: `httpcache capture` makes one of each registry")
    counted = await Passes(store, registry).counted()
    return [
        f"{to_segment(done.instant)}  {done.scope}: {done.summary}{'' if done in counted else AHEAD}" for done in passes
    ]


async def undo_future(store: Store, given: Mapping[str, Any]) -> list[str]:
    """Take back what was noted of a registry while the clock was ahead. Raises MirrorError.

    Without `yes` it is only listed: a clock that is behind now would have good observations taken back.
    """
    registry, instant = given["registry"] or PYPI, now()
    found = await undo(store, registry, instant, remove=given["yes"])
    if not found:
        raise NotFound(f"nothing of {registry} was noted ahead of {to_segment(instant)}")
    if given["yes"]:
        return [f"taken back: {line}" for line in found]
    return [
        *(f"ahead of now: {line}" for line in found),
        f"nothing was changed. If it is {to_segment(instant)} now, take it back with --yes",
    ]


async def moved(store: Store, given: Mapping[str, Any]) -> list[str]:
    """Take note that a registry has another address from now on. Raises MirrorError."""
    try:
        index = canonical_url(given["url"].rstrip("/") + "/")
    except BadAddress as error:
        raise MirrorError(f"{given['url']!r} is no http or https address of a simple index") from error
    await IndexUrlLog(store, given["registry"]).move(index)
    return [f"{given['registry']} is at {index} from now on"]


async def block(store: Store, given: Mapping[str, Any]) -> list[str]:
    """Block something; tell the exceptions that may be in the way. Raises MirrorError."""
    command = _command("block", given["what"], given["reason"] or "")
    rule_log = RuleLog(store)
    await rule_log.append(command)
    near = (other for other in in_force(await rule_log.all()) if other.what.touches(command.what))
    return [
        f"blocked: {command.what} ({command.rule.reason})",
        *(
            f"an exception stays in force and wins: {other.what} ({other.reason})"
            for other in near
            if other.kind == "allow"
        ),
    ]


async def allow(store: Store, given: Mapping[str, Any]) -> list[str]:
    """Except something from all blocks. Raises MirrorError, also where there is no reason."""
    command = _command("allow", given["what"], given["reason"])
    if not command.reason:
        raise MirrorError("an exception needs a reason: say with --reason why it may be served")
    await RuleLog(store).append(command)
    return [f"excepted from all blocks: {command.what} ({command.reason})"]


async def unblock(store: Store, given: Mapping[str, Any]) -> list[str]:
    """Take back what `block` or `allow` laid down. Raises MirrorError, NotFound where they did not."""
    command = _command("unblock", given["what"], "")
    rule_log = RuleLog(store)
    back = next((other for other in in_force(await rule_log.all()) if other.what == command.what), None)
    if back is None:
        raise NotFound(f"no command laid down a rule for just {command.what}: `httpcache blocks` lists those in force")
    await rule_log.append(command)
    return [f"taken back: {_text(back)}"]


async def blocks(store: Store, given: Mapping[str, Any]) -> list[str]:
    """Return a line for each rule by command that is in force; with `all`, for each command there was."""
    commands = await RuleLog(store).all()
    return [f"{command.time}  {_text(command)}" for command in (commands if given["all"] else in_force(commands))]


def _command(kind: Literal["block", "allow", "unblock"], what: str, reason: str) -> RuleCommand:
    reason = " ".join(reason.split())
    if not reason.isprintable():
        raise MirrorError("--reason has characters in it that cannot be printed: write it as plain text")
    return RuleCommand(now(), kind, parse_subject(what), reason)


def _text(command: RuleCommand) -> str:
    reason = "" if command.kind == "unblock" else f" ({command.rule.reason})"
    return f"{command.kind} {command.what}{reason}"


AHEAD = "; counts for nothing: made while the clock was ahead (httpcache undo-future)"

_WHAT = Argument("what", "evil, 'evil>=1.2,<2', sha256:<64 hex digits> or evil@sha256:<64 hex digits>", "WHAT")

_REGISTRY = Argument("--registry", "one that --pypi-config names, in place of PyPI", "NAME")

COMMANDS = (
    Command(
        "history",
        "tell what was observed of a project, and when",
        (Argument("project", "its name", "PROJECT"), _REGISTRY),
        history,
    ),
    Command(
        "moved",
        "say that a registry is at another address now",
        (
            Argument("registry", "pypi, or one that --pypi-config names", "REGISTRY"),
            Argument("url", "its index", "URL"),
        ),
        moved,
    ),
    Command("captures", "list the captures of a registry that were completed", (_REGISTRY,), captures),
    Command(
        "undo-future",
        "list what was noted of a registry while the clock was ahead, or take it back",
        (_REGISTRY, Argument("--yes", "take it back")),
        undo_future,
        alone=True,
    ),
    Command("block", "withhold a project, versions or a content", (_WHAT, Argument("--reason", "why", "TEXT")), block),
    Command(
        "allow", "except from every block", (_WHAT, Argument("--reason", "why it may", "TEXT", required=True)), allow
    ),
    Command("unblock", "take back what block or allow laid down", (_WHAT,), unblock),
    Command(
        "blocks",
        "list what block and allow laid down and is in force",
        (Argument("--all", "also what was taken back or replaced"),),
        blocks,
    ),
)
