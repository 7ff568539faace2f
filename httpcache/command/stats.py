"""`httpcache stats`: what is frozen under each pin, how much of it other pins have too, and how it is used."""

from __future__ import annotations

from httpcache.store.base import PinTotals
from httpcache.store.store import Store
from httpcache.units import short_size

from .rows import Rows, instant

HEAD = f"{'':40} {'entries':>9} {'size':>10} {'shared':>10} {'hits':>9}  last use"


async def stats(store: Store, rows: Rows) -> int:
    """Print a row for each pin, and for each index that was used, by name. Raises StoreError."""
    frozen = {pin.pin: pin for pin in await store.index.pins()}
    shared, used = await store.index.shared(), await store.usage.pins()
    if not rows.as_json:
        rows.note(HEAD)
    for name in sorted(frozen | used):
        totals, use = frozen.get(name, PinTotals(name, 0, 0)), used.get(name)
        hits, last = (use.hits, instant(use.last)) if use else (0, None)
        size, both = short_size(totals.bytes), short_size(shared.get(name, 0))
        rows.add(
            f"{name:40} {totals.entries:9} {size:>10} {both:>10} {hits:9}  {last or 'never'}",
            pin=name, entries=totals.entries, bytes=totals.bytes, shared=shared.get(name, 0), hits=hits, last_use=last,
        )  # fmt: skip
    return 0
