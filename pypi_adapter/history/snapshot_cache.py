"""Snapshots of histories as files in a folder. They are derived from the logs and can be deleted at any time.

A snapshot names its log, the number of entries that it includes, and the sha256 of the last of them. It is used only if
the log has that entry. One that is damaged, or has another format or address, is ignored.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import anyio.to_thread
import msgspec

from pypi_adapter.offload import in_parser_thread

from .snapshot import Snapshot

FORMAT = 4
"""Raise it with every change to what a snapshot contains: its fields, the rules of histories, links, rendering."""
LIMIT = 1024**3  # bytes on disk of all snapshots, which may be exceeded a little
ROOM = 256 * 1024**2  # bytes that stay free on the disk: with less, no snapshot is written
CHECK_BYTES = LIMIT // 16  # bytes that a process writes before it checks LIMIT

_QUICK = 16  # reading a snapshot is so many times as fast as parsing a page of its size

log = logging.getLogger("httpcache")


class StoredSnapshot(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot of `length` entries of a log, the last of which has the sha256 `last`.

    `base` is the prefix of the addresses of its files.
    """

    log: str
    base: str
    length: int
    last: bytes
    snapshot: Snapshot
    format: int = FORMAT


_DECODER = msgspec.msgpack.Decoder(StoredSnapshot)


class SnapshotCache:
    """The folder. `start` runs writes in the background; if one fails, only that snapshot is missing."""

    def __init__(self, folder: Path, start: Callable[[Callable[[], Awaitable[object]]], None]) -> None:
        self._folder = folder
        self._start = start
        self._written = CHECK_BYTES
        self._warned = False

    async def get(self, name: str, base: str) -> StoredSnapshot | None:
        """Return the snapshot of a log for a base, None if there is none that can be used."""
        path = self._path(name)
        try:
            size = path.stat().st_size
        except OSError:
            return None
        stored = await in_parser_thread(lambda: _read(path), size // _QUICK)
        return stored if stored and (stored.log, stored.base, stored.format) == (name, base, FORMAT) else None

    def put(self, stored: StoredSnapshot) -> None:
        """Write a snapshot in the background; errors are ignored."""
        self._start(lambda: anyio.to_thread.run_sync(self.write, stored))

    def write(self, stored: StoredSnapshot) -> None:
        """Write a snapshot now."""
        path = self._path(stored.log)
        new = path.with_suffix(f".new{os.getpid()}-{threading.get_ident()}")
        body = msgspec.msgpack.encode(stored)
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if shutil.disk_usage(self._folder).free < ROOM:
                return
            try:
                with new.open("wb") as file:
                    file.write(sha256(body).digest())
                    file.write(body)
                os.replace(new, path)
            except OSError:
                new.unlink(missing_ok=True)
                raise
            self._written += len(body)
            if self._written > CHECK_BYTES:
                self._written = 0
                self._tidy()
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning("the folder cache/ cannot be written, so first requests take longer: %s", error.strerror)

    def _tidy(self) -> None:
        """Remove the oldest files while they exceed LIMIT. Another process may do the same, or delete all of them."""
        files = []
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):
                if entry.is_file():  # a folder is somebody else's
                    files.append((entry.stat(), entry.path))
        taken = sum(stat.st_blocks * 512 for stat, _ in files)
        for stat, path in sorted(files, key=lambda file: file[0].st_mtime):
            if taken <= LIMIT:
                return
            Path(path).unlink(missing_ok=True)
            taken -= stat.st_blocks * 512

    def _path(self, name: str) -> Path:
        return self._folder / sha256(name.encode()).hexdigest()


def _read(path: Path) -> StoredSnapshot | None:
    try:
        data = memoryview(path.read_bytes())
        if sha256(data[32:]).digest() != data[:32]:
            return None
        return _DECODER.decode(data[32:])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
