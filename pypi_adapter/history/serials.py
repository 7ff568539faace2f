"""Whether a registry's serials can be relied on: only after one has risen with a change (some send a constant)."""

from __future__ import annotations

import msgspec

from httpcache.store.log import TypedLog
from httpcache.store.store import Store

from .history import Serials


class Proof(msgspec.Struct, frozen=True, array_like=True):
    """A project that changed while its serial rose, as observed at an instant (microseconds)."""

    instant: int
    project: str
    before: int
    after: int


class Proofs(TypedLog[Proof]):
    """The proofs of one registry's serials, which all processes share. One is enough until the registry moves."""

    def __init__(self, store: Store, registry: str) -> None:
        subject, decode = f"the serials of {registry}", msgspec.msgpack.Decoder(Proof).decode
        super().__init__(store, f"{registry}/ serials", subject, msgspec.msgpack.encode, decode)
        self._last = -1  # the instant of the last proof

    async def known(self, since: int) -> Serials:
        """Return what is known of the serials of a registry that has had its address since `since`.

        Raises StoreError.
        """
        if self._last <= since:
            self._last = max((proof.instant for proof in (await self.all())[-1:]), default=-1)
        return Serials(since, self._last > since)
