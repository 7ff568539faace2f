"""Merkle trees and their proofs (RFC 6962 section 2.1, RFC 9162 section 2.1), over subtrees that are kept. Pure.

A `Node` is a complete subtree: it covers the leaves from `number * 2**height` to before `(number + 1) * 2**height`. A
proof is a list of `Span`s, each of which is folded out of the nodes that it consists of. So whoever has the hashes of
nodes can make every proof, and needs no leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

EMPTY = sha256().digest()
"""The root of a tree without leaves."""


class Node(NamedTuple):
    """A complete subtree of 2**height leaves, the `number`-th of its height."""

    height: int
    number: int


class Span(NamedTuple):
    """The leaves from `start` to before `end`, as a subtree of its own (RFC 6962: D[start:end])."""

    start: int
    end: int


Hashes = Callable[[Node], bytes]
"""Returns the hash of a node, 32 bytes."""


class Invalid(ValueError):
    """A proof does not prove what it should."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(b"\0" + data).digest()


def parent_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node with these two subtrees."""
    return sha256(b"\1" + left + right).digest()


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root over the hashes of a complete subtree's nodes of one height: a power of two of them."""
    row = list(hashes)
    while len(row) > 1:
        row = [parent_hash(*pair) for pair in zip(row[::2], row[1::2], strict=True)]
    return row[0]


def nodes(span: Span) -> list[Node]:
    """Return the nodes that a span consists of, from the left. The span begins where one as long could begin."""
    found, place = [], span.start
    for height in reversed(range((span.end - span.start).bit_length())):
        if (span.end - span.start) >> height & 1:
            found.append(Node(height, place >> height))
            place += 1 << height
    return found


def root(span: Span, hashes: Hashes) -> bytes:
    """Return the root over a span."""
    return _joined([hashes(node) for node in nodes(span)])


def _joined(row: Sequence[bytes]) -> bytes:
    """Return the root over nodes of falling heights."""
    if not row:
        return EMPTY
    found = row[-1]
    for left in reversed(row[:-1]):
        found = parent_hash(left, found)
    return found


class Grown:
    """A tree to which leaves are added. `size`: how many it has."""

    def __init__(self) -> None:
        self.size = 0
        self._row: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """Add the hash of a leaf."""
        size, found = self.size, leaf
        while size & 1:
            found = parent_hash(self._row.pop(), found)
            size >>= 1
        self._row.append(found)
        self.size += 1

    @property
    def root(self) -> bytes:
        """The root over all leaves."""
        return _joined(self._row)


def inclusion(number: int, size: int) -> list[Span]:
    """Return the proof that a leaf is in a tree of `size` leaves (RFC 9162 section 2.1.3.1)."""
    found: list[Span] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if number < middle:
            found.append(Span(middle, end))
            end = middle
        else:
            found.append(Span(start, middle))
            start = middle
    return found[::-1]


def consistency(old: int, size: int) -> list[Span]:
    """Return the proof that a tree of `size` leaves continues that of the first `old`, at least 1 (section 2.1.4.1)."""
    found: list[Span] = []
    start, end, is_whole = 0, size, True
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            found.append(Span(middle, end))
            end = middle
        else:
            found.append(Span(start, middle))
            start, is_whole = middle, False
    if not is_whole:
        found.append(Span(start, end))
    return found[::-1]


def _split(count: int) -> int:
    """Return the largest power of two that is smaller than a number of leaves."""
    return 1 << (count - 1).bit_length() - 1


def check_inclusion(leaf: bytes, number: int, size: int, proof: Iterable[bytes], root: bytes) -> None:
    """Raise Invalid unless a leaf's hash is in the tree with this size and root (RFC 9162 section 2.1.3.2)."""
    if not 0 <= number < size:
        raise Invalid("the leaf is not in the tree")
    place, last, found = number, size - 1, leaf
    for each in proof:
        if not last:
            raise Invalid("the proof is too long")
        if place & 1 or place == last:
            found = parent_hash(each, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = parent_hash(found, each)
        place, last = place >> 1, last >> 1
    if last or found != root:
        raise Invalid("the leaf is not in the tree")


def check_consistency(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Raise Invalid unless a tree continues an earlier one (RFC 9162 section 2.1.4.2)."""
    if old > size:
        raise Invalid("the tree has become smaller")
    if old == size or not old:
        if proof or (old_root != root if old else old_root != EMPTY):
            raise Invalid("the trees differ")
        return
    path = [old_root, *proof] if not old & (old - 1) else list(proof)
    if not path:
        raise Invalid("the proof is too short")
    place, last = old - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    first = second = path[0]
    for each in path[1:]:
        if not last:
            raise Invalid("the proof is too long")
        if place & 1 or place == last:
            first, second = parent_hash(each, first), parent_hash(each, second)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            second = parent_hash(second, each)
        place, last = place >> 1, last >> 1
    if last or first != old_root or second != root:
        raise Invalid("the tree does not continue the earlier one")
