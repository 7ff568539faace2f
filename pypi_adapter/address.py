"""The address that the logs of a registry were observed at: at another one, whatever is not there would be deleted."""

from __future__ import annotations

from httpcache.errors import MirrorError
from httpcache.store import Log, Store


class Address:
    """The address of one registry's index, in the store: the first it was asked at, or the one it has moved to."""

    def __init__(self, store: Store, registry: str) -> None:
        self._log = Log(store, f"{registry}/ address")
        self._registry = registry

    async def check(self, index: str) -> None:
        """Raise MirrorError where the logs are of another address than `index`, which is kept if it is the first."""
        known = await self._log.read()
        if not known and not await self._log.append(0, index.encode()):
            known = await self._log.read()
        if known and known[-1].decode() != index:
            raise MirrorError(
                f"this data folder has the logs of {self._registry} as it was at {known[-1].decode()}, but the "
                f"settings say {index}: what is not there would count as deleted. If it is the same registry and has "
                f"moved, say so: httpcache moved {self._registry} {index}"
            )

    async def is_known(self) -> bool:
        """Whether the registry was ever asked."""
        return bool(await self._log.read())

    async def move(self, index: str) -> None:
        """Take another address for the registry's from now on. Raises MirrorError where it was never asked."""
        known = await self._log.read()
        if not known:
            raise MirrorError(f"there are no logs of {self._registry} in this data folder, so nothing has moved")
        if not await self._log.append(len(known), index.encode()):
            raise MirrorError("another command has moved it at the same time: try again")
