"""Lets the operations on files of a mirror fail one by one: full disks, dying disks, and SIGKILL at any of them."""

from __future__ import annotations

import ctypes
import errno
import mmap
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("faults.c")
KILL: Final = -1
"""In the place of an errno: SIGKILL to the process, in the middle of a write or instead of another operation."""

HANG: Final = -2
"""In the place of an errno: no fsync ends before `disarm`."""


class _Control(ctypes.Structure):
    _fields_ = (
        ("left", ctypes.c_int64),
        ("kind", ctypes.c_int32),
        ("sticky", ctypes.c_int32),
        ("seen", ctypes.c_int64),
        ("fired", ctypes.c_int64),
        ("what", ctypes.c_char * 256),
    )


@dataclass(frozen=True)
class Kind:
    """What befalls an operation; `sticky`: and every later one, until `disarm`."""

    error: int
    sticky: bool = False


KINDS: Final = {
    "an I/O error": Kind(errno.EIO),
    "a full disk once": Kind(errno.ENOSPC),
    "a full disk": Kind(errno.ENOSPC, sticky=True),
    "a dead disk": Kind(errno.EIO, sticky=True),
    "a read-only disk": Kind(errno.EROFS, sticky=True),
    "SIGKILL": Kind(KILL),
}


class Faults:
    """The switch of the faults below `folder`, for processes that are started with `environment`."""

    def __init__(self, library: Path, folder: Path, control: Path) -> None:
        """Nothing fails until `arm`."""
        control.write_bytes(bytes(ctypes.sizeof(_Control)))
        with control.open("r+b") as file:
            self._control = _Control.from_buffer(mmap.mmap(file.fileno(), 0))
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAULTS_FOLDER": str(folder),
            "FAULTS_CONTROL": str(control),
        }

    def arm(self, number: int, kind: Kind) -> None:
        """From now on the `number`-th operation fails; the first is 1."""
        self._control.kind = 0
        self._control.fired = 0
        self._control.what = b""
        self._control.left = number
        self._control.sticky = kind.sticky
        self._control.kind = kind.error

    def disarm(self) -> int:
        """Let nothing fail any more; return how many operations did."""
        self._control.kind = 0
        return self.fired

    @property
    def fired(self) -> int:
        """How many operations have failed since `arm`."""
        return int(self._control.fired)

    @property
    def seen(self) -> int:
        """All operations so far."""
        return int(self._control.seen)

    @property
    def what(self) -> str:
        """The first operation that failed since `arm`."""
        return bytes(self._control.what).decode(errors="replace")


def compiled(folder: Path) -> Path:
    """The library that is loaded into the processes of a mirror."""
    library = folder / "faults.so"
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *options, "-o", str(library), str(SOURCE)], check=True, timeout=60)
    return library
