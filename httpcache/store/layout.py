"""The data folder: its format, and its index opened.

DIR/
  VERSION          the format of the folder, "2"; written last, so that what has one is complete
  index/           diskcache's SQLite database: the entries, each with a checksum
  blobs/           see `blobs`
  spool/           downloads on their way, see `freezing.spool`
  cache/           what an adapter derives from entries; may be deleted at any time
  reserve          room that is given up when the disk is full
  lock             held shared while a blob and its record are written, exclusively while blobs are removed
  users.lock       held by servers and captures, so that a repair is made while there are none (command/users.py)
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import diskcache

from httpcache.errors import Damaged, StoreError, StoreFull

from .errors import RESTORE, mapped
from .fsync import sync_file, sync_folder
from .locks import PATIENCE

VERSION = "2"
RESERVE = 1024 * 1024  # bytes that are kept back for a full disk
_NEVER = 2**62
_OURS = re.compile(r"VERSION\.new\d*|blobs|spool|index")  # what a start that was cut short leaves


class ReadOnly:
    """Stands in for the index of a folder that cannot be written; entries are read without it (`index`)."""

    def _refuse(self, *_: object) -> NoReturn:
        raise StoreError("the mirror's data folder is read-only: what it holds can be had, and nothing can be changed")

    add = delete = get = __contains__ = _refuse

    def close(self) -> None:
        """Close nothing."""


def is_read_only(folder: Path) -> bool:
    """Whether this is a data folder that cannot be written: mounted so, or without the permission."""
    return (folder / "VERSION").exists() and not os.access(folder, os.W_OK)


def open_index(folder: Path) -> diskcache.Cache:
    """Open the index of a data folder, making the folder where it is missing; on a full disk, in the reserve.

    Of a folder that cannot be written it is a ReadOnly. Raises StoreError with a text that says what to do: not
    writable, not a folder of this program, or of another version of it, or damaged.
    """
    if is_read_only(folder):
        with _named(folder):
            _check_old(folder, (folder / "VERSION").read_text().strip())
        return ReadOnly()
    try:
        index = _open(folder)
    except StoreFull:
        if not _use_reserve(folder):
            raise
        index = _open(folder)
    _keep_reserve(folder)
    return index


def _open(folder: Path) -> diskcache.Cache:
    with mapped(), _named(folder):
        is_new = _prepare(folder)
        # diskcache's defaults evict at 1 GiB and unpickle what they read: for a mirror both are fatal. Its `retry` goes
        # on for ever, whatever has failed; SQLite itself waits `timeout` seconds for its lock.
        index = diskcache.Cache(
            str(folder / "index"),
            timeout=PATIENCE,
            disk=_BytesDisk,
            eviction_policy="none",
            cull_limit=0,
            size_limit=_NEVER,
            sqlite_synchronous=2,
            sqlite_cache_size=2048,  # pages of 4 KiB, for each thread
            sqlite_mmap_size=0,  # the system can take it back, but it counts as ours until then
        )
        if is_new:
            _finish(folder)
        return index


def _use_reserve(folder: Path) -> bool:
    """Make a little room on a full disk: enough to open the index, and for `forget` to begin."""
    try:
        (folder / "reserve").unlink()
    except OSError:
        return False
    return True


def _keep_reserve(folder: Path) -> None:
    """Have a file to give up when the disk is full; without one a full disk could not even be tidied."""
    path = folder / "reserve"
    if path.exists() or shutil.disk_usage(folder).free < 4 * RESERVE:
        return
    with suppress(OSError), path.open("xb") as file:
        os.posix_fallocate(file.fileno(), 0, RESERVE)


def _prepare(folder: Path) -> bool:
    """Make the folder ready for the index to be opened; return whether it is new."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    version = folder / "VERSION"
    is_new = not version.exists()
    if is_new and any(not _OURS.fullmatch(path.name) for path in folder.iterdir()):
        raise StoreError(f"{folder} is not empty and not a data folder of this program: name another with --data")
    if not is_new:
        _check_old(folder, version.read_text().strip())
    for name in ("index", "blobs", "spool"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))
    return is_new


def _check_old(folder: Path, version: str) -> None:
    if version != VERSION:
        raise StoreError(
            f"{folder} has format {version[:20]!r}, this program writes {VERSION!r}: "
            "use the program that made it, or another --data folder"
        )
    index = folder / "index" / "cache.db"
    if not index.exists() or not index.stat().st_size:  # SQLite would begin an empty one, and all pins anew
        raise Damaged(f"the index of {folder} is missing or empty: {RESTORE}")


def _finish(folder: Path) -> None:
    new = folder / f"VERSION.new{os.getpid()}"
    new.write_text(VERSION + "\n")
    sync_file(new)
    os.replace(new, folder / "VERSION")
    sync_folder(folder)


class _BytesDisk(diskcache.Disk):  # type: ignore[misc]
    """Keys are text and values are bytes, inside SQLite; whatever else a database holds is refused, never unpickled."""

    def put(self, key: object) -> tuple[str, bool]:
        if not isinstance(key, str):
            raise TypeError("a key is text")
        return key, True

    def get(self, key: object, raw: bool) -> str:
        if not (isinstance(key, str) and raw):
            raise StoreError("the index holds a key that this program did not write")
        return key

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, None, bytes]:
        if read or not isinstance(value, bytes):
            raise TypeError("a value is bytes")
        return 0, diskcache.core.MODE_RAW, None, value

    def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> bytes:
        if mode != diskcache.core.MODE_RAW or not isinstance(value, bytes):
            raise StoreError("the index holds a value that this program did not write")
        return value


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Name the folder in errors of the system: for the operator, at start. Clients are not told of paths."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{error.filename or folder}: {error.strerror}; name another folder with --data") from error
