"""The data folder: its format, and how its index is opened.

DIR/
  VERSION          the format of the folder, "2"; written last, so a folder that has it is complete
  index/           diskcache's SQLite database: the entries, each with a checksum
  blobs/           see `blobs`
  spool/           unfinished downloads, see `freezing.spool`
  cache/           data that adapters derive from entries; may be deleted at any time
  reserve          disk space that is given up when the disk is full
  lock             a shared lock while a blob and its record are written, exclusive while blobs are removed
  users.lock       locked by servers and captures, so that repairs run only without them (command/users.py)
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
RESERVE = 1024 * 1024  # bytes to give up when the disk is full
_NEVER = 2**62
_OURS = re.compile(r"VERSION\.new\d*|blobs|spool|index")  # what an interrupted first start leaves behind


class ReadOnly:
    """Replaces diskcache's index if the folder is read-only; entries are then read by `index.Reader` alone."""

    def _refuse(self, *_: object, **named: object) -> NoReturn:
        raise StoreError("the mirror's data folder is read-only: its contents can be read, but not changed")

    add = delete = get = reset = transact = _refuse

    def close(self) -> None:
        """Do nothing."""


def is_read_only(folder: Path) -> bool:
    """Return whether this is a data folder that cannot be written: mounted read-only, or without permission."""
    return (folder / "VERSION").exists() and not os.access(folder, os.W_OK)


def open_index(folder: Path) -> diskcache.Cache:
    """Open the index of a data folder, creating the folder if it is missing; on a full disk, use up the reserve.

    Returns a ReadOnly if the folder is read-only. Raises StoreError with a text that says what to do if the folder is
    not writable, is not a data folder of this program, has another format version, or is damaged.
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
        # By default diskcache evicts at 1 GiB and unpickles what it reads: fatal for a mirror. Its `retry`
        # never gives up, whatever has failed; SQLite itself waits `timeout` seconds for its lock.
        index = diskcache.Cache(
            str(folder / "index"),
            timeout=PATIENCE,
            disk=_BytesDisk,
            eviction_policy="none",
            cull_limit=0,
            size_limit=_NEVER,
            sqlite_synchronous=2,
            sqlite_cache_size=2048,  # pages of 4 KiB, per thread
            sqlite_mmap_size=0,  # the system could reclaim that memory, but it would count as ours until then
        )
        if is_new:
            _finish(folder)
        return index


def _use_reserve(folder: Path) -> bool:
    """Free some space on a full disk, enough to open the index and start `forget`. Returns whether it did."""
    try:
        (folder / "reserve").unlink()
    except OSError:
        return False
    return True


def _keep_reserve(folder: Path) -> None:
    """Create the reserve file if there is room; without one, `forget` could not even start on a full disk."""
    path = folder / "reserve"
    if path.exists() or shutil.disk_usage(folder).free < 4 * RESERVE:
        return
    with suppress(OSError), path.open("xb") as file:
        os.posix_fallocate(file.fileno(), 0, RESERVE)


def _prepare(folder: Path) -> bool:
    """Prepare the folder for opening the index. Returns whether the folder is new."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    version = folder / "VERSION"
    is_new = not version.exists()
    if is_new and any(not _OURS.fullmatch(path.name) for path in folder.iterdir()):
        raise StoreError(f"{folder} is not empty and not a data folder of httpcache: name another with --data")
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
            f"{folder} has format {version[:20]!r}, and this version of httpcache reads {VERSION!r}: "
            "use the version that wrote it, or another --data folder"
        )
    index = folder / "index" / "cache.db"
    if not index.exists() or not index.stat().st_size:  # SQLite would create an empty one, and all pins would be lost
        raise Damaged(f"the index of {folder} is missing or empty: {RESTORE}")


def _finish(folder: Path) -> None:
    new = folder / f"VERSION.new{os.getpid()}"
    new.write_text(VERSION + "\n")
    sync_file(new)
    os.replace(new, folder / "VERSION")
    sync_folder(folder)


class _BytesDisk(diskcache.Disk):  # type: ignore[misc]
    """Stores text keys and bytes values in SQLite only. Anything else in a database is rejected, never unpickled."""

    def put(self, key: object) -> tuple[str, bool]:
        if not isinstance(key, str):
            raise TypeError("a key is text")
        return key, True

    def get(self, key: object, raw: bool) -> str:
        if not (isinstance(key, str) and raw):
            raise StoreError(f"the index contains a key that this program did not write: {RESTORE}")
        return key

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, None, bytes]:
        if read or not isinstance(value, bytes):
            raise TypeError("a value is bytes")
        return 0, diskcache.core.MODE_RAW, None, value

    def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> bytes:
        if mode != diskcache.core.MODE_RAW or not isinstance(value, bytes):
            raise StoreError(f"the index contains a value that this program did not write: {RESTORE}")
        return value


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Name the path in OS errors, for the operator at startup; clients never see these errors."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{error.filename or folder}: {error.strerror}; name another folder with --data") from error
