"""The commands about rules, beside a running server: `httpcache block`, `allow`, `unblock` and `blocks`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from httpcache.adapter import Argument, Command
from httpcache.errors import MirrorError, NotFound
from httpcache.store import Store

from .registry import now
from .rulebook import Order, Orders, in_force, parse_what


async def block(store: Store, given: Mapping[str, Any]) -> list[str]:
    """Block something; tell the exceptions that may be in the way. Raises MirrorError."""
    order = _order("block", given["what"], given["reason"] or "")
    orders = Orders(store)
    await orders.append(order)
    near = (other for other in in_force(await orders.all()) if other.what.touches(order.what))
    return [
        f"blocked: {order.what} ({order.rule.reason})",
        *(
            f"an exception stays in force and wins: {other.what} ({other.reason})"
            for other in near
            if other.kind == "allow"
        ),
    ]


async def allow(store: Store, given: Mapping[str, Any]) -> list[str]:
    """Except something from all blocks. Raises MirrorError, also where there is no reason."""
    order = _order("allow", given["what"], given["reason"])
    if not order.reason:
        raise MirrorError("an exception needs a reason: say with --reason why it may be served")
    await Orders(store).append(order)
    return [f"excepted from all blocks: {order.what} ({order.reason})"]


async def unblock(store: Store, given: Mapping[str, Any]) -> list[str]:
    """Take back what `block` or `allow` laid down. Raises MirrorError, NotFound where they did not."""
    order = _order("unblock", given["what"], "")
    orders = Orders(store)
    back = next((other for other in in_force(await orders.all()) if other.what == order.what), None)
    if back is None:
        raise NotFound(f"no command laid down a rule for just {order.what}: `httpcache blocks` lists those in force")
    await orders.append(order)
    return [f"taken back: {_text(back)}"]


async def blocks(store: Store, given: Mapping[str, Any]) -> list[str]:
    """Return a line for each rule by command that is in force; with `all`, for each command there was."""
    orders = await Orders(store).all()
    return [f"{order.time}  {_text(order)}" for order in (orders if given["all"] else in_force(orders))]


def _order(kind: Literal["block", "allow", "unblock"], what: str, reason: str) -> Order:
    reason = " ".join(reason.split())
    if not reason.isprintable():
        raise MirrorError("--reason has characters in it that cannot be printed: write it as plain text")
    return Order(now(), kind, parse_what(what), reason)


def _text(order: Order) -> str:
    reason = "" if order.kind == "unblock" else f" ({order.rule.reason})"
    return f"{order.kind} {order.what}{reason}"


_WHAT = Argument("what", "evil, 'evil>=1.2,<2', sha256:<64 hex digits> or evil@sha256:<64 hex digits>", "WHAT")

COMMANDS = (
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
