"""The address at which a registry was observed: at another one, whatever is missing there would count as deleted."""

from __future__ import annotations

from typing import TypeAlias

from httpcache.errors import MirrorError
from httpcache.store.log import TypedLog
from httpcache.store.store import Store
from pypi_adapter.instants import now

Location: TypeAlias = tuple[str, int | None]
"""An address, and the instant (microseconds) at which the registry moved there, None for the first address."""


class IndexUrlLog:
    """The address of one registry's index, in the store: the first one that was used, or the one it has moved to."""

    def __init__(self, store: Store, registry: str) -> None:
        self.log = TypedLog(store, f"{registry}/ address", f"the address of {registry}", _encode, _decode)
        """The addresses as they are in the store."""
        self._registry = registry

    async def check(self, index: str) -> int:
        """Return when the registry moved to `index` (microseconds), -1 if it was always there.

        The first address is stored. Raises MirrorError if the logs were made at another address.
        """
        while not (known := await self.log.all()):
            await self.log.try_append((index, None))
        address, moved = known[-1]
        if address != index:
            raise MirrorError(
                f"the logs of {self._registry} in this data folder were made at {address}, but the settings say "
                f"{index}: whatever is missing there would count as deleted. If it is the same registry and has moved, "
                f"run: httpcache moved {self._registry} {index}"
            )
        return -1 if moved is None else min(moved, now())  # the clock can have been ahead

    async def is_known(self) -> bool:
        """Whether a request was ever made to the registry."""
        return bool(await self.log.all())

    async def move(self, index: str) -> None:
        """Record that the registry is at another address from now on. Serials seen before no longer count.

        Raises MirrorError if no request was ever made to it.
        """
        if not await self.log.all():
            raise MirrorError(f"there are no logs of {self._registry} in this data folder, so nothing has moved")
        if not await self.log.try_append((index, now())):
            raise MirrorError("another command moved it at the same time: try again")


def _encode(location: Location) -> bytes:
    address, moved = location
    return address.encode() if moved is None else f"{address} {moved}".encode()


def _decode(value: bytes) -> Location:
    address, _, moved = value.decode().partition(" ")
    return address, int(moved) if moved else None
