"""Commands on a store that an operator can run beside a server: list, show, verify, forget, and print pins."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

import anyio

from httpcache.adapter import Adapter, today
from httpcache.errors import Damaged, NotFound, StoreError, StoreFull, one_line, redact
from httpcache.fields import map_links
from httpcache.store import keys
from httpcache.store.record import Absence, Entry, Record, decode, shown
from httpcache.store.store import Store
from httpcache.target import Target, looks_like_url, parse_target, split_path
from httpcache.units import short_size

SETTLE = 0.5  # seconds until a server has opened a file that it was about to send


async def ls(store: Store, *, pin: str | None) -> int:
    """Print the pins with their numbers of entries and bytes, or the entries of one pin by address. Raises NotFound."""
    if pin is None:
        for name, count, size in await store.index.pins():
            print(f"{name:40} {count:8} {short_size(size):>10}")
        return 0
    is_empty = True
    async for _, entry in _entries(store, pin):
        print(_line(entry))
        is_empty = False
    if is_empty:
        raise NotFound(f"nothing is frozen under {pin!r}: `httpcache ls` lists the pins")
    return 0


async def show(store: Store, *, address: str) -> int:
    """Print every record of an address. Raises BadAddress, NotFound."""
    target = _target(address)
    found = [entry async for _, entry in _entries(store, target.pin, target)]
    if not found:
        raise NotFound(f"{target} is not frozen here")
    for entry in found:
        print(f"address   /{entry.pin}/{entry.url}")
        if isinstance(entry, Absence):
            print(f"absent    frozen as status {entry.status}\nfrozen    {_instant(entry.created)}\n")
        else:
            print(f"from      {entry.final}\nsha256    {entry.digest}\nsize      {entry.size} bytes")
            print(f"frozen    {_instant(entry.created)}")
            print(f"readers   {'those whose credentials the upstream accepts' if entry.scope else 'everyone'}")
            print("".join(f"{name}: {_header(name, value)}\n" for name, value in entry.headers.items()))
    return 0


async def verify(store: Store) -> int:
    """Read every entry and every byte, and print a line for each that is damaged. Returns 1 if any is, else 0."""
    problems = await store.problems()
    for line in problems:
        print(line)
    seen: set[str] = set()
    count = size = 0
    async for entry in _sound_entries(store):
        count += 1
        if not isinstance(entry, Record) or entry.digest in seen:
            continue
        seen.add(entry.digest)
        size += entry.size
        if not await store.check(entry.digest, entry.size):
            problems.append(entry.digest)
            print(
                f"/{entry.pin}/{entry.url}: its bytes, {entry.digest}, are damaged or missing: restore the data folder "
                "from a backup, or request the address: it is fetched again if the upstream still has the same bytes"
            )
    damaged = f"{len(problems)} damaged" if problems else "nothing is damaged"
    print(f"read {count} frozen entries and {len(seen)} files ({short_size(size)}): {damaged}")
    return 1 if problems else 0


async def _sound_entries(store: Store) -> AsyncIterator[Entry]:
    async for key in store.keys(keys.RECORDS):
        with suppress(Damaged):
            value = await store.get(key)
            if value is not None:
                yield decode(value)


async def forget(store: Store, *, address_or_pin: str, yes: bool) -> int:
    """Remove the records of an address or a pin, and the bodies only they refer to. Asks for confirmation unless `yes`.

    Raises BadAddress, NotFound.
    """
    pin = address_or_pin.strip("/")
    target = _target(address_or_pin) if "/" in pin else None
    found = [pair async for pair in _entries(store, target.pin if target else pin, target)]
    if not found:
        raise NotFound(f"nothing is frozen under {str(target or pin)!r}: `httpcache ls` lists the pins")
    size = sum(entry.size for _, entry in found if isinstance(entry, Record))
    print(f"{len(found)} frozen entries, {short_size(size)}; the next request fetches what the upstream then has:")
    for line in sorted(_line(entry) for _, entry in found)[:10]:
        print(line)
    if not yes and not _confirmed():
        print("nothing was removed")
        return 1
    targets = {entry.target for _, entry in found}
    granted = [key for target in targets async for key in store.keys(keys.grants(target))]
    digests = {entry.digest for _, entry in found if isinstance(entry, Record)}
    freed = await _remove(store, [key for key, _ in found] + granted, digests)
    with suppress(StoreError):  # the journal tells of what is gone until it can be changed
        await store.usage.remove(sorted(targets))
    print(f"{len(found)} entries removed, {short_size(freed)} freed")
    return 0


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


def pins(mirror: str, adapters: Sequence[Adapter]) -> list[str]:
    """Return the lines that show today's pin and the current instant, and how to use them."""
    now = datetime.now(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
    lines = [f"today   {today()}", f"now     {now}", f"pin     mypin-{today()}", ""]
    for title, date in (("as of 00:00 UTC today", today()), ("as of this second", now)):
        lines.append(f"# {title}")
        lines += [line for adapter in adapters for _, line in adapter.usage(mirror, date)]
    return lines


async def _entries(store: Store, pin: str, target: Target | None = None) -> AsyncIterator[tuple[str, Entry]]:
    """Yield the entries of a pin, or of a target in it, with their keys, in the order of their addresses."""
    after = None
    while page := await store.index.records(pin, address=shown(target) if target else None, after=after):
        for place, value in page:
            entry = decode(value)
            if target is None or entry.target == target.key:
                yield place.key, entry
        after = page[-1].place


def _target(address: str) -> Target:
    """Parse an address on the mirror, which may begin with the mirror's own URL. Raises BadAddress."""
    path = urlsplit(address)._replace(scheme="", netloc="").geturl() if looks_like_url(address) else address
    path, _, query = path.lstrip("/").partition("?")
    pin, rest, _ = split_path(path)
    # an adapter's address, such as /files/..., is stored as it is
    return parse_target(path, query) if looks_like_url(rest) else Target(pin, unquote(rest))


def _header(name: str, value: str) -> str:
    return one_line(map_links(value, redact) if name == "link" else value)


def _line(entry: Entry) -> str:
    address = f"/{entry.pin}/{entry.url}"
    if isinstance(entry, Record):
        return f"{_instant(entry.created)} {entry.digest[:12]} {short_size(entry.size):>10}  {address}"
    return f"{_instant(entry.created)} {'absent':12} {'':>10}  {address}"


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _confirmed() -> bool:
    print("Remove them? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
