"""Looks inside a mirror: its processes and their memory, and whether every record of its data folder has its bytes."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import anyio

from httpcache.store.local import LocalStore
from httpcache.store.record import Record, decode
from tests.support.mirror import Mirror

PATIENCE: Final = 30.0
"""Seconds after which `until` gives up."""


def until(condition: Callable[[], bool], what: str) -> None:
    """Return when the condition holds: for what only /proc or a folder can tell."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        time.sleep(0.01)


def processes(server: Mirror) -> list[int]:
    """The processes of a running mirror, which leads a session of its own."""
    assert server.process is not None
    found = []
    for entry in Path("/proc").iterdir():
        try:
            stat = (entry / "stat").read_text() if entry.name.isdecimal() else ""
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = stat.rpartition(")")[2].split()
        if fields and fields[0] != "Z" and int(fields[3]) == server.process.pid:
            found.append(int(entry.name))
    return found


def memory(server: Mirror) -> int:
    """The bytes of memory of its own that a mirror uses; pages of files do not count."""
    status = "".join(Path(f"/proc/{pid}/status").read_text() for pid in processes(server))
    return 1024 * sum(int(found) for found in re.findall(r"RssAnon:\s+(\d+) kB", status))


def parts(server: Mirror, pid: int) -> Iterator[bool]:
    """The parts of downloads that a process has open; True for one that it writes."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if fd.readlink().suffix == ".part":
                flags = int(re.findall(r"flags:\s+(\d+)", Path(f"/proc/{pid}/fdinfo/{fd.name}").read_text())[0], 8)
                yield flags & os.O_ACCMODE != os.O_RDONLY
        except FileNotFoundError:
            continue  # closed since


def checked_records(data: Path) -> list[Record]:
    """Every record of a data folder, after its blob has been read and its size and sha256 compared."""

    async def read() -> list[Record]:
        store = LocalStore(data)
        try:
            found = [decode(value) async for _, value in store.entries("r/")]
        finally:
            store.close()
        return [entry for entry in found if isinstance(entry, Record)]

    records = anyio.run(read)
    for record in records:
        body = (data / "blobs" / record.digest[:2] / record.digest).read_bytes()
        assert len(body) == record.size, record
        assert hashlib.sha256(body).hexdigest() == record.digest, record
    return records
