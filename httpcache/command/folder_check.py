"""The doctor's look at a data folder, which may be broken: rights, format, disk, locks, spool. It changes nothing."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from httpcache.errors import StoreError
from httpcache.store.file_blobs import FileBlobs
from httpcache.store.layout import check_format, is_read_only
from httpcache.store.sqlite_index import SqliteIndex
from httpcache.store.store import Store
from httpcache.units import short_size

from .health import OK, PROBLEM, WARNING, Finding

NETWORK = (
    "9p",
    "afs",
    "ceph",
    "cifs",
    "fuse.glusterfs",
    "fuse.sshfs",
    "gfs2",
    "lustre",
    "nfs",
    "nfs4",
    "smb3",
)
"""Types of filesystems of several machines, whose locks and flushes are not those of a local disk (mount(8))."""
LITTLE, FEW = 0.05, 0.02  # parts of the disk's space and inodes
LEAST = 64 << 20  # bytes
FLUSH = 0.25  # seconds
LEFT = 3600.0  # seconds without a change, after which a download is not under way


def check_folder(folder: Path, *, offline: bool) -> Iterator[Finding]:
    """Yield what is found; a PROBLEM says that the store cannot be opened, or should not."""
    try:
        if not folder.is_dir() or not (folder / "VERSION").exists():
            level = PROBLEM if folder.exists() else WARNING
            advice = "name it with --data, or start `httpcache serve`, which makes it"
            yield Finding("data folder", level, f"{folder} is not the data folder of a mirror", advice)
            return
        check_format(folder)
        yield from _rights(folder, offline=offline)
        yield from _disk(folder)
        yield from _locks(folder)
        yield from _spool(folder)
    except StoreError as error:
        yield Finding("data folder", PROBLEM, error.text, "do what the text says; `httpcache verify` tells the rest")
    except OSError as error:
        text = f"{error.filename or folder}: {error.strerror}"
        yield Finding("data folder", PROBLEM, text, "run this as the user that runs the server, or mend the disk")


@asynccontextmanager
async def reading(folder: Path) -> AsyncIterator[Store]:
    """Open a store without changing anything, not even what a first start makes. Raises StoreError."""
    index = SqliteIndex(folder, read_only=True)
    blobs = FileBlobs(folder)
    try:
        yield Store(index, blobs, folder / "spool", read_only=True)
    finally:
        blobs.close()
        index.close()


def _rights(folder: Path, *, offline: bool) -> Iterator[Finding]:
    status = folder.stat()
    if status.st_mode & 0o077:
        text = f"{folder} can be read by other users of this machine (mode {status.st_mode & 0o777:o})"
        yield Finding("data folder", WARNING, text, f"chmod 700 {folder}: frozen private copies are in it in clear")
    if status.st_uid != os.geteuid():
        text = f"{folder} belongs to user {status.st_uid}, and this command runs as user {os.geteuid()}"
        yield Finding("data folder", WARNING, text, "run commands as the user that runs the server")
    if is_read_only(folder):
        advice = "serve it with --offline, or make it writable"
        yield Finding("data folder", OK if offline else PROBLEM, f"{folder} is read-only", None if offline else advice)
    yield Finding("data folder", OK, f"{folder} has the format of this version")


def _disk(folder: Path) -> Iterator[Finding]:
    disk, system = shutil.disk_usage(folder), os.statvfs(folder)
    text = f"{short_size(disk.free)} of {short_size(disk.total)} are free"
    advice = "make room: `httpcache stats` shows what uses it, `httpcache gc` and `httpcache forget` free it"
    if disk.free < LEAST:
        yield Finding("disk", PROBLEM, text, advice)
    elif disk.free < LITTLE * disk.total:
        yield Finding("disk", WARNING, text, advice)
    else:
        yield Finding("disk", OK, text)
    if system.f_files and system.f_favail < FEW * system.f_files:
        text = f"{system.f_favail} of {system.f_files} inodes are free: each frozen file needs one"
        yield Finding("disk", WARNING, text, "move the data folder to a filesystem with more, with `httpcache copy`")


def _locks(folder: Path) -> Iterator[Finding]:
    """Try what the store relies on, with a file that has no name."""
    kind = _filesystem(folder)
    if kind in NETWORK:
        text = f"{folder} is on {kind}, a filesystem of several machines"
        yield Finding("filesystem", PROBLEM, text, "move it to a local disk, or share a store in PostgreSQL")
        return
    if is_read_only(folder):
        return
    try:
        file = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError:  # some filesystems have no such files
        yield Finding("filesystem", OK, f"{kind}; locks and flushes were not tried")
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(file, bytes(4096))
        began = time.monotonic()
        os.fsync(file)
        took = time.monotonic() - began
    finally:
        os.close(file)
    text = f"{kind}; locks work, and a flush took {1000 * took:.0f} ms"
    slow = "each frozen file waits for that: use a faster disk" if took > FLUSH else None
    yield Finding("filesystem", WARNING if slow else OK, text, slow)


def _filesystem(folder: Path) -> str:
    """Return the type of the filesystem of a folder (proc_pid_mountinfo(5)), "" if it is not known."""
    place, best = folder.resolve(), (0, "")
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, behind = line.partition(" - ")
        mounted = Path(before.split()[4].replace("\\040", " "))
        if place.is_relative_to(mounted):
            best = max(best, (len(mounted.parts), behind.split()[0]))
    return best[1]


def _spool(folder: Path) -> Iterator[Finding]:
    left = [path.stat() for path in (folder / "spool").glob("*") if path.is_file()]
    old = [status.st_size for status in left if status.st_mtime < time.time() - LEFT]
    if old:
        text = f"{len(old)} files of downloads that were broken off are left, {short_size(sum(old))}"
        yield Finding("spool", WARNING, text, "the next start of the server removes what no download uses")
