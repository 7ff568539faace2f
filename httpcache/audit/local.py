"""Audits a store from inside: every entry of a log has its leaf, every leaf its entry, and the tree its checkpoints.

The leaves are read twice: in their order, to compute the tree again, and by place, beside the entries.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, TypeAlias

from httpcache.errors import Damaged
from httpcache.store import keys
from httpcache.store.leaves import Leaf, place
from httpcache.store.store import Store

from .findings import BACKUP, Finding
from .note import BadNote, Checkpoint, read
from .tiles import WIDTH
from .tree import Grown, fold, leaf_hash
from .tree_log import TreeLog

_KEY = re.compile(r"l/[0-9a-f]{64}/\d{10}")
_Value: TypeAlias = bytes | Damaged | None
"""The bytes of an entry, why they cannot be read, or None if it is not there."""


@dataclass
class Seen:
    """What an audit has gone through, and the root of the tree in the end."""

    leaves: int = 0
    entries: int = 0
    logs: int = 0
    checkpoints: int = 0
    root: bytes = b""


class LocalAudit:
    """An audit of a store, which may be in use.

    `names` returns the names of logs, by the sha256 of them. `since` is a checkpoint that was kept elsewhere. Methods
    raise StoreError.
    """

    def __init__(
        self, store: Store, names: Callable[[], Awaitable[Mapping[bytes, str]]], since: Checkpoint | None = None
    ) -> None:
        self.seen = Seen()
        self._store = store
        self._read_names = names
        self._names: Mapping[bytes, str] | None = None
        self._since = since

    async def findings(self, advance: Callable[[], None]) -> AsyncIterator[Finding]:
        """Yield what is found. `advance` is called for each leaf."""
        async for finding in self._tree(advance):
            yield finding
        async for finding in self._entries():
            yield finding

    # --- the tree

    async def _tree(self, advance: Callable[[], None]) -> AsyncIterator[Finding]:
        grown, kept = Grown(), _Kept(self._store)
        checkpoints = [] if self._since is None else [self._since]
        async for one in self._checkpoints():
            if isinstance(one, Finding):
                yield one
            else:
                checkpoints.append(one)
        checkpoints.sort(key=lambda each: each.size)
        async for leaf in _leaves(self._store):
            if leaf.number != grown.size:
                yield Finding(
                    "missing leaf", f"leaves {grown.size} to {leaf.number - 1} of the Merkle log are gone", BACKUP,
                    leaf=grown.size,
                )  # fmt: skip
                break
            hashed = leaf_hash(leaf.data)
            grown.add(hashed)
            number = await kept.differs(hashed)
            if number is not None:
                yield Finding(
                    "tree", f"leaves {number} to {grown.size - 1} are not those that were hashed before", BACKUP,
                    leaf=number,
                )  # fmt: skip
            for one in [each for each in checkpoints if each.size == grown.size and each.root != grown.root]:
                yield _differs(one)
            advance()
        self.seen.leaves, self.seen.root = grown.size, grown.root
        self.seen.checkpoints = len(checkpoints)
        for one in checkpoints:
            if one.size > grown.size:
                text = f"the log has {grown.size} leaves, and had {one.size} on {when(one)}, as its checkpoint says"
                yield Finding("cut off", text, BACKUP, leaf=grown.size)

    async def _checkpoints(self) -> AsyncIterator[Checkpoint | Finding]:
        """Yield the checkpoints that the store has kept."""
        log = TreeLog(self._store)
        key = await log.key()
        if key is None:
            return
        async for size, note in log.checkpoints():
            try:
                yield read(note, key)
            except BadNote as error:
                yield Finding("checkpoint", f"the checkpoint of {size} leaves was changed ({error})", BACKUP)

    # --- entries and leaves

    async def _entries(self) -> AsyncIterator[Finding]:
        last_log, last_leaf, expected = "", -1, 0
        async for key, value, leaves in self._by_place():
            if not _KEY.fullmatch(key):
                yield Finding("added", f"{key!r} is no key of an entry of a log: it was not written by us", BACKUP)
                continue
            entry = _Entry(key, value, leaves)
            if entry.problem:
                entry = await self._again(key)  # a server may have added or removed it between the two reads
            if entry.log != last_log:
                last_log, last_leaf, expected = entry.log, -1, 0
                self.seen.logs += 1
            problems = [entry.problem, *entry.removals(self._since)]
            if entry.is_there:
                self.seen.entries += 1
                if entry.number != expected:
                    problems.append(_Problem("gap", f"the entry before it, {entry.number - 1}, is not there"))
                if entry.leaf is not None and entry.leaf < last_leaf:
                    problems.append(
                        _Problem("order", "it was added before the entry that precedes it", leaf=entry.leaf)
                    )
                expected, last_leaf = entry.number + 1, max(last_leaf, -1 if entry.leaf is None else entry.leaf)
            for problem in filter(None, problems):
                yield await self._told(entry, problem)

    async def _again(self, key: str) -> _Entry:
        """Read an entry and its leaves, as they are at one moment."""
        leaves = await self._store.index.leaves_by_place(place(key))
        while True:
            value = await _value(self._store, key)
            seen, leaves = leaves, await self._store.index.leaves_by_place(place(key))
            if seen == leaves:
                return _Entry(key, value, leaves)

    async def _told(self, entry: _Entry, problem: _Problem) -> Finding:
        if self._names is None:
            self._names = await self._read_names()
        name = self._names.get(bytes.fromhex(entry.log), entry.log[:16])
        text = f"entry {entry.number} of the log {name}: {problem.text}"
        kind, _, advice, leaf, is_note = problem
        return Finding(kind, text, advice, name, entry.number, leaf, is_note)

    async def _by_place(self) -> AsyncIterator[tuple[str, _Value, list[Leaf]]]:
        """Yield the key of each entry that is there or has leaves, in order, with its value, if any, and its leaves."""
        values, groups = _values(self._store), _groups(self._store)
        value, group = await anext(values, None), await anext(groups, None)
        while value or group:
            key = min(each[0] for each in (value, group) if each)
            found: _Value = None
            leaves: list[Leaf] = []
            if value and value[0] == key:
                (_, found), value = value, await anext(values, None)
            if group and group[0] == key:
                (_, leaves), group = group, await anext(groups, None)
            yield key, found, leaves


class _Problem(NamedTuple):
    kind: str
    text: str
    advice: str = BACKUP
    leaf: int | None = None
    is_note: bool = False


class _Entry:
    """An entry of a log with its leaves, oldest first. `is_there`: it has not been removed."""

    def __init__(self, key: str, value: _Value, leaves: Sequence[Leaf]) -> None:
        self.log, _, number = key.removeprefix(keys.LOGS).partition("/")
        self.number = int(number)
        self.is_there = value is not None
        self._value = value
        self._leaves = leaves

    @property
    def leaf(self) -> int | None:
        """The number of the leaf by which it was added last."""
        return next((leaf.number for leaf in reversed(self._leaves) if not leaf.is_removal), None)

    @property
    def problem(self) -> _Problem | None:
        """What is wrong with it, if anything is."""
        leaves, value = self._leaves, self._value
        last = leaves[-1] if leaves else None
        if any(leaf.is_removal != bool(turn % 2) for turn, leaf in enumerate(leaves)):
            return _Problem("rewritten", "it has more leaves than changes", leaf=leaves[-1].number)
        if value is None:
            is_gone = last is not None and not last.is_removal
            return _Problem("removed", "it is gone, and its leaf is there", leaf=self.leaf) if is_gone else None
        if last is None or last.is_removal:
            return _Problem("added", "it has no leaf: it was not written by this program")
        if isinstance(value, Damaged):
            advice = "restore the store from a backup; `httpcache verify` says more"
            return _Problem("damaged", "its bytes are damaged", advice, last.number)
        if not last.is_about(value):
            return _Problem("changed", "its bytes are not those that were added", leaf=last.number)
        return None

    def removals(self, since: Checkpoint | None) -> list[_Problem]:
        """Return what there is to say of removals, which have leaves of their own: those after a checkpoint count."""
        text, advice = "it was removed by this program", "that is what `httpcache undo-future` does"
        return [
            _Problem("removal", text, advice, leaf.number, is_note=since is None)
            for leaf in self._leaves
            if leaf.is_removal and (since is None or leaf.number >= since.size)
        ]


class _Kept:
    """The hashes of the tree that the store has kept, compared with what is computed of its leaves."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows: list[list[bytes]] = []
        self._counts: list[int] = []

    async def differs(self, leaf: bytes) -> int | None:
        """Take in the hash of the next leaf. Return from which leaf on a kept hash over it is another one, or None."""
        found, level = leaf, 0
        while True:
            if level == len(self._rows):
                self._rows.append([])
                self._counts.append(0)
            self._rows[level].append(found)
            if len(self._rows[level]) < WIDTH:
                return None
            found = fold(self._rows[level])
            self._rows[level] = []
            number, level = self._counts[level], level + 1
            self._counts[level - 1] += 1
            kept = await self._store.get(keys.numbered(keys.tree_level(level), number))
            if kept is not None and kept != found:
                return int(number * WIDTH**level)


