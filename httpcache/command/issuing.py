"""What `httpcache key` does: makes access keys, lists them, and revokes them."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Final, NamedTuple

from httpcache import kinds
from httpcache.access_keys import Rights, new_key
from httpcache.errors import BadAddress
from httpcache.keys.key_log import Added, Issued, KeyLog, Rate, added, issued
from httpcache.store.store import Store
from httpcache.units import parse_span

from .rows import Rows, instant, say

_RATE = re.compile(r"([1-9][0-9]{0,8})/(s|min|h)", re.ASCII)
_PERIODS: Final = {"s": 1.0, "min": 60.0, "h": 3600.0}
_REGISTRY = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


class Wanted(NamedTuple):
    """A key that is to be made: what it opens, when it ends (seconds since the epoch), and its rate."""

    rights: Rights
    expires: float | None
    rate: Rate | None


def wanted(
    name: str,
    *,
    pins: Sequence[str],
    registries: Sequence[str],
    read_only: bool,
    expires: str | None,
    rate: str | None,
) -> Wanted:
    """Read the options of `key add`. Raises BadAddress."""
    rights = Rights(name, frozenset(_each(pins, _pin)), frozenset(_each(registries, _registry)), read_only)
    return Wanted(rights, None if expires is None else _instant(expires), None if rate is None else _rate(rate))


async def add(store: Store, *, wanted: Wanted) -> int:
    """Make a key and print it, this one time. Raises MirrorError."""
    key = new_key()
    entry = added(key, wanted.rights, expires=wanted.expires, rate=wanted.rate)
    await KeyLog(store).add(entry)
    say(f"the key {entry.name!r} {_opens(entry)}. It is shown this once:", sys.stderr)
    say(key)
    return 0


async def show(store: Store, *, rows: Rows, everything: bool) -> int:
    """List the keys, or with `everything` also those that were revoked. Raises StoreError."""
    now = time.time()
    for each in issued(await KeyLog(store).all()):
        if everything or each.revoked is None:
            _row(rows, each, now)
    return 0


async def revoke(store: Store, *, name: str) -> int:
    """Revoke a key. Raises NotFound."""
    await KeyLog(store).revoke(name)
    say(f"revoked: {name}")
    return 0


def _row(rows: Rows, each: Issued, now: float) -> None:
    key, state = each.key, each.state(now)
    until = {"revoked": each.revoked, "expired": key.expires}.get(state)
    when = f"{state} {instant(until)}" if until else f"since {instant(key.time)}"
    if state == "active" and key.expires is not None:
        when += f" until {instant(key.expires)}"
    rows.add(
        f"{key.name}  {when}, {_opens(key)}",
        name=key.name,
        state=state,
        added=instant(key.time),
        expires=instant(key.expires),
        revoked=instant(each.revoked),
        pins=list(key.pins),
        registries=list(key.registries),
        read_only=key.read_only,
        rate=_written(key.rate),
    )


def _opens(key: Added) -> str:
    """Return in words what a key opens."""
    named = [
        f"{kind} {', '.join(names)}" for kind, names in (("pins", key.pins), ("registries", key.registries)) if names
    ]
    told = [f"opens the {' and the '.join(named)}" if named else "opens everything"]
    told += ["read-only"] * key.read_only + [f"at most {_written(key.rate)}"] * bool(key.rate)
    return ", ".join(told)


def _each(values: Sequence[str], read: Callable[[str], str]) -> Iterator[str]:
    """Yield the values of an option that is repeated, or whose values are separated by commas."""
    parts = (part.strip() for part in chain.from_iterable(value.split(",") for value in values))
    return (read(part) for part in parts if part)


def _pin(text: str) -> str:
    try:
        return kinds.PIN.read(text)
    except ValueError as error:
        raise BadAddress(f"--pins: {error}") from error


def _registry(text: str) -> str:
    if not _REGISTRY.fullmatch(text):
        raise BadAddress(f"--registries: {text[:100]!r} is not the name of a registry or a group: use a-z, 0-9 and '-'")
    return text


def _instant(text: str) -> float:
    """Return when a key ends, in seconds since the epoch. Raises BadAddress."""
    how = f"--expires {text}: use a number of days or weeks, such as 90d or 12w, or a date to come, 2030-01-31"
    try:
        found = datetime.fromisoformat(text)
        ends = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except ValueError:
        ends = time.time() + (parse_span(text) or 0)
    if ends <= time.time():
        raise BadAddress(how)
    return ends


def _rate(text: str) -> Rate:
    found = _RATE.fullmatch(text)
    if not found:
        raise BadAddress(f"--rate {text}: use a number of requests in a period, such as 10/s, 600/min or 10000/h")
    return Rate(int(found[1]), _PERIODS[found[2]])


def _written(rate: Rate | None) -> str | None:
    if rate is None:
        return None
    return f"{rate.requests}/{next(name for name, seconds in _PERIODS.items() if seconds == rate.seconds)}"
