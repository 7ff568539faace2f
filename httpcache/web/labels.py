"""Takes build labels out of the addresses of requests."""

from __future__ import annotations

from collections.abc import Container, Iterable
from urllib.parse import unquote

from starlette.types import Scope

from httpcache import label
from httpcache.label import Labelled, is_reserved, read_label
from httpcache.request import ROOT
from httpcache.store.store import Store

MARK = label.MARK.encode()
"""What is in the raw path of every labelled address, and in that of few others."""
LABELLED = "httpcache.labelled"


class Labels:
    """Reads labels. `names` and `pins` are those of `read_label`."""

    def __init__(self, names: Iterable[str], pins: Iterable[str]) -> None:
        self._names: Container[str] = frozenset(names)
        self._pins: Container[str] = frozenset(pins)

    def taken_out(self, scope: Scope) -> Scope:
        """Return the scope of a request without its label, for `labelled`. Raises BadAddress if that is not valid."""
        found = read_label(scope["raw_path"].decode("utf-8", "surrogateescape"), self._names, self._pins)
        if found is None:
            return scope
        raw = found.path.encode("utf-8", "surrogateescape")
        root = scope.get(ROOT, "") + found.root
        return {**scope, "path": unquote(found.path), "raw_path": raw, ROOT: root, LABELLED: found}


def labelled(scope: Scope) -> Labelled | None:
    """Return the labelled address of a request that had one."""
    found: Labelled | None = scope.get(LABELLED)
    return found


async def older_pins(store: Store) -> list[str]:
    """Return the pins whose names have the form of a labelled one: they are older than labels. Raises StoreError."""
    return [pin.pin for pin in await store.index.pins() if is_reserved(pin.pin)]
