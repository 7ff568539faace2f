"""`httpcache forget` for what an operator no longer wants to keep: what is not used, and the old dates of a pin."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from itertools import islice

from httpcache.errors import BadAddress, MirrorError, NotFound
from httpcache.store.record import Entry
from httpcache.store.store import Store
from httpcache.target import pin_prefix
from httpcache.units import parse_span

from .maintenance import entries, remove, tell_loss
from .rows import instant

_AT_ONCE = 500  # entries that the journal is asked for

Found = list[tuple[str, Entry]]


def span(text: str) -> float:
    """Parse a number of days or weeks, `180d` or `26w`; return seconds. Raises BadAddress."""
    found = parse_span(text)
    if found is None:
        raise BadAddress(f"--unused-for {text}: use a number of days or weeks, such as 180d or 26w")
    return found


async def forget_unused(store: Store, *, seconds: float, pin: str | None, yes: bool) -> int:
    """Forget the entries, of one pin or of all, that nobody used for so long. Raises NotFound, MirrorError.

    One that was frozen since counts as used. The usage journal must be old enough to know.
    """
    now = time.time()
    begin = min((used.first for used in (await store.usage.pins()).values()), default=now)
    if begin > now - seconds:
        raise MirrorError(
            f"who uses what is recorded since {instant(begin)} only, so it is not known what was unused for so long: "
            "use a shorter time"
        )
    pins = [each.pin for each in await store.index.pins() if pin in (None, each.pin)]
    if not pins:
        raise NotFound(f"nothing is frozen under {pin!r}: `httpcache ls` lists the pins")
    found = [each for name in pins async for each in _unused(store, name, now - seconds)]
    return await _forget(store, found, yes=yes)


async def _unused(store: Store, pin: str, since: float) -> AsyncIterator[tuple[str, Entry]]:
    async for batch in _batches(store, pin):
        used = await store.usage.entries([entry.target for _, entry in batch])
        for key, entry in batch:
            last = used[entry.target].last if entry.target in used else entry.created
            if max(last, entry.created) < since:
                yield key, entry


async def _batches(store: Store, pin: str) -> AsyncIterator[Found]:
    batch: Found = []
    async for each in entries(store, pin):
        batch.append(each)
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


async def forget_older(store: Store, *, prefix: str, keep: int, yes: bool) -> int:
    """Forget the dated pins `<prefix>-<date>`, except the last ones. Raises NotFound if there are none."""
    dated = [each.pin for each in await store.index.pins() if pin_prefix(each.pin) == prefix != each.pin]
    if not dated:
        raise NotFound(f"there are no pins {prefix}-<date>: `httpcache ls` lists the pins")
    lost = list(islice(sorted(dated, reverse=True), keep, None))
    for pin in sorted(lost):
        print(f"pin {pin}")
    return await _forget(store, [each for pin in lost async for each in entries(store, pin)], yes=yes)


async def _forget(store: Store, found: Found, *, yes: bool) -> int:
    if not found:
        print("there is nothing to forget")
        return 0
    await tell_loss(store, [entry for _, entry in found])
    if not yes:
        print("nothing was removed: say --yes to remove them")
        return 0
    await remove(store, found)
    return 0
