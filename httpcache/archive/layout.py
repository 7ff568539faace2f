"""The format of an archive: a POSIX tar with these members, in this order, so that it is written and read as a stream.

httpcache-export.json   a Header
manifest.jsonl          a Line of JSON for each thing: records in the order of their keys, logs with their values, and
                        bodies in the order of their digests
manifest.sha256         the sha256 of these two, in the form of the program sha256sum
manifest.sig            a signature of manifest.sha256, if it was asked for (see `signing`)
bodies/<sha256>         each body of the manifest that is in the archive, in its order

Logs are in the order in which they have to be added: one comes after those that it speaks of.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from hashlib import sha256
from typing import BinaryIO, Literal, NamedTuple

import msgspec

from httpcache.errors import MirrorError

FORMAT = 1
HEADER, MANIFEST, SUMS, SIGNATURE, BODIES = (
    "httpcache-export.json",
    "manifest.jsonl",
    "manifest.sha256",
    "manifest.sig",
    "bodies/",
)
BLOCK = 512  # bytes; members begin at multiples of it
END = bytes(2 * BLOCK)
SHORT = 64 * 1024  # bytes at most of a member other than the manifest and the bodies
LONGEST = 256 * 1024 * 1024  # bytes at most of a line of the manifest
CHUNK = 1024 * 1024
_OCTAL = 8**11  # bytes from which on tar writes a size in binary


class Refused(MirrorError):
    """An archive that is not imported. The text says what is wrong with it, and what to do."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive is about.

    `made` is when, in ISO 8601; `selected` what was asked for, `since` and `have` (the sha256 of a manifest) what was
    left out. `records`, `logs`, `values` (of logs) and `bodies` are numbers of lines of the manifest; `bytes` is the
    size of the bodies in the archive, and `private` how many private records were selected, which are never exported.
    """

    format: int
    made: str
    selected: tuple[str, ...]
    since: str = ""
    have: str = ""
    records: int
    logs: int
    values: int
    bodies: int
    bytes: int
    private: int


class RecordLine(msgspec.Struct, frozen=True, tag="record", tag_field="line", omit_defaults=True):
    """A record or absence: its key, value and columns (see `httpcache.store.base`).

    One that the other side has is left out: it has only the sha256 of its value, in hex.
    """

    key: str
    value: bytes | None = None
    sha256: str = ""
    pin: str = ""
    address: str = ""
    digest: str = ""
    size: int = 0


class LogLine(msgspec.Struct, frozen=True, tag="log", tag_field="line", omit_defaults=True):
    """A log, whose `length` values are on the next lines. Of one whose kind is `set` the order means nothing."""

    name: str
    length: int
    kind: Literal["sequence", "set"] = "sequence"


class ValueLine(msgspec.Struct, frozen=True, tag="value", tag_field="line", omit_defaults=True):
    """The value of a log with this number; one that the other side has is left out, as of a record."""

    number: int
    value: bytes | None = None
    sha256: str = ""


class BodyLine(msgspec.Struct, frozen=True, tag="body", tag_field="line", omit_defaults=True):
    """A body that a record names. `left`: it is not in the archive, because the other side has it."""

    digest: str
    size: int
    left: bool = False


Line = RecordLine | LogLine | ValueLine | BodyLine

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


def encode(line: Line | Header) -> bytes:
    """Encode a line of the manifest, with its end, or the header."""
    return _encoder.encode(line) + b"\n"


def lines(file: BinaryIO, size: int) -> Iterator[Line]:
    """Yield the lines of a manifest of `size` bytes, read from where the file stands. Raises Refused, OSError."""
    place, number = file.tell(), 0
    end = place + size
    while place < end:
        file.seek(place)
        text, number = file.readline(min(LONGEST, end - place)), number + 1
        place += len(text)
        if not text.endswith(b"\n"):
            raise Refused(f"line {number} of the manifest does not end: copy the archive again, or export it again")
        try:
            line = _decoder.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Refused(f"line {number} of the manifest is not one of this format ({error})") from error
        yield line


def read_header(text: bytes) -> Header:
    """Decode the header. Raises Refused if the archive is none, or has another format."""
    try:
        found = msgspec.json.decode(text, type=Header)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refused("this is not an archive of `httpcache export`") from error
    if found.format != FORMAT:
        raise Refused(f"the archive has format {found.format}, and this version of httpcache reads {FORMAT}")
    return found


class Member(NamedTuple):
    """A member of a tar: its name, where its bytes begin, and how many they are."""

    name: str
    start: int
    size: int

    @property
    def end(self) -> int:
        """Where the next member begins."""
        return self.start + -(-self.size // BLOCK) * BLOCK


def member(name: str, size: int) -> bytes:
    """Return what stands before the bytes of a member (POSIX ustar; in GNU's form from 8 GiB on)."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT if size < _OCTAL else tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """Return what stands behind the bytes of a member."""
    return bytes(-size % BLOCK)


def next_member(file: BinaryIO, start: int) -> Member | None:
    """Return the member that begins at a place; None at the end. Raises Refused if there is neither, and OSError."""
    file.seek(start)
    head = file.read(BLOCK)
    if head == bytes(BLOCK):
        if file.read(BLOCK + 1) != bytes(BLOCK):
            raise Refused("the archive does not end where it should: copy it again")
        return None
    try:
        info = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise Refused(f"the archive is damaged, or ends too early, at byte {start}: copy it again") from error
    if member(info.name, info.size) != head:
        raise Refused(f"the archive has another member than `httpcache export` writes, at byte {start}")
    return Member(info.name, start + BLOCK, info.size)


def chunks(file: BinaryIO, found: Member) -> Iterator[bytes]:
    """Yield the bytes of a member, and see that they are followed by padding. Raises Refused, OSError."""
    file.seek(found.start)
    left = found.size
    while left:
        chunk = file.read(min(CHUNK, left))
        if not chunk:
            raise Refused(f"the archive ends within {found.name}: copy it again, or go on with the export")
        left -= len(chunk)
        yield chunk
    if file.read(-found.size % BLOCK) != padding(found.size):
        raise Refused(f"the archive is damaged behind {found.name}, or ends there: copy it again")


def digest_of(file: BinaryIO, found: Member) -> str:
    """Return the sha256 of a member, in hex. Raises Refused, OSError."""
    sum_ = sha256()
    for chunk in chunks(file, found):
        sum_.update(chunk)
    return sum_.hexdigest()


def digest_of_range(file: BinaryIO, start: int, size: int) -> str:
    """Return the sha256 of some bytes of a file, in hex. Raises OSError."""
    file.seek(start)
    sum_ = sha256()
    while size and (chunk := file.read(min(CHUNK, size))):
        sum_.update(chunk)
        size -= len(chunk)
    return sum_.hexdigest()


def short(file: BinaryIO, found: Member) -> bytes:
    """Return the bytes of a short member. Raises Refused, OSError."""
    if found.size > SHORT:
        raise Refused(f"{found.name} is too long: the archive is damaged")
    return b"".join(chunks(file, found))


def sums(header: str, manifest: str) -> bytes:
    """Return the member `manifest.sha256` for the digests of the header and the manifest."""
    return f"{header}  {HEADER}\n{manifest}  {MANIFEST}\n".encode()
