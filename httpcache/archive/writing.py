"""Writes an archive. An export that was cut off goes on from what is in FILE.part: the manifest there stands."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, NamedTuple

import anyio.to_thread

from httpcache.errors import MirrorError, StoreError
from httpcache.store.errors import mapped
from httpcache.store.fsync import sync_folder
from httpcache.store.store import Store

from . import layout
from .layout import BodyLine, Header, Member, Refused


class Begun(NamedTuple):
    """The beginning of an archive, up to its bodies: its header, its manifest, and where the bodies begin."""

    header: Header
    manifest: Member
    signed: bool
    end: int


def part_of(path: Path) -> Path:
    """Return the file that an archive is written to until it is complete."""
    return path.with_name(f"{path.name}.part")


@contextmanager
def complete(path: Path) -> Iterator[BinaryIO]:
    """Open the part of a file to write it; after the block it is durable, and has its name.

    Raises StoreError, and MirrorError if another process is writing it.
    """
    part = part_of(path)
    with mapped():
        with part.open("r+b" if part.exists() else "x+b") as file:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise MirrorError(f"another command is writing {part}: wait for it") from error
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.absolute().parent)


def begun(file: BinaryIO) -> Begun | None:
    """Return the beginning that a part has, None if it was cut off before its bodies. Raises OSError."""
    try:
        members, place = [], 0
        for name in (layout.HEADER, layout.MANIFEST, layout.SUMS):
            found = layout.next_member(file, place)
            if not found or found.name != name:
                return None
            members.append(found)
            place = found.end
        header, manifest, sums = members
        digests = [layout.digest_of(file, found) for found in (header, manifest)]
        if layout.short(file, sums) != layout.sums(*digests):
            return None
        head = layout.read_header(layout.short(file, header))
        signature = _signature(file, place)
    except Refused:
        return None
    return Begun(head, manifest, signature is not None, signature.end if signature else place)


def expected(file: BinaryIO) -> int:
    """Return how many bodies an archive says it has, for a progress bar; 0 if that cannot be read. Raises OSError."""
    try:
        found = layout.next_member(file, 0)
        return layout.read_header(layout.short(file, found)).bodies if found else 0
    except Refused:
        return 0


def _signature(file: BinaryIO, place: int) -> Member | None:
    try:
        found = layout.next_member(file, place)
        if found and found.name == layout.SIGNATURE:
            layout.short(file, found)
            return found
    except Refused:  # it was cut off here, and what follows is written again
        pass
    return None


def begin(file: BinaryIO, header: Header, lines: Iterator[bytes], sign: Callable[[bytes], bytes] | None) -> Begun:
    """Write everything up to the bodies, durably. Raises MirrorError, OSError."""
    file.seek(0)
    file.truncate()
    head = layout.encode(header)
    _write(file, layout.HEADER, head)
    start, sum_, size = file.tell(), sha256(), 0
    file.write(bytes(layout.BLOCK))  # what stands before the manifest has its size
    for line in lines:
        sum_.update(line)
        size += file.write(line)
    file.write(layout.padding(size))
    end = file.tell()
    file.seek(start)
    file.write(layout.member(layout.MANIFEST, size))
    file.seek(end)
    sums = layout.sums(sha256(head).hexdigest(), sum_.hexdigest())
    signature = sign(sums) if sign else None
    _write(file, layout.SUMS, sums)
    if signature:
        _write(file, layout.SIGNATURE, signature)
    file.flush()
    os.fsync(file.fileno())
    return Begun(header, Member(layout.MANIFEST, start + layout.BLOCK, size), bool(signature), file.tell())


def _write(file: BinaryIO, name: str, body: bytes) -> None:
    file.write(layout.member(name, len(body)) + body + layout.padding(len(body)))


async def bodies(store: Store, file: BinaryIO, archive: Begun, advance: Callable[[], None]) -> None:
    """Write the bodies that are missing, and the end. Raises StoreError, also if a body is damaged, and OSError."""
    place, resuming = archive.end, True
    for line in _bodies(file, archive):
        resuming = resuming and await anyio.to_thread.run_sync(_is_there, file, place, line)
        if not resuming:
            file.seek(place)
            file.truncate()
            await _body(store, file, line)
        place += layout.BLOCK + line.size + len(layout.padding(line.size))
        advance()
    file.seek(place)
    file.truncate()
    file.write(layout.END)


def _bodies(file: BinaryIO, archive: Begun) -> Iterator[BodyLine]:
    file.seek(archive.manifest.start)
    for line in layout.lines(file, archive.manifest.size):
        if isinstance(line, BodyLine) and not line.left:
            yield line


def _is_there(file: BinaryIO, place: int, line: BodyLine) -> bool:
    """Whether a body is complete in a part that is gone on with."""
    try:
        found = layout.next_member(file, place)
        return (
            found is not None
            and (found.name, found.size) == (layout.BODIES + line.digest, line.size)
            and layout.digest_of(file, found) == line.digest
        )
    except Refused:
        return False


async def _body(store: Store, file: BinaryIO, line: BodyLine) -> None:
    file.write(layout.member(layout.BODIES + line.digest, line.size))
    sum_, size = sha256(), 0
    async for chunk in store.read_body(line.digest, line.size, 0, line.size):
        sum_.update(chunk)
        size += len(chunk)
        await anyio.to_thread.run_sync(file.write, chunk)
    if (size, sum_.hexdigest()) != (line.size, line.digest):
        raise StoreError(
            f"the bytes with sha256 {line.digest} are damaged: `httpcache verify` names their address; request it "
            "again, and run the export again"
        )
    file.write(layout.padding(size))


def check_same(archive: Begun, header: Header, *, signed: bool, part: Path) -> None:
    """Raise MirrorError if the part of an archive is of another export than the one asked for."""
    same = (archive.header.selected, archive.header.since, archive.header.have, archive.signed)
    if same != (header.selected, header.since, header.have, signed):
        raise MirrorError(f"{part} was begun by another export: finish that one, remove it, or name another file")
