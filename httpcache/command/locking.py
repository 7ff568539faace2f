"""`httpcache lock`: writes a lock file of what a build asks for, or says whether a lock file is frozen here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from httpcache.adapter import Adapter, Build, Unmet, Wish
from httpcache.errors import MirrorError

from .asking import Asker
from .rows import Rows, say
from .warm import AT_ONCE, wishes


def write(build: Build, installed: Sequence[Adapter], output: Path | None) -> int:
    """Write the lock file of a build to a file, or print it. Raises MirrorError."""
    text = next(filter(None, (adapter.lock(build) for adapter in installed)), None)
    if text is None:
        raise MirrorError(f"{build.file} cannot be locked: name a requirements file")
    if output is None:
        sys.stdout.write(text)
        return 0
    try:
        output.write_text(text)
    except OSError as error:
        raise MirrorError(f"{output} cannot be written: {error.strerror}") from error
    say(f"wrote {output}")
    return 0


def check(build: Build, asker: Asker, installed: Sequence[Adapter], rows: Rows) -> int:
    """List what a lock file pins and the mirror has not frozen; return 1 if there is anything, else 0.

    `asker` asks only for what is stored. Raises MirrorError.
    """
    found = list(wishes(build, asker, installed))
    names = {wish.url: wish.name for wish in found if isinstance(wish, Wish)}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        lacks = zip(names.values(), pool.map(asker.lack, names), strict=True)
        unfrozen = [Unmet(name, lack) for name, lack in lacks if lack]
    missing = sorted([*unfrozen, *(each for each in found if isinstance(each, Unmet))])
    for name, reason in missing:
        rows.add(f"{name}: {reason}", name=name, reason=reason)
    frozen = len(names) - len(unfrozen)
    total = {"frozen": frozen, "missing": len(missing)}
    rows.total(f"{frozen:,} frozen here, {len(missing):,} missing", total)
    return 1 if missing else 0
