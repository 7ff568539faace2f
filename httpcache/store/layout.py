"""The data folder: its format, and how its index is opened.

DIR/
  VERSION          the format of the folder, "3"; written last, so a folder that has it is complete
  index/index.db   the SQLite database of the index
  index/changes    a count of its changes, see `generation`
  index/usage.db   the usage journal, see `sqlite_usage`; may be deleted at any time
  index/builds.db  the builds, see `sqlite_builds`; may be deleted at any time
  blobs/, lock     see `file_blobs`
  spool/           unfinished downloads, see `freezing.spool`
  cache/           data that adapters derive from entries; may be deleted at any time
  reserve          disk space that is given up when the disk is full
  verify.state     how far `httpcache verify` had come when it was interrupted
  users.lock       locked by servers and captures, so that repairs run only without them (command/users.py)
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from httpcache.errors import Damaged, StoreError, StoreFull

from .errors import RESTORE, mapped
from .fsync import sync_file, sync_folder
from .locks import PATIENCE, locked
from .sqlite_schema import begin_leaves, connect, create, index_sizes

log = logging.getLogger("httpcache")

VERSION = "3"
EARLIER = "2"
DATABASE = "index/index.db"
EARLIER_DATABASE = "index/cache.db"
CHANGES = "index/changes"
RESERVE = 1024 * 1024  # bytes to give up when the disk is full
_OURS = re.compile(r"VERSION\.new\d*|blobs|spool|index|lock")  # what an interrupted first start leaves behind


def is_read_only(folder: Path) -> bool:
    """Return whether this is a data folder that cannot be written: mounted read-only, or without permission."""
    return (folder / "VERSION").exists() and not os.access(folder, os.W_OK)


def prepare(folder: Path) -> None:
    """Make a data folder ready to be opened, creating it if it is missing; on a full disk, use up the reserve.

    Nothing is changed in a folder that is read-only. Raises StoreError with a text that says what to do if the folder
    is not writable, is not a data folder of this program, has another format, or is damaged.
    """
    if is_read_only(folder):
        with _named(folder):
            check_format(folder)
        return
    try:
        _prepare(folder)
    except StoreFull:
        if not use_reserve(folder):
            raise
        _prepare(folder)
    _keep_reserve(folder)


def _prepare(folder: Path) -> None:
    with mapped(), _named(folder):
        if _make_folders(folder):
            with preparing(folder):
                create(folder / DATABASE)
                write_version(folder)
        remove_earlier(folder)
        index_sizes(folder / DATABASE)
        begun = begin_leaves(folder / DATABASE)
        if begun:
            log.warning("%s entries of logs of an earlier version are now in the log that can be audited", f"{begun:,}")
        probe = connect(folder / DATABASE)
        try:
            probe.execute("SELECT count(*) FROM pins")
        finally:
            probe.close()


@contextmanager
def preparing(folder: Path) -> Iterator[None]:
    """Hold a lock inside the block that only one process has: for creating a folder. Raises OSError, StoreError."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with locked(fd, fcntl.LOCK_EX, time.monotonic() + PATIENCE):
            yield
    finally:
        os.close(fd)


def use_reserve(folder: Path) -> bool:
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


def _make_folders(folder: Path) -> bool:
    """Create the folders that are missing. Returns whether the data folder is new."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    is_new = not (folder / "VERSION").exists()
    if is_new and any(not _OURS.fullmatch(path.name) for path in folder.iterdir()):
        raise StoreError(f"{folder} is not empty and not a data folder of httpcache: name another with --data")
    if not is_new:
        check_format(folder)
    for name in ("index", "blobs", "spool"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))
    return is_new


def check_format(folder: Path) -> None:
    """Raise StoreError if a data folder has a format that this version does not read, or has lost its index."""
    found = version(folder)
    if found == EARLIER:
        raise StoreError(
            f"{folder} has the format of an earlier version of httpcache: start `httpcache serve` on it once, which "
            "takes it over"
        )
    if found != VERSION:
        raise StoreError(
            f"{folder} has format {found[:20]!r}, and this version of httpcache reads {VERSION!r}: "
            "use the version that wrote it, or another --data folder"
        )
    _check_index(folder, DATABASE)


def check_earlier(folder: Path) -> None:
    """Raise StoreError if a folder of the earlier format has lost its index, or cannot be written."""
    if is_read_only(folder):
        raise StoreError(f"{folder} has the format of an earlier version, and is read-only: make it writable")
    _check_index(folder, EARLIER_DATABASE)


def _check_index(folder: Path, name: str) -> None:
    database = folder / name
    if not database.exists() or not database.stat().st_size:  # an empty one would be created, and all pins be lost
        raise Damaged(f"the index of {folder} is missing or empty: {RESTORE}")


def remove_earlier(folder: Path) -> None:
    """Remove the index of the earlier format. Raises OSError."""
    for path in (folder / "index").glob(f"{Path(EARLIER_DATABASE).name}*"):
        path.unlink(missing_ok=True)


def version(folder: Path) -> str:
    """Return the format of a data folder, "" if it has none. Raises OSError."""
    try:
        return (folder / "VERSION").read_text().strip()
    except FileNotFoundError:
        return ""


def write_version(folder: Path, text: str = VERSION) -> None:
    """Declare a folder complete, in the format of this version. Durable on return. Raises OSError."""
    new = folder / f"VERSION.new{os.getpid()}"
    new.write_text(text + "\n")
    sync_file(new)
    os.replace(new, folder / "VERSION")
    sync_folder(folder)


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Name the path in OS errors, for the operator at startup; clients never see these errors."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{error.filename or folder}: {error.strerror}; name another folder with --data") from error
