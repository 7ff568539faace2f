"""Whether a registry's serials say anything: only once one was seen to move with a change (some send one constant)."""

from __future__ import annotations

import msgspec

from httpcache.store.base import Store
from httpcache.store.log import Log

from .history import Serials


class Proof(msgspec.Struct, frozen=True, array_like=True):
    """A project that was seen to change while its serial rose, at an instant (microseconds)."""

    instant: int
    project: str
    before: int
    after: int


def serials_log(store: Store, registry: str) -> Log:
    """Return the log of the proofs of a registry's serials."""
    return Log(store, f"{registry}/ serials")


class Proofs:
    """The proofs of one registry's serials, in the store: shared by all processes. One is enough, until it moves."""

    def __init__(self, store: Store, registry: str) -> None:
        self._log = serials_log(store, registry)
        self._read: list[Proof] = []

    async def known(self, since: int) -> Serials:
        """Return what is known of the serials of a registry that is where it is since an instant. Raises StoreError."""
        if not self._proved(since):
            await self._refresh()
        return Serials(since, self._proved(since))

    async def add(self, proof: Proof) -> None:
        """Keep a proof. Raises StoreError."""
        while not await self._log.append(len(self._read), msgspec.msgpack.encode(proof)):
            await self._refresh()

    async def _refresh(self) -> None:
        for value in await self._log.read(len(self._read)):
            self._read.append(msgspec.msgpack.decode(value, type=Proof))

    def _proved(self, since: int) -> bool:
        return bool(self._read) and self._read[-1].instant > since
