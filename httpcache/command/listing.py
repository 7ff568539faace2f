"""`httpcache ls`: the pins, each with its totals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from httpcache.units import short_size

from .rows import Rows

if TYPE_CHECKING:
    from httpcache.store.base import PinTotals


def pins(totals: Iterable[PinTotals], rows: Rows) -> int:
    """Print the pins with their numbers of entries and bytes."""
    for name, count, size in totals:
        rows.add(f"{name:40} {count:8} {short_size(size):>10}", pin=name, entries=count, bytes=size)
    return 0
