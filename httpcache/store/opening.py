"""Opens the store that an operator has named: embedded in a folder, or on PostgreSQL and an object store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from httpcache.errors import MirrorError, StoreError
from httpcache.settings import Location

from .errors import mapped
from .layout import version, write_version
from .local import LocalStore
from .store import Store

NODE = "node"
"""What VERSION says in the folder of a node, which has no index and no blobs."""


@asynccontextmanager
async def opened(location: Location) -> AsyncIterator[Store]:
    """Open a store inside the block, in this event loop and process. Raises MirrorError, StoreError."""
    if location.index and location.blobs:
        prepare_node(location.data)
        async with _open_node()(location.data, location.index, location.blobs, location.local_cache) as store:
            yield store
        return
    store = LocalStore(location.data)
    try:
        yield store
    finally:
        store.close()


def prepare_node(folder: Path) -> None:
    """Make the folder of a node, if it is missing.

    Raises StoreError if it is that of an embedded store, and MirrorError if the packages for nodes are not installed.
    """
    _open_node()
    with mapped():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = version(folder)
        if found not in ("", NODE):
            raise StoreError(
                f"{folder} is an embedded store, and no folder of a node: name another with --data, or move what it "
                "has with `httpcache copy`"
            )
        (folder / "spool").mkdir(mode=0o700, exist_ok=True)
        if not found:
            write_version(folder, NODE)


def _open_node() -> Callable[[Path, str, str, int], AbstractAsyncContextManager[Store]]:
    """Return `node.open_node`; the embedded store needs none of what it imports."""
    try:
        from .node import open_node
    except ImportError as error:
        raise MirrorError(f"--index needs {error.name}: install 'freezing-mirror[cluster]'") from error
    return open_node
