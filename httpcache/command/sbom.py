"""`httpcache sbom`: the bill of materials of a build, and what differs between two builds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from httpcache.adapter import Adapter
from httpcache.errors import MirrorError
from httpcache.sbom.comparison import Difference, differences
from httpcache.sbom.components import Materials, materials
from httpcache.settings import Settings
from httpcache.store.store import Store

from .builds import found, incomplete
from .rows import Rows, say

CYCLONEDX, SPDX = "cyclonedx", "spdx"
_SHOWN = 12  # characters of a digest in the table


async def write(
    store: Store, settings: Settings, installed: Sequence[Adapter], *, label: str, form: str, mirror: str
) -> int:
    """Print the bill of materials of a build. Raises NotFound, MirrorError."""
    to_text = _writer(form)
    build = await materials(store, settings, installed, await found(store, label))
    _warn(build)
    print(to_text(build, mirror))
    return 0


def _writer(form: str) -> Callable[[Materials, str], str]:
    """Return what writes a bill of materials. Raises MirrorError if what it needs is not installed."""
    try:
        if form == SPDX:
            from httpcache.sbom.spdx_json import to_spdx

            return to_spdx
        from httpcache.sbom.cyclonedx_json import to_cyclonedx

        return to_cyclonedx
    except ImportError as error:
        raise MirrorError(f"a bill of materials needs {error.name}: install 'freezing-mirror[sbom]'") from error


async def compare(
    store: Store, settings: Settings, installed: Sequence[Adapter], rows: Rows, *, before: str, after: str
) -> int:
    """Print what differs between what two builds took. Raises NotFound, MirrorError."""
    sides = [await materials(store, settings, installed, await found(store, label)) for label in (before, after)]
    for side in sides:
        _warn(side)
    changes = differences(sides[0].components, sides[1].components)
    for change in changes:
        rows.add(
            _line(change),
            kind=change.kind, type=change.type or None, name=change.name, before=change.before, after=change.after,
            files_before=[{"name": name, "sha256": digest} for name, digest in change.files_before],
            files_after=[{"name": name, "sha256": digest} for name, digest in change.files_after],
        )  # fmt: skip
    if not changes and not rows.as_json:
        rows.note("both took the same")
    return 0


def _line(change: Difference) -> str:
    versions = " -> ".join(", ".join(filter(None, side)) or "-" for side in (change.before, change.after))
    files = [f"  - {name} {digest[:_SHOWN]}" for name, digest in change.files_before]
    files += [f"  + {name} {digest[:_SHOWN]}" for name, digest in change.files_after]
    return "\n".join([f"{change.kind:12} {change.name:30} {versions}", *files])


def _warn(build: Materials) -> None:
    if not build.build.is_whole:
        say(incomplete(build.build), sys.stderr)
