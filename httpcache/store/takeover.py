"""Takes over a data folder of format 2, whose index was diskcache's: copies its entries into a new index, in place.

It can be interrupted at any time: the old index is not changed, the folder stays one of format 2 until all entries are
copied, and the next start goes on where this one stopped. Blobs stay where they are.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from httpcache.errors import Damaged, StoreError, StoreFull
from httpcache.units import short_size

from . import keys
from .base import PAGE
from .errors import RESTORE, mapped
from .layout import (
    DATABASE,
    EARLIER,
    EARLIER_DATABASE,
    check_earlier,
    preparing,
    remove_earlier,
    version,
    write_version,
)
from .record import columns, decode
from .seal import sealed, unsealed
from .sqlite_reader import uri
from .sqlite_schema import connect, create, transaction

EVERY = 5.0  # seconds between two lines about progress
_RAW = 1  # diskcache's mode of a value that is bytes, and not a pickle or a file
_PAGE = "SELECT key, raw, mode, value FROM Cache WHERE key > ? AND raw = 1 ORDER BY key LIMIT ?"


def is_due(folder: Path) -> bool:
    """Return whether a folder is one of format 2."""
    try:
        return version(folder) == EARLIER
    except OSError:  # whoever opens it will say what is wrong with it
        return False


def take_over(folder: Path, say: Callable[[str], None]) -> None:
    """Copy the entries of a folder of format 2 into a new index, and make it one of this version's format.

    `say` is called with lines of text about what is done. Nobody else may use the folder meanwhile. Raises StoreError.
    """
    with mapped():
        check_earlier(folder)
        with preparing(folder):
            _copy(folder, say)
            write_version(folder)
            remove_earlier(folder)
    say("the data folder has been taken over")


def _copy(folder: Path, say: Callable[[str], None]) -> None:
    _check_room(folder)
    create(folder / DATABASE)
    with (
        closing(sqlite3.connect(uri(folder / EARLIER_DATABASE), uri=True)) as old,
        closing(connect(folder / DATABASE)) as new,
    ):
        new.execute("CREATE TABLE IF NOT EXISTS takeover (after TEXT NOT NULL)")
        count, told = _count(old, "Cache"), time.monotonic()
        say(
            f"taking over {folder} from an earlier version: {count} entries are copied into a new index, in place; "
            "frozen files are not touched. This can be interrupted, and goes on at the next start"
        )
        [after] = new.execute("SELECT max(after) FROM takeover").fetchone()
        while rows := old.execute(_PAGE, (after or "", PAGE)).fetchall():
            after = rows[-1][0]
            with transaction(new):
                _add(new, rows)
                new.execute("DELETE FROM takeover")
                new.execute("INSERT INTO takeover VALUES (?)", (after,))
            if time.monotonic() > told + EVERY:
                say(f"{_count(new, 'entries')} of {count} entries have been copied")
                told = time.monotonic()
        if _count(new, "entries") != count:
            raise _foreign()
        new.execute("DROP TABLE takeover")
        new.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _count(database: sqlite3.Connection, table: str) -> int:
    [count] = database.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
    return int(count)


def _foreign() -> StoreError:
    return StoreError(f"{EARLIER_DATABASE} contains an entry that this program did not write: {RESTORE}")


def _check_room(folder: Path) -> None:
    """Raise StoreFull if the disk has no room for a second index."""
    needed = int(1.5 * (folder / EARLIER_DATABASE).stat().st_size)
    free = shutil.disk_usage(folder).free
    there = os.stat(folder / DATABASE).st_size if (folder / DATABASE).exists() else 0
    if free < needed - there:
        raise StoreFull(
            f"taking over {folder} from an earlier version needs {short_size(needed)} of free disk space for a new "
            f"index, and there are {short_size(free)}: make room on its disk"
        )


def _add(new: sqlite3.Connection, rows: Sequence[tuple[Any, int, int, Any]]) -> None:
    for key, _, mode, value in rows:
        if not isinstance(key, str) or mode != _RAW or not isinstance(value, bytes):
            raise _foreign()
        name = _new_key(key)
        new.execute("INSERT OR IGNORE INTO entries (key, value) VALUES (?, ?)", (name, _resealed(key, name, value)))
        if key.startswith(keys.RECORDS):
            _add_columns(new, key, value)


def _new_key(key: str) -> str:
    """Return the key of an entry in the new index: the numbers of logs have ten digits there."""
    prefix, _, number = key.rpartition("/")
    return keys.numbered(f"{prefix}/", int(number)) if key.startswith(keys.LOGS) and number.isdecimal() else key


def _resealed(key: str, name: str, value: bytes) -> bytes:
    """Return a value with the checksum for its new key. A damaged one stays damaged."""
    try:
        return value if name == key else sealed(name, unsealed(key, value))
    except Damaged:
        return value


def _add_columns(new: sqlite3.Connection, key: str, value: bytes) -> None:
    try:
        entry = decode(unsealed(key, value))
    except StoreError:  # it is damaged, and stays so: `verify` names it
        return
    new.execute("INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?)", (key, *columns(entry)))
