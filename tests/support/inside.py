"""Looks inside a mirror: its processes and their memory, and whether every record of its data folder has its bytes."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio

from httpcache.store.layout import DATABASE
from httpcache.store.local import LocalStore
from httpcache.store.record import Record, decode
from httpcache.store.store import SMALL
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
    """Every record of a data folder, after its body has been read and its size and sha256 compared."""

    async def read() -> list[Record]:
        with closing(LocalStore(data)) as store:
            found = [decode(value) async for _, value in store.entries("r/")]
            records = [entry for entry in found if isinstance(entry, Record)]
            for record in records:
                pieces = [piece async for piece in store.read_body(record.digest, record.size, 0, record.size)]
                assert hashlib.sha256(b"".join(pieces)).hexdigest() == record.digest, record
                path = store.blob_path(record.digest)
                assert not path.exists() or path.stat().st_size == record.size, record
        return records

    return anyio.run(read)


def bodies(data: Path) -> set[str]:
    """The digests of all bodies of a data folder, whether a record names them or not."""
    with closing(sqlite3.connect(data / DATABASE)) as index:
        small = {digest for (digest,) in index.execute("SELECT digest FROM bodies")}
    return small | {path.name for path in (data / "blobs").rglob("*") if path.is_file()}


def damage_body(data: Path, body: bytes, damage: Callable[[Path], object]) -> None:
    """Do something to the file of a body, or, if the index keeps it, do the same to what is there."""
    digest = hashlib.sha256(body).hexdigest()
    if len(body) > SMALL:
        damage(data / "blobs" / digest[:2] / digest)
        return
    with TemporaryDirectory() as folder, closing(sqlite3.connect(data / DATABASE)) as index, index:
        copy = Path(folder) / "body"
        for (found,) in index.execute("SELECT body FROM bodies WHERE digest = ?", (digest,)):
            copy.write_bytes(found)
        damage(copy)
        index.execute("DELETE FROM bodies WHERE digest = ?", (digest,))
        if copy.exists():
            index.execute("INSERT INTO bodies (digest, body) VALUES (?, ?)", (digest, copy.read_bytes()))
