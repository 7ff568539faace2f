"""Downloads shared by processes: which one fetches a key, and where its bytes can be read as they arrive.

spool/
  <key>.lock      held by the process that fetches the key; the kernel releases it when that process dies; its mtime
                  is the heartbeat, renewed every few seconds unless the process hangs
  <key>.head      what other processes need to follow: the head of the response, and the name of the part file
  <key>.<n>.part  the bytes so far; becomes the blob
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from httpcache.errors import StoreError

_PART = re.compile(r"[0-9a-f]+\.[0-9a-f]+\.part")


class Head(msgspec.Struct, frozen=True):
    """The head of a response that is being downloaded.

    `url` is the URL after redirects; `length` the announced number of bytes; `scope` that of the credentials it was
    fetched with, `varies` the `Accept` if the upstream varies by it, and `place` a hash of `url` with its query (see
    Record); `part` is the name of the file that the body is written to; `target` is what is downloaded, as it is shown;
    `through` are the redirects on the way to `url`, as records keep them.
    """

    status: int
    headers: dict[str, str]
    url: str
    length: int | None
    scope: str
    varies: str
    place: str
    part: str
    target: str = ""
    through: tuple[str, ...] = ()


class Seen(NamedTuple):
    """A download of any process of this machine: its head, the bytes so far, and when the head came (epoch seconds)."""

    head: Head
    size: int
    began: float


class Holder(NamedTuple):
    """A process that holds a key: the inode of its lock file, and the time of its last heartbeat (ns)."""

    inode: int
    beat: int


class Claim:
    """The exclusive right to download a key, held until `release`."""

    def __init__(self, folder: Path, key: str, fd: int) -> None:
        self._folder = folder
        self._key = key
        self._fd = fd
        self.part = folder / f"{key}.{secrets.token_hex(8)}.part"

    def beat(self) -> None:
        """Send a heartbeat: show other processes that this one does not hang."""
        with suppress(OSError):  # then it looks hung, and another process fetches the key too
            os.utime(self._fd)

    def publish(self, head: Head) -> None:
        """Let other processes read the head and follow the part file, unless one of them has taken over."""
        if not self._is_ours():
            return
        new = self._folder / f"{self._key}.head.new"
        new.write_bytes(msgspec.msgpack.encode(head))
        os.replace(new, self._folder / f"{self._key}.head")

    def release(self) -> None:
        """Remove the files of the download and let the next one begin."""
        try:
            self.part.unlink(missing_ok=True)
            for kind in ("head.new", "head", "lock") if self._is_ours() else ():
                (self._folder / f"{self._key}.{kind}").unlink(missing_ok=True)
        finally:
            os.close(self._fd)  # releases the lock even if the disk fails

    def _is_ours(self) -> bool:
        return _is_same_file(self._fd, self._folder / f"{self._key}.lock")


class Spool:
    """A folder of downloads that the processes of one machine share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def claim(self, key: str) -> Claim | None:
        """Return a claim on a key, or None if another process has it."""
        path = self._folder / f"{key}.lock"
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return None
            if _is_same_file(fd, path):
                claim = Claim(self._folder, key, fd)
                try:
                    self._remove_left(key)
                except OSError:
                    claim.release()
                    raise
                return claim
            os.close(fd)  # its last holder removed the file between our open and our lock

    def holder(self, key: str) -> Holder | None:
        """Return the process that is downloading the key, or None if there is none."""
        try:
            fd = os.open(self._folder / f"{key}.lock", os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            found = os.fstat(fd)
            return Holder(found.st_ino, found.st_mtime_ns)
        else:
            return None
        finally:
            os.close(fd)

    def take_over(self, key: str, holder: Holder) -> None:
        """Let another process download a key whose holder hangs.

        If the holder recovers, it continues, and freezes its bytes unless another process did so first.
        """
        path = self._folder / f"{key}.lock"
        with suppress(FileNotFoundError):
            if path.stat().st_ino == holder.inode:
                path.unlink()

    def follow(self, key: str) -> tuple[Head, int] | None:
        """Return the head of another process's download and a descriptor of its part file, or None while there is none.

        Raises StoreError if the head is damaged.
        """
        try:
            head = self._head(key)
            return head, os.open(self._folder / head.part, os.O_RDONLY)
        except FileNotFoundError:
            return None

    def _head(self, key: str) -> Head:
        try:
            head = msgspec.msgpack.decode((self._folder / f"{key}.head").read_bytes(), type=Head)
            if not _PART.fullmatch(head.part):
                raise ValueError(f"{head.part!r} is not the name of a part file")
        except ValueError as error:  # includes those of msgspec and UTF-8
            raise StoreError(f"a file of the spool is damaged ({error}): try again") from error
        return head

    def under_way(self) -> list[Seen]:
        """Return the downloads of all processes of this machine whose heads have arrived, the oldest first."""
        found = []
        for path in self._folder.glob("*.head"):
            key = path.name.removesuffix(".head")
            with suppress(FileNotFoundError, StoreError):  # it has ended
                if self.holder(key):
                    head = self._head(key)
                    found.append(Seen(head, (self._folder / head.part).stat().st_size, path.stat().st_mtime))
        return sorted(found, key=lambda seen: seen.began)

    def clean(self) -> None:
        """Remove what dead processes left behind."""
        for path in self._folder.iterdir():
            claim = self.claim(path.name.partition(".")[0])
            if claim is not None:
                path.unlink(missing_ok=True)
                claim.release()

    def _remove_left(self, key: str) -> None:
        """Remove what the last holder of a key left if it died; the folder may be full of other downloads' files."""
        with suppress(FileNotFoundError, StoreError):
            (self._folder / self._head(key).part).unlink(missing_ok=True)
        for kind in ("head.new", "head"):
            (self._folder / f"{key}.{kind}").unlink(missing_ok=True)


def _is_same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
