"""Commands on a store that an operator can run beside a server: list, forget, and print pins."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import anyio

from httpcache.adapter import Adapter, today
from httpcache.errors import NotFound, StoreError, StoreFull, without_first_key
from httpcache.store import keys
from httpcache.store.record import Entry, Record, decode, shown
from httpcache.store.store import Store
from httpcache.target import Target, looks_like_url, parse_target, split_path
from httpcache.units import short_size

from . import listing
from .rows import Rows, instant

NAMED = 10  # entries and builds that are named before something is removed
SETTLE = 0.5  # seconds until a server has opened a file that it was about to send


async def ls(store: Store, *, rows: Rows, pin: str | None) -> int:
    """Print the pins with their numbers of entries and bytes, or the entries of one pin by address. Raises NotFound."""
    if pin is None:
        return listing.pins(await store.index.pins(), rows)
    is_empty = True
    async for _, entry in entries(store, pin):
        rows.add(_line(entry), **values(entry))
        is_empty = False
    if is_empty:
        raise NotFound(f"nothing is frozen under {pin!r}: `httpcache ls` lists the pins")
    return 0


async def forget(store: Store, *, address_or_pin: str, yes: bool) -> int:
    """Remove the records of an address or a pin, and the bodies only they refer to. Asks for confirmation unless `yes`.

    Raises BadAddress, NotFound.
    """
    pin = address_or_pin.strip("/")
    target = to_target(address_or_pin) if "/" in pin else None
    found = [pair async for pair in entries(store, target.pin if target else pin, target)]
    if not found:
        raise NotFound(f"nothing is frozen under {str(target or pin)!r}: `httpcache ls` lists the pins")
    await tell_loss(store, [entry for _, entry in found])
    if not yes and not _confirmed():
        print("nothing was removed")
        return 1
    await remove(store, found)
    return 0


async def tell_loss(store: Store, lost: Collection[Entry]) -> None:
    """Print what would be lost with some entries, and which builds took them."""
    size = sum(entry.size for entry in lost if isinstance(entry, Record))
    print(f"{len(lost)} frozen entries, {short_size(size)}; the next request fetches what the upstream then has:")
    for line in sorted(map(_line, lost))[:NAMED]:
        print(line)
    builds = await store.builds.that_took([entry.target for entry in lost])
    if builds:
        more = f" and {len(builds) - NAMED} more" if len(builds) > NAMED else ""
        print(f"taken by labelled builds: {', '.join(builds[:NAMED])}{more}")


async def remove(store: Store, found: Sequence[tuple[str, Entry]]) -> None:
    """Remove entries, given with their keys, and the bodies only they refer to; print what that has freed."""
    targets = {entry.target for _, entry in found}
    granted = [key for target in targets async for key in store.keys(keys.grants(target))]
    digests = {entry.digest for _, entry in found if isinstance(entry, Record)}
    freed = await _remove(store, [key for key, _ in found] + granted, digests)
    with suppress(StoreError):  # the journal tells of what is gone until it can be changed
        await store.usage.remove(sorted(targets))
    print(f"{len(found)} entries removed, {short_size(freed)} freed")


async def _remove(store: Store, removed: Sequence[str], digests: Collection[str]) -> int:
    """Remove entries, and those of the bodies that no record names any more; return the number of bytes freed.

    Removing takes space too: if the disk is full, the reserve makes room, and then the bodies of the entries already
    removed.
    """
    freed = 0
    for key in removed:
        try:
            await store.remove(key)
        except StoreFull:
            if not store.use_reserve():
                freed += await _collect(store, digests)
            await store.remove(key)
    return freed + await _collect(store, digests)


async def _collect(store: Store, digests: Collection[str]) -> int:
    """Remove the bodies that no record names, after a short wait: a running server may be about to open one."""
    await anyio.sleep(SETTLE)
    return await store.collect(digests)


def pins(mirror: str, adapters: Sequence[Adapter], rows: Rows) -> None:
    """Print today's pin and the current instant, and how to use them."""
    now = datetime.now(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
    lines = [f"today   {today()}", f"now     {now}", f"pin     mypin-{today()}", ""]
    uses = {}
    for title, date in (("as of 00:00 UTC today", today()), ("as of this second", now)):
        uses[date] = {client: line for adapter in adapters for client, line in adapter.usage(mirror, date)}
        lines += [f"# {title}", *uses[date].values()]
    rows.add("\n".join(lines), today=today(), now=now, pin=f"mypin-{today()}", commands=uses)


async def entries(store: Store, pin: str, target: Target | None = None) -> AsyncIterator[tuple[str, Entry]]:
    """Yield the entries of a pin, or of a target in it, with their keys, in the order of their addresses."""
    after = None
    while page := await store.index.records(pin, address=shown(target) if target else None, after=after):
        for place, value in page:
            entry = decode(value)
            if target is None or entry.target == target.key:
                yield place.key, entry
        after = page[-1].place


def to_target(address: str) -> Target:
    """Parse an address on the mirror, which may begin with the mirror's own URL. Raises BadAddress."""
    address = without_first_key(address)
    path = urlsplit(address)._replace(scheme="", netloc="").geturl() if looks_like_url(address) else address
    path, _, query = path.lstrip("/").partition("?")
    pin, rest, _ = split_path(path)
    # an adapter's address, such as /files/..., is stored as it is
    return parse_target(path, query) if looks_like_url(rest) else Target(pin, unquote(rest))


def values(entry: Entry) -> dict[str, Any]:
    """Return what programs are told of an entry; `status` is what the upstream answered, 200 if there is a body."""
    if isinstance(entry, Record):
        kept: dict[str, Any] = {"status": 200, "sha256": entry.digest, "bytes": entry.size}
    else:
        kept = {"status": entry.status, "sha256": None, "bytes": None}
    return {"address": f"/{entry.pin}/{entry.url}", "frozen": instant(entry.created)} | kept


def _line(entry: Entry) -> str:
    address = f"/{entry.pin}/{entry.url}"
    if isinstance(entry, Record):
        return f"{instant(entry.created)} {entry.digest[:12]} {short_size(entry.size):>10}  {address}"
    return f"{instant(entry.created)} {'absent':12} {'':>10}  {address}"


def _confirmed() -> bool:
    print("Remove them? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
