"""Reads a page of a pin's entries: by address, size or last use, from a place on, those that the visitor may see.

Places are keys of listed entries, not addresses, so that no link names a private copy, and none can be asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from httpcache.errors import NotFound
from httpcache.store import keys
from httpcache.store.base import Place
from httpcache.store.record import Entry, columns, decode
from httpcache.store.store import Store
from httpcache.store.usage import Used, UsedEntry

ROWS = 100  # on a page
LOOKED_AT = 2000  # entries, for one page: a search goes on from there on the next one
_BATCH = 500
_GONE = "the entry that this page begins behind is gone: begin at the first page"


@dataclass(frozen=True)
class Search:
    """What to list of a pin: addresses with this beginning and this part, behind the entry `after` (a hash)."""

    pin: str
    prefix: str = ""
    part: str = ""
    after: str = ""


class Row(NamedTuple):
    """An entry, its hash, and how it was used, if it was."""

    name: str
    entry: Entry
    used: Used | None


@dataclass(frozen=True)
class Found:
    """Entries. `after` is the place of the next page, None at the end.

    `stopped`: so many entries were looked at without finding a page full of them.
    """

    rows: list[Row]
    after: str | None
    stopped: bool = False


async def with_use(store: Store, rows: Iterable[tuple[str, Entry]]) -> list[Row]:
    """Return entries, by their hashes, with how they were used. Raises StoreError."""
    found = list(rows)
    used = await store.usage.entries([entry.target for _, entry in found])
    return [Row(name, entry, used.get(entry.target)) for name, entry in found]


async def by_use(store: Store, pin: str, after: str, is_listed: Callable[[str, Entry], bool], *, oldest: bool) -> Found:
    """Return a page of the entries that were used, by their last use; `after` is the hash of one.

    Raises NotFound if that one is gone, StoreError.
    """
    behind = None
    if after:
        target = (await _listed(store, after, is_listed)).target
        known = await store.usage.entries([target])
        if after not in known:
            raise NotFound(_GONE)
        behind = UsedEntry(after, "", known[after])
    rows: list[Row] = []
    last, seen, limit = "", 0, ROWS + 1
    while seen < LOOKED_AT:
        batch = await store.usage.of_pin(pin, behind=behind, limit=limit, oldest=oldest)
        values = await store.get_many([keys.record(each.key) for each in batch])
        for behind, value in zip(batch, values, strict=True):
            if len(rows) == ROWS:
                return Found(rows, last)
            seen += 1
            entry = decode(value) if value else None
            if entry and is_listed(keys.record(behind.key), entry):
                last = behind.key
                rows.append(Row(behind.key, entry, behind.used))
        if len(batch) < limit:
            return Found(rows, None)
        limit = _BATCH
    return Found(rows, last or None, stopped=True)


async def by_size(store: Store, pin: str, after: str, is_listed: Callable[[str, Entry], bool]) -> Found:
    """Return a page of the entries of a pin, the largest first; `after` is the hash of one.

    Raises NotFound if that one is gone, StoreError.
    """
    behind = None
    if after:
        behind = columns(await _listed(store, after, is_listed)).size, keys.record(after)
    rows: list[tuple[str, Entry]] = []
    last, seen, limit = "", 0, ROWS + 1
    while seen < LOOKED_AT:
        batch = await store.index.largest(pin, after=behind, limit=limit)
        for size, key, value in batch:
            if len(rows) == ROWS:
                return Found(await with_use(store, rows), last)
            behind = size, key
            seen += 1
            entry = decode(value)
            if is_listed(key, entry):
                last = key.removeprefix(keys.RECORDS)
                rows.append((last, entry))
        if len(batch) < limit:
            return Found(await with_use(store, rows), None)
        limit = _BATCH
    return Found(await with_use(store, rows), last or None, stopped=True)


async def find(store: Store, search: Search, is_listed: Callable[[str, Entry], bool]) -> Found:
    """Return a page of what a search finds. Raises NotFound if its place is gone, StoreError."""
    rows, after, stopped = await _find(store, search, is_listed)
    return Found(await with_use(store, rows), after, stopped)


async def _find(
    store: Store, search: Search, is_listed: Callable[[str, Entry], bool]
) -> tuple[list[tuple[str, Entry]], str | None, bool]:
    place = Place(search.prefix, "") if search.prefix else None
    if search.after:
        place = Place((await _listed(store, search.after, is_listed)).url, keys.record(search.after))
    rows: list[tuple[str, Entry]] = []
    seen, last = 0, ""
    limit = _BATCH if search.part else ROWS + 1
    while seen < LOOKED_AT:
        batch = await store.index.records(search.pin, after=place, limit=limit)
        for place, value in batch:
            if not place.address.startswith(search.prefix):
                return rows, None, False
            if len(rows) == ROWS:
                return rows, last, False
            seen += 1
            entry, name = decode(value), place.key.removeprefix(keys.RECORDS)
            if not is_listed(place.key, entry):
                continue
            last = name
            if search.part in place.address:
                rows.append((name, entry))
        if len(batch) < limit:
            return rows, None, False
        limit = _BATCH
    return rows, last or None, True


async def _listed(store: Store, name: str, is_listed: Callable[[str, Entry], bool]) -> Entry:
    """Return the entry with this hash. Raises NotFound if there is none, or none that the visitor may know of."""
    key = keys.record(name)
    value = await store.get(key)
    entry = decode(value) if value else None
    if entry is None or not is_listed(key, entry):
        raise NotFound(_GONE)
    return entry
