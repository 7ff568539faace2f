"""Tiles: the tree as it is served and read, 256 hashes of one height at a time (c2sp.org/tlog-tiles). Pure.

A tile of level l has hashes of subtrees of 256**l leaves. All nodes between are folded out of those.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .tree import Node, Span, fold, nodes

WIDTH = 256  # hashes
HASH = 32  # bytes
BITS = 8  # by which the heights of two levels differ
_PATH = re.compile(
    r"(?P<level>[0-9]|[1-5][0-9]|6[0-3]|entries)/(?P<places>(?:x\d{3}/)*\d{3})(?:\.p/(?P<width>\d{1,3}))?"
)


class Tile(NamedTuple):
    """The `number`-th tile of a level, with its first `width` hashes. Level -1 is that of the leaves' own data."""

    level: int
    number: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Its path behind `tile/`."""
        digits = f"{self.number:03}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        *before, last = (digits[place : place + 3] for place in range(0, len(digits), 3))
        name = "/".join(["entries" if self.level < 0 else str(self.level), *(f"x{each}" for each in before), last])
        return name if self.width == WIDTH else f"{name}.p/{self.width}"

    @classmethod
    def read(cls, path: str) -> Tile:
        """Read a path behind `tile/`. Raises ValueError."""
        found = _PATH.fullmatch(path)
        if not found or len(found["places"]) > 24:
            raise ValueError("not the path of a tile")
        level = -1 if found["level"] == "entries" else int(found["level"])
        number, width = int(re.sub(r"\D", "", found["places"])), int(found["width"] or WIDTH)
        tile = cls(level, number, width)
        if tile.path != path or not 0 < width <= WIDTH:
            raise ValueError("not the path of a tile")
        return tile


def width(level: int, number: int, size: int) -> int:
    """Return how many hashes a tile has in a tree of `size` leaves."""
    return max(0, min(WIDTH, (size >> BITS * level) - number * WIDTH))


def holding(node: Node, size: int) -> Tile:
    """Return the tile, in a tree of `size` leaves, that a node is read from."""
    level, above = divmod(node.height, BITS)
    number = node.number << above >> BITS
    return Tile(level, number, width(level, number, size))


def wanted(spans: Iterable[Span], size: int) -> set[Tile]:
    """Return the tiles, in a tree of `size` leaves, that it takes to find the roots of some spans in it."""
    return {holding(node, size) for span in spans for node in nodes(span)}


def node_hash(node: Node, size: int, tiles: Mapping[Tile, bytes]) -> bytes:
    """Return the hash of a node, from the bytes of the tile that holds it."""
    tile = tiles[holding(node, size)]
    _, above = divmod(node.height, BITS)
    place = (node.number << above) % WIDTH * HASH
    row = tile[place : place + (HASH << above)]
    return fold([row[each : each + HASH] for each in range(0, len(row), HASH)])
