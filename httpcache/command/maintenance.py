"""Commands on a store that an operator can run beside a server: list, show, verify, forget, and print pins."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

import anyio

from httpcache.adapter import Adapter, today
from httpcache.errors import Damaged, NotFound, StoreFull, one_line, redact
from httpcache.fields import map_links
from httpcache.store import keys
from httpcache.store.base import Store
from httpcache.store.record import Absence, Entry, Record, decode
from httpcache.target import Target, looks_like_url, parse_target, split_path
from httpcache.units import short_size

SETTLE = 0.5  # seconds until a server has opened a file that it was about to send


async def ls(store: Store, *, pin: str | None) -> int:
    """Print the pins with their numbers of addresses and bytes, or the addresses of one pin. Raises NotFound."""
    if pin is None:
        totals: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        async for _, entry in _entries(store):
            totals[entry.pin][0] += 1
            totals[entry.pin][1] += entry.size if isinstance(entry, Record) else 0
        for name, (count, size) in sorted(totals.items()):
            print(f"{name:40} {count:8} {short_size(size):>10}")
        return 0
    lines = sorted([_line(entry) async for _, entry in _entries(store, pin=pin)])
    if not lines:
        raise NotFound(f"nothing is frozen under {pin!r}: `httpcache ls` lists the pins")
    print("\n".join(lines))
    return 0


async def show(store: Store, *, address: str) -> int:
    """Print every record of an address. Raises BadAddress, NotFound."""
    target = _target(address)
    found = [entry async for _, entry in _entries(store, target=target)]
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
    blobs: dict[str, Record] = {}
    count = 0
    async for entry in _sound_entries(store):
        count += 1
        if isinstance(entry, Record):
            blobs[entry.digest] = entry
    for record in blobs.values():
        if not await store.check(record.digest, record.size):
            problems.append(record.digest)
            print(
                f"/{record.pin}/{record.url}: the file {record.digest} below blobs/ is damaged or missing: restore it "
                "from a backup, or request the address: it is fetched again if the upstream still has the same bytes"
            )
    size = sum(record.size for record in blobs.values())
    damaged = f"{len(problems)} damaged" if problems else "nothing is damaged"
    print(f"read {count} frozen entries and {len(blobs)} files ({short_size(size)}): {damaged}")
    return 1 if problems else 0


async def _sound_entries(store: Store) -> AsyncIterator[Entry]:
    for key in await store.keys(keys.RECORDS):
        with suppress(Damaged):
            value = await store.get(key)
            if value is not None:
                yield decode(value)


async def forget(store: Store, *, address_or_pin: str, yes: bool) -> int:
    """Remove the records of an address or a pin, and the files only they refer to. Asks for confirmation unless `yes`.

    Raises BadAddress, NotFound.
    """
    pin = address_or_pin.strip("/")
    target = _target(address_or_pin) if "/" in pin else None
    found = [pair async for pair in _entries(store, pin=None if target else pin, target=target)]
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
    grants = [key for key in await store.keys(keys.GRANTS) if keys.target_of(key) in targets]
    freed = await _remove(store, [key for key, _ in found] + grants)
    print(f"{len(found)} entries removed, {short_size(freed)} freed")
    return 0


async def _remove(store: Store, removed: Sequence[str]) -> int:
    """Remove entries, and the files that no entry refers to any more; return the number of bytes freed.

    Removing takes space too: if the disk is full, the files of the entries already removed make room.
    """
    freed = 0
    for key in removed:
        try:
            await store.remove(key)
        except StoreFull:
            freed += await _sweep(store)
            await store.remove(key)
    return freed + await _sweep(store)


async def _sweep(store: Store) -> int:
    """Remove the files that no entry refers to, after a short wait: a running server may be about to open one."""
    await anyio.sleep(SETTLE)
    return await store.sweep(_named)


def pins(mirror: str, adapters: Sequence[Adapter]) -> list[str]:
    """Return the lines that show today's pin and the current instant, and how to use them."""
    now = datetime.now(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
    lines = [f"today   {today()}", f"now     {now}", f"pin     mypin-{today()}", ""]
    for title, date in (("as of 00:00 UTC today", today()), ("as of this second", now)):
        lines.append(f"# {title}")
        lines += [line for adapter in adapters for _, line in adapter.usage(mirror, date)]
    return lines


async def _entries(
    store: Store, *, pin: str | None = None, target: Target | None = None
) -> AsyncIterator[tuple[str, Entry]]:
    async for key, value in store.entries(keys.RECORDS):
        entry = decode(value)
        if pin in (None, entry.pin) and (target is None or entry.target == target.key):
            yield key, entry


def _target(address: str) -> Target:
    """Parse an address on the mirror, which may begin with the mirror's own URL. Raises BadAddress."""
    path = urlsplit(address)._replace(scheme="", netloc="").geturl() if looks_like_url(address) else address
    path, _, query = path.lstrip("/").partition("?")
    pin, rest, _ = split_path(path)
    # an adapter's address, such as /files/..., is stored as it is
    return parse_target(path, query) if looks_like_url(rest) else Target(pin, unquote(rest))


def _header(name: str, value: str) -> str:
    return one_line(map_links(value, redact) if name == "link" else value)


def _named(value: bytes) -> str | None:
    entry = decode(value)
    return entry.digest if isinstance(entry, Record) else None


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
