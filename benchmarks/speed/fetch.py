"""Downloads that nobody has asked for before: the first fetch of a large file, and many clients at once.

`curl` measures the first fetch, to /dev/null: MB a second over the whole time, and the seconds to the first byte. Each
round asks for an address that is new to the mirrors (a query behind the same file). The upstream's own figures beside
them are those of nginx, from its page cache, as all disks' files are here once they were written.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .process import Unavailable, clean_environment


@dataclass(frozen=True)
class Fetched:
    """One download by curl: MB a second, and seconds to the first byte."""

    rate: float
    first_byte: float


@dataclass(frozen=True)
class Crowd:
    """Many clients for one file: how many had all bytes right, and the seconds until the last had ended."""

    clients: int
    right: int
    seconds: float


def fetch(url: str, size: int) -> Fetched:
    """Download a file of that size. Raises Unavailable where it is not all of it."""
    curl = shutil.which("curl")
    if not curl:
        raise Unavailable("curl is not installed: apt-get install curl")
    said = "%{http_code} %{size_download} %{time_starttransfer} %{time_total}"
    command = [curl, "-q", "-sS", "--noproxy", "*", "-o", "/dev/null", "-w", said, url]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"curl failed: {done.stderr.strip()}")
    status, received, first_byte, seconds = done.stdout.split()
    if (status, received) != ("200", f"{size}"):
        raise Unavailable(f"curl got {received} of {size} bytes with status {status}")
    return Fetched(size / 1e6 / float(seconds), float(first_byte))


def crowd(url: str, file: Path, clients: int) -> Crowd:
    """Ask for a file with many clients at once, from a process of their own that compares every byte with the file."""
    command = [sys.executable, str(Path(__file__).with_name("crowd.py")), url, str(file), str(clients)]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"the clients failed: {' '.join(done.stderr.split())[-300:]}")
    return Crowd(**json.loads(done.stdout))
