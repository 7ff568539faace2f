"""`httpcache gc`: removes bodies that no entry names, such as a command that was killed leaves behind.

It is safe beside servers and other nodes: what is about to get its entry is not taken for unused (see `Blobs.stamps`).
"""

from __future__ import annotations

import anyio

from httpcache.store.store import Store
from httpcache.units import short_size

from .maintenance import SETTLE
from .rows import Rows


async def collect(store: Store, rows: Rows, *, dry_run: bool) -> int:
    """Remove the bodies, or with `dry_run` only list them, and print how many there were. Raises StoreError."""
    found = await store.garbage()
    if dry_run:
        for digest, size in sorted(found.items()):
            rows.add(f"{digest} {short_size(size):>10}", sha256=digest, bytes=size)
        freed = sum(found.values())
    else:
        await anyio.sleep(SETTLE)
        freed = await store.collect(found)
    what = "would be removed" if dry_run else "removed"
    rows.total(
        f"{len(found)} bodies that no entry names {what}, {short_size(freed)} {'to be ' if dry_run else ''}freed",
        {"bodies": len(found), "bytes": freed, "removed": not dry_run},
    )
    return 0
