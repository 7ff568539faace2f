"""Audits the Merkle log of a running mirror, with nothing but its addresses.

Nothing that the mirror says is believed: each hash is folded up to the root that it has signed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

import msgspec

from httpcache.errors import MirrorError

from .findings import Finding
from .note import BadNote, Checkpoint, Key, read
from .published import Event, LogNames, LogPage
from .tiles import HASH, Tile, node_hash, wanted
from .tree import Invalid, Span, check_consistency, check_inclusion, consistency, inclusion, root

T = TypeVar("T")

ASK = "ask the operator of the mirror why; keep this output and the checkpoints"

Get = Callable[[str], bytes]
"""Returns what an address below `/-/log/` answers. Raises MirrorError."""


class RemoteLog:
    """The Merkle log of a mirror, at the checkpoint that it gave last. Methods raise MirrorError."""

    def __init__(self, get: Get) -> None:
        self._get = get
        self._tiles: dict[Tile, bytes] = {}
        self.checkpoint: Checkpoint
        self.since: Checkpoint | None = None

    def begin(self, since: str | None) -> Iterator[Finding]:
        """Get a checkpoint, and yield what is wrong with it; `since` is one that was kept.

        After a finding nothing more can be shown.
        """
        try:
            key = Key.read(self._get("key").decode("utf-8", "replace"))
            self.checkpoint = read(self._get("checkpoint").decode("utf-8", "replace"), key)
        except BadNote as error:
            yield Finding("checkpoint", f"the checkpoint of the mirror cannot be trusted: {error}", ASK)
            return
        size = self.checkpoint.size
        [found] = self._hashes([Span(0, size)])
        if found != self.checkpoint.root:
            yield Finding("tree", "the tiles of the mirror do not come to the root that it has signed", ASK)
        elif since is not None:
            yield from self._continues(since, key)

    def _continues(self, since: str, key: Key) -> Iterator[Finding]:
        """Yield why the log does not continue that of a checkpoint, if it does not."""
        try:
            self.since = read(since, key)
        except BadNote as error:
            yield Finding("checkpoint", f"the checkpoint that was kept is none of this log: {error}", ASK)
            return
        old, size = self.since.size, self.checkpoint.size
        proof = self._hashes(consistency(old, size)) if 0 < old < size else []
        try:
            check_consistency(old, self.since.root, size, self.checkpoint.root, proof)
        except Invalid as error:
            text = f"what was in the log at the checkpoint of {old} leaves was rewritten: {error}"
            yield Finding("rewritten", text, ASK)

    def events(self, name: str) -> list[Event]:
        """Return all that is published of a log."""
        found: list[Event] = []
        start: int | None = 0
        while start is not None:
            page = _decoded(self._get(f"entries/{name}?from={start}"), LogPage)
            found += page.events
            if page.next is not None and page.next <= start:
                raise MirrorError("the mirror sends the entries of a log in no order")
            start = page.next
        return found

    def names(self) -> list[str]:
        """Return the names of all logs that are published."""
        return _decoded(self._get("logs"), LogNames).logs

    def check(self, name: str, events: Sequence[Event]) -> Iterator[Finding]:
        """Yield what is wrong with the entries of a log: each must be in the tree, and they must follow each other."""
        size = self.checkpoint.size

        def found(event: Event, kind: str, text: str, *, is_note: bool = False) -> Finding:
            text = f"entry {event.entry} of the log {name}: {text}"
            return Finding(kind, text, ASK, name, event.entry, event.leaf, is_note)

        for event in events:
            if event.leaf >= size:
                yield found(event, "missing leaf", "it is not in the tree that the mirror has signed")
                continue
            proof = self._hashes(inclusion(event.leaf, size))
            try:
                check_inclusion(event.hash, event.leaf, size, proof, self.checkpoint.root)
            except Invalid:
                yield found(event, "missing leaf", "its leaf is not in the tree")
                continue
            if event.value is not None and not event.as_leaf(name).is_about(event.value):
                yield found(event, "changed", "its leaf is about other bytes")
            if event.removal:
                is_note = self.since is None or event.leaf < self.since.size
                yield found(event, "removal", "it was removed", is_note=is_note)
        there = [event for event in events if event.value is not None]
        for number, event in enumerate(there):
            if event.entry != number:
                yield found(event, "gap", "the entry before it is not shown")
                break
        for one, two in pairwise(there):
            if two.leaf <= one.leaf:
                yield found(two, "order", "it was added before the entry that precedes it")

    def _hashes(self, spans: Sequence[Span]) -> list[bytes]:
        """Return the roots over spans of the tree at the checkpoint, from tiles."""
        size = self.checkpoint.size
        for tile in wanted(spans, size):
            if tile not in self._tiles:
                data = self._get(f"tile/{tile.path}")
                if len(data) != tile.width * HASH:
                    raise MirrorError(f"the mirror sends a tile of another length: /-/log/tile/{tile.path}")
                self._tiles[tile] = data
        return [root(span, lambda node: node_hash(node, size, self._tiles)) for span in spans]


def _decoded(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise MirrorError(f"the mirror sends something else than entries of a log: {error}") from error
