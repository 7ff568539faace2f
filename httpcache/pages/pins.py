"""The pages of the pins, and of what is frozen under one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from httpcache.errors import NotFound
from httpcache.freezing.mirror import Mirror
from httpcache.page import Page, Shown, Visit
from httpcache.store.base import PinTotals
from httpcache.store.usage import Used

from .gate import is_listed
from .listing import Found, Search, by_size, by_use, find

PINS = 200  # on a page, and of the indexes
ORDERS = ("address", "largest", "used", "unused")


class PinRow(NamedTuple):
    """A pin with its totals, and how it was used, if it was."""

    pin: str
    entries: int
    bytes: int
    used: Used | None


def _last(row: PinRow) -> float:
    return row.used.last if row.used else 0.0


_SORTS: dict[str, Callable[[PinRow], Any]] = {
    "name": lambda row: row.pin,
    "entries": lambda row: (-row.entries, row.pin),
    "bytes": lambda row: (-row.bytes, row.pin),
    "hits": lambda row: (-row.used.hits if row.used else 0, row.pin),
    "used": lambda row: (-_last(row), row.pin),
    "unused": lambda row: (_last(row), row.pin),
}


@dataclass(frozen=True)
class Pins:
    """`rows`: the pins on this page. `found`, `entries` and `bytes` are of all that match. `page` counts from 1.

    `indexes`: those of which pages were answered, the last ones used first; they have no entries of their own.
    """

    rows: Sequence[PinRow]
    found: int
    entries: int
    bytes: int
    part: str
    sort: str
    page: int
    pages: int
    indexes: Sequence[tuple[str, Used]]


@dataclass(frozen=True)
class Pin:
    """A pin's totals, how it was used, what was searched for, and a page of what was found in one of ORDERS."""

    totals: PinTotals
    used: Used | None
    search: Search
    order: str
    found: Found
    sees_all: bool


def pages(mirror: Mirror) -> Sequence[Page]:
    """Return the pages of the pins."""
    return [
        Page("/-/pins/", partial(_pins, mirror), "Pins"),
        Page("/-/pins/{pin}/", partial(_pin, mirror)),
    ]


async def _pins(mirror: Mirror, visit: Visit) -> Shown:
    part, sort = visit.query.get("q", "").strip(), visit.query.get("sort", "")
    sort = sort if sort in _SORTS else "name"
    used = await mirror.store.usage.pins()
    totals = await mirror.store.index.pins()
    found = sorted((PinRow(*each, used.get(each.pin)) for each in totals if part in each.pin), key=_SORTS[sort])
    shown = visit.part(found, PINS)
    names = {each.pin for each in totals}
    indexes = sorted((pair for pair in used.items() if pair[0] not in names), key=lambda pair: -pair[1].last)
    return Shown(
        "pins.html",
        Pins(
            rows=shown.rows,
            found=len(found),
            entries=sum(each.entries for each in found),
            bytes=sum(each.bytes for each in found),
            part=part,
            sort=sort,
            page=shown.page,
            pages=shown.pages,
            indexes=[] if part else indexes[:PINS],
        ),
    )


async def _pin(mirror: Mirror, visit: Visit) -> Shown:
    pin, text, after = visit.parts["pin"], visit.query.get("q", "").strip(), visit.query.get("after", "")
    totals = await mirror.store.index.totals(pin)
    if not totals.entries:
        raise NotFound("nothing is frozen under this pin")
    order = visit.query.get("order", "")
    order = order if order in ORDERS and not text else ORDERS[0]
    contains = visit.query.get("how") == "contains"
    search = Search(pin, "" if contains else text, text if contains else "", after)
    shown = partial(is_listed, settings=mirror.settings, sees_all=visit.sees_all)
    if order == ORDERS[0]:
        found = await find(mirror.store, search, shown)
    elif order == "largest":
        found = await by_size(mirror.store, pin, after, shown)
    else:
        found = await by_use(mirror.store, pin, after, shown, oldest=order == "unused")
    used = await mirror.store.usage.pin(pin)
    return Shown("pin.html", Pin(totals, used, search, order, found, visit.sees_all))
