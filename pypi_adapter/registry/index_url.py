"""The address that the logs of a registry were observed at: at another one, whatever is not there would be deleted."""

from __future__ import annotations

from typing import TypeAlias

from httpcache.errors import MirrorError
from httpcache.store.base import Store
from httpcache.store.log import TypedLog
from pypi_adapter.instants import now

Location: TypeAlias = tuple[str, int | None]
"""An address, and the instant (microseconds) at which the registry moved there; None for the first one."""


class IndexUrlLog:
    """The address of one registry's index, in the store: the first it was asked at, or the one it has moved to."""

    def __init__(self, store: Store, registry: str) -> None:
        self._log = TypedLog(store, f"{registry}/ address", f"the address of {registry}", _encode, _decode)
        self._registry = registry

    async def check(self, index: str) -> int:
        """Return since when the registry is at `index` (microseconds), -1 for ever; it is kept if it is the first.

        Raises MirrorError where the logs are of another address.
        """
        while not (known := await self._log.all()):
            await self._log.try_append((index, None))
        address, moved = known[-1]
        if address != index:
            raise MirrorError(
                f"this data folder has the logs of {self._registry} as it was at {address}, but the "
                f"settings say {index}: what is not there would count as deleted. If it is the same registry and has "
                f"moved, say so: httpcache moved {self._registry} {index}"
            )
        return -1 if moved is None else min(moved, now())  # the clock can have been ahead

    async def is_known(self) -> bool:
        """Whether the registry was ever asked."""
        return bool(await self._log.all())

    async def move(self, index: str) -> None:
        """Take an address for the registry's from now on: serials seen before do not count any more.

        Raises MirrorError where it was never asked.
        """
        if not await self._log.all():
            raise MirrorError(f"there are no logs of {self._registry} in this data folder, so nothing has moved")
        if not await self._log.try_append((index, now())):
            raise MirrorError("another command has moved it at the same time: try again")


def _encode(location: Location) -> bytes:
    address, moved = location
    return address.encode() if moved is None else f"{address} {moved}".encode()


def _decode(value: bytes) -> Location:
    address, _, moved = value.decode().partition(" ")
    return address, int(moved) if moved else None
