"""The Merkle log of a store: its tiles, its entries and its checkpoints.

The index has the leaves, in the order in which they were committed (see `store.leaves`). All else is a function of them
that any process can compute, so nobody has to be the only one who does. What takes long to compute again is kept: the
hash of every 256 leaves, of every 256 of those, and so on.

    t/<level>/<number>   such a hash
    c/<hour>/<size>      a checkpoint, as it was signed
    m/log-key            the private key that signs them, which is made when it is first needed
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterable

import anyio

from httpcache.errors import NotFound, StoreError
from httpcache.store import keys
from httpcache.store.leaves import Leaf
from httpcache.store.store import Store

from . import tiles
from .note import SEED, Key, Signer
from .tiles import HASH, WIDTH, Tile, node_hash, wanted
from .tree import Span, fold, leaf_hash, root

HOUR = 3600  # seconds
AT_ONCE = 64  # hashes that are written at the same time


class TreeLog:
    """The Merkle log of a store. Every method raises StoreError."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._signer: Signer | None = None
        self._kept = 0  # the size at which it was last seen to that a checkpoint is kept

    async def size(self) -> int:
        """Return how many leaves there are."""
        return await self._store.index.leaf_count()

    async def signer(self) -> Signer:
        """Return the key of the log, which is made if there is none."""
        if self._signer is None:
            seed = await self._store.get(keys.LOG_KEY)
            if seed is None:
                seed = await self._store.index.add(keys.LOG_KEY, secrets.token_bytes(SEED), counts=False)
            self._signer = Signer(seed)
        return self._signer

    async def key(self) -> Key | None:
        """Return the public key of the log, None if there is none yet."""
        return None if await self._store.get(keys.LOG_KEY) is None else (await self.signer()).key

    async def checkpoint(self) -> str:
        """Return a signed checkpoint of now. The first of each hour is kept, for audits to come."""
        size, now = await self.size(), int(time.time())
        note = (await self.signer()).sign(size, await self.root(size), now)
        if size > self._kept and not self._store.read_only:
            hour = f"{keys.CHECKPOINTS}{now // HOUR:08}/"
            if not await self._store.index.keys(hour, "", 1):
                await self._store.index.add(keys.numbered(hour, size), note.encode(), counts=False)
            self._kept = size
        return note

    async def checkpoints(self) -> AsyncIterator[tuple[int, str]]:
        """Yield the checkpoints that were kept, with their sizes, oldest first."""
        async for key, value in self._store.entries(keys.CHECKPOINTS):
            yield int(key.rpartition("/")[2]), value.decode()

    async def root(self, size: int) -> bytes:
        """Return the root over the first `size` leaves."""
        span = Span(0, size)
        found = await self.tiles(wanted([span], size))
        return root(span, lambda node: node_hash(node, size, found))

    async def tiles(self, some: Iterable[Tile]) -> dict[Tile, bytes]:
        """Return the bytes of tiles. Raises NotFound if the tree is too small for one."""
        return {tile: await self.tile(tile) for tile in some}

    async def tile(self, tile: Tile) -> bytes:
        """Return the bytes of a tile (c2sp.org/tlog-tiles). Raises NotFound if the tree is too small for it."""
        if tile.width > tiles.width(max(tile.level, 0), tile.number, await self.size()):
            raise NotFound("the log has no such tile: it is not as large as that yet")
        if tile.level < 0:
            found = [leaf.data for leaf in await self._leaves(tile)]
            return b"".join(len(data).to_bytes(2, "big") + data for data in found)
        if not tile.level:
            return b"".join(leaf_hash(leaf.data) for leaf in await self._leaves(tile))
        return b"".join(await self._hashes(tile))

    async def _leaves(self, tile: Tile) -> list[Leaf]:
        return await self._store.index.leaves(tile.number * WIDTH, tile.width)

    async def _hashes(self, tile: Tile) -> list[bytes]:
        """Return the hashes of a tile above the leaves. What is not kept yet is computed, and kept from then on."""
        prefix, start = keys.tree_level(tile.level), tile.number * WIDTH
        after = keys.numbered(prefix, start - 1) if start else prefix
        found = dict(await self._store.index.page(prefix, after, tile.width))
        names = [keys.numbered(prefix, number) for number in range(start, start + tile.width)]
        missing = [(number, name) for number, name in enumerate(names, start) if name not in found]
        for begin in range(0, len(missing), AT_ONCE):
            some = missing[begin : begin + AT_ONCE]
            computed = {name: await self._computed(tile.level, number) for number, name in some}
            found |= computed
            if not self._store.read_only:
                await self._keep(computed)
        return [found[name] for name in names]

    async def _computed(self, level: int, number: int) -> bytes:
        """Return the hash of a tile of the level below."""
        below = await self.tile(Tile(level - 1, number))
        return fold([below[place : place + HASH] for place in range(0, len(below), HASH)])

    async def _keep(self, hashes: dict[str, bytes]) -> None:
        """Keep hashes by their keys. They share commits."""
        failed: list[StoreError] = []

        async def one(name: str, value: bytes) -> None:
            try:
                await self._store.index.add(name, value, counts=False)
            except StoreError as error:
                failed.append(error)

        async with anyio.create_task_group() as tasks:
            for name, value in hashes.items():
                tasks.start_soon(one, name, value)
        if failed:
            raise failed[0]
