"""`httpcache verify`: reads every entry and every byte, and with `--repair` fetches again what is damaged.

How far it has come is noted in the data folder, so that `--resume` goes on after an interruption.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from httpcache.adapter import Progress
from httpcache.errors import Damaged
from httpcache.store import keys
from httpcache.store.record import Entry, Record, decode
from httpcache.store.store import Store
from httpcache.units import short_size

from .rows import Rows

STATE = "verify.state"
"""The file of the data folder that says how far an interrupted run has come."""
EVERY = 1.0  # seconds between two notes of that

Repair = Callable[[Record], Awaitable[str]]
"""Mends the body of a record; returns "" if that worked, else why it did not."""


class Done(msgspec.Struct):
    """How far a run has come: the last key that was read, and what was found up to it."""

    after: str = ""
    entries: int = 0
    files: int = 0
    bytes: int = 0
    damaged: int = 0
    repaired: int = 0


async def verify(
    store: Store,
    *,
    rows: Rows,
    progress: Progress,
    state: Path | None = None,
    resume: bool = False,
    repair: Repair | None = None,
) -> int:
    """Print a row for each thing that is damaged. Returns 1 if anything is and was not repaired, else 0.

    `state` is the file for `resume`, None if there is none.
    """
    done = _read(state) if resume else Done()
    problems = await store.problems()
    for line in problems:
        rows.add(line, problem=line, address=None, sha256=None, repaired=False)
    total = sum(pin.entries for pin in await store.index.pins())
    seen: set[str] = set()
    noted = time.monotonic()
    try:
        with progress.over("verified entries", max(total - done.entries, 1)) as advance:
            async for key, entry in _entries(store, done.after):
                if isinstance(entry, Record) and entry.digest not in seen:
                    seen.add(entry.digest)
                    await _check(store, entry, done, rows, repair)
                done.after, done.entries = key, done.entries + 1
                if time.monotonic() > noted + EVERY:
                    _write(state, done)
                    noted = time.monotonic()
                advance()
    except BaseException:
        _write(state, done)
        raise
    _forget(state)
    return _told(done, len(problems), rows)


def _told(done: Done, problems: int, rows: Rows) -> int:
    left = problems + done.damaged - done.repaired
    mended = f", {done.repaired} repaired" if done.repaired else ""
    damaged = f"{problems + done.damaged} damaged{mended}" if problems + done.damaged else "nothing is damaged"
    values = {name: getattr(done, name) for name in ("entries", "files", "bytes", "repaired")}
    rows.total(
        f"read {done.entries} frozen entries and {done.files} files ({short_size(done.bytes)}): {damaged}",
        values | {"damaged": problems + done.damaged},
    )
    return 1 if left else 0


async def _check(store: Store, record: Record, done: Done, rows: Rows, repair: Repair | None) -> None:
    done.files, done.bytes = done.files + 1, done.bytes + record.size
    if await store.check(record.digest, record.size):
        return
    done.damaged += 1
    why = (
        "restore the data folder from a backup, or request the address: it is fetched again if the upstream still has "
        "the same bytes"
    )
    if repair:
        why = await repair(record)
        done.repaired += not why
    address = f"/{record.pin}/{record.url}"
    text = f"{address}: its bytes, {record.digest}, are damaged or missing: {why or 'repaired'}"
    rows.add(
        text, problem="damaged or missing", address=address, sha256=record.digest, repaired=bool(repair and not why)
    )


async def _entries(store: Store, after: str) -> AsyncIterator[tuple[str, Entry]]:
    """Yield those records behind a key that can be read; those that cannot are among the problems of the index."""
    while page := await store.index.keys(keys.RECORDS, after):
        for key in page:
            with suppress(Damaged):
                value = await store.get(key)
                if value is not None:
                    yield key, decode(value)
        after = page[-1]


def _read(state: Path | None) -> Done:
    """Return how far the last run has come: nowhere if it was not interrupted."""
    try:
        return msgspec.json.decode(state.read_bytes(), type=Done) if state else Done()
    except (OSError, msgspec.MsgspecError):
        return Done()


def _write(state: Path | None, done: Done) -> None:
    if state:
        with suppress(OSError):  # of a folder that is read-only
            state.write_bytes(msgspec.json.encode(done))


def _forget(state: Path | None) -> None:
    if state:
        with suppress(OSError):  # a store that may only be read has none
            state.unlink(missing_ok=True)
