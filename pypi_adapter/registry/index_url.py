"""The address that the logs of a registry were observed at: at another one, whatever is not there would be deleted."""

from __future__ import annotations

from httpcache.errors import MirrorError
from httpcache.store.base import Store
from httpcache.store.log import Log
from pypi_adapter.instants import now


class IndexUrlLog:
    """The address of one registry's index, in the store: the first it was asked at, or the one it has moved to.

    An entry is the address, and behind a space the instant (microseconds) at which it has moved there.
    """

    def __init__(self, store: Store, registry: str) -> None:
        self._log = Log(store, f"{registry}/ address")
        self._registry = registry

    async def check(self, index: str) -> int:
        """Return since when the registry is at `index` (microseconds), -1 for ever; it is kept if it is the first.

        Raises MirrorError where the logs are of another address.
        """
        known = await self._log.read()
        if not known and not await self._log.append(0, index.encode()):
            known = await self._log.read()
        if not known:
            return -1
        address, _, moved = known[-1].decode().partition(" ")
        if address != index:
            raise MirrorError(
                f"this data folder has the logs of {self._registry} as it was at {address}, but the "
                f"settings say {index}: what is not there would count as deleted. If it is the same registry and has "
                f"moved, say so: httpcache moved {self._registry} {index}"
            )
        return min(int(moved), now()) if moved else -1  # the clock can have been ahead

    async def is_known(self) -> bool:
        """Whether the registry was ever asked."""
        return bool(await self._log.read())

    async def move(self, index: str) -> None:
        """Take an address for the registry's from now on: serials seen before do not count any more.

        Raises MirrorError where it was never asked.
        """
        known = await self._log.read()
        if not known:
            raise MirrorError(f"there are no logs of {self._registry} in this data folder, so nothing has moved")
        if not await self._log.append(len(known), f"{index} {now()}".encode()):
            raise MirrorError("another command has moved it at the same time: try again")