def when(checkpoint: Checkpoint) -> str:
    """Return when a checkpoint was signed, in UTC."""
    return datetime.fromtimestamp(checkpoint.time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _differs(one: Checkpoint) -> Finding:
    text = f"the first {one.size} leaves are not those of the checkpoint of {when(one)}"
    return Finding("rewritten", text, f"something before leaf {one.size} was changed, removed or moved; {BACKUP}")


async def _leaves(store: Store) -> AsyncIterator[Leaf]:
    """Yield all leaves in their order."""
    start = 0
    while page := await store.index.leaves(start):
        for leaf in page:
            yield leaf
        start = page[-1].number + 1


async def _groups(store: Store) -> AsyncIterator[tuple[str, list[Leaf]]]:
    """Yield all leaves of one entry after those of the other, with the key of the entry, in the order of the keys."""
    last: Leaf | None = None
    group: list[Leaf] = []
    while page := await store.index.leaves_by_place(b"", last):
        for leaf in page:
            if group and group[0].place != leaf.place:
                yield group[0].key, group
                group = []
            group.append(leaf)
        last = page[-1]
    if group:
        yield group[0].key, group


async def _values(store: Store) -> AsyncIterator[tuple[str, _Value]]:
    """Yield all entries of logs by their keys, in order."""
    after = keys.LOGS
    while page := await store.index.keys(keys.LOGS, after):
        try:
            values: Sequence[_Value] = await store.get_many(page)
        except Damaged:
            values = [await _value(store, key) for key in page]
        for key, value in zip(page, values, strict=True):
            if value is not None:  # it was removed meanwhile
                yield key, value
        after = page[-1]


async def _value(store: Store, key: str) -> _Value:
    try:
        return await store.get(key)
    except Damaged as error:
        return error
