"""Holds access keys to their rates, over all processes of a server: they share a file of numbers, in memory.

For each key it has the time until which its requests are paid for, the "theoretical arrival time" of the generic cell
rate algorithm: each request moves it by the time that one takes at the rate, and one that would move it further ahead
than the whole period has to wait. So a key that was idle for a period can use all requests of it at once.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from pathlib import Path
from typing import Final

from .key_log import Rate

SLOTS: Final = 4096
"""Keys that are counted apart; among more, some share their rate."""
_TIME = struct.Struct("d")
SIZE: Final = SLOTS * _TIME.size


class Rates:
    """The times of all keys. Without a folder, of this process alone; else of all whose folder it is."""

    def __init__(self, folder: Path | None) -> None:
        self._fd = -1
        if folder is not None:
            self._fd = os.open(folder / "rates", os.O_RDWR | os.O_CREAT, 0o600)
            os.ftruncate(self._fd, SIZE)
        self._times = mmap.mmap(self._fd, SIZE)

    def close(self) -> None:
        """Close the file."""
        self._times.close()
        if self._fd >= 0:
            os.close(self._fd)

    def wait(self, number: int, rate: Rate) -> float:
        """Count a request with the key with this number; return the seconds that it has to wait, 0 if it may be sent.

        One that has to wait is not counted.
        """
        place, step, now = number % SLOTS * _TIME.size, rate.seconds / rate.requests, time.monotonic()
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_EX)  # held for a few microseconds
        try:
            paid: float = _TIME.unpack_from(self._times, place)[0]
            ahead = max(paid - now, 0.0) + step - rate.seconds
            if ahead <= 0:
                _TIME.pack_into(self._times, place, max(paid, now) + step)
        finally:
            if self._fd >= 0:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        return max(ahead, 0.0)
