"""Pure: finds a zip file's directory from the end of the file, and in it the entries that contain a given text.

zipfile makes an object of every entry, which takes most of the time where a wheel has thousands of members and one is
wanted. Here all entries are stepped over and few are kept. What these say, and how the member is stored, zipfile reads,
from a small archive that has only them. Sections are those of APPNOTE.TXT, the specification of the format.
"""

from __future__ import annotations

import io
import struct
import zipfile
from typing import NamedTuple

COMMENT = 65_536
"""Bytes of a comment behind the end record: section 4.3.16 allows one fewer, but zipfile looks through so many."""
LONGEST_END = 22 + COMMENT + 20 + 56
"""Bytes at the end of a file that suffice to find its directory: end record, comment, and the two records of ZIP64."""

_END = struct.Struct("<4s8xLLH")  # the end of central directory record, section 4.3.16
_LOCATOR = struct.Struct("<4sL8xL")  # the ZIP64 end of central directory locator, section 4.3.15
_END_64 = struct.Struct("<4s36xQQ")  # the ZIP64 end of central directory record, section 4.3.14
_ENTRY = struct.Struct("<4s24xHHH12x")  # a central directory header, section 4.3.12
_HEADER = struct.Struct("<4s22xHH")  # a local file header, section 4.3.7


class Directory(NamedTuple):
    """The place of a zip file's central directory: its offsets in the file, and the bytes in front of the archive."""

    start: int
    stop: int
    in_front: int


def find_directory(end: bytes, size: int) -> Directory:
    """Find the directory of a file of `size` bytes, whose last are `end`: LONGEST_END, or all of the file.

    Raises zipfile.BadZipFile. As in zipfile, the sizes in the end records count, and the offset in them only tells what
    stands in front of the archive.
    """
    at = len(end) - _END.size
    if at < 0 or not (end.startswith(b"PK\x05\x06", at) and end.endswith(b"\0\0")):
        at = end.rfind(b"PK\x05\x06", max(0, len(end) - _END.size - COMMENT))
    if not 0 <= at <= len(end) - _END.size:
        raise zipfile.BadZipFile("File is not a zip file")
    _, length, offset, _ = _END.unpack_from(end, at)
    locator = at - _LOCATOR.size
    if locator >= 0 and end.startswith(b"PK\x06\x07", locator):
        _, disk, disks = _LOCATOR.unpack_from(end, locator)
        if disk or disks > 1:
            raise zipfile.BadZipFile("zipfiles that span multiple disks are not supported")
        if locator >= _END_64.size and end.startswith(b"PK\x06\x06", locator - _END_64.size):
            at = locator - _END_64.size
            _, length, offset = _END_64.unpack_from(end, at)
    stop = size - len(end) + at
    if length > stop:
        raise zipfile.BadZipFile("Bad offset for central directory")
    return Directory(stop - length, stop, stop - length - offset)


def entries_with(text: bytes, directory: bytes) -> list[bytes]:
    """Return those entries of a directory that contain a text, in their order. Raises zipfile.BadZipFile.

    The text may stand in an entry's name or elsewhere in it. Takes about 0.25 ms for 1,000 entries.
    """
    found, at, end, unpack = [], 0, len(directory), _ENTRY.unpack_from
    place = directory.find(text)
    while at < end:
        if end - at < _ENTRY.size:
            raise zipfile.BadZipFile("Truncated central directory")
        signature, name, extra, comment = unpack(directory, at)
        if signature != b"PK\x01\x02":
            raise zipfile.BadZipFile("Bad magic number for central directory")
        start = at
        at += _ENTRY.size + name + extra + comment
        if 0 <= place < at:
            found.append(directory[start:at])
            place = directory.find(text, at)
    return found


def guessed_offset(text: bytes, directory: bytes) -> int:
    """Return the offset of the last member whose entry has a text, as far as the last part of a directory tells.

    It is a guess, because where the first entry in such a part begins is not known; 0 if there is nothing to guess by.
    """
    at = directory.rfind(b"PK\x01\x02", 0, max(0, directory.rfind(text)))
    return 0 if at < 0 else int.from_bytes(directory[at + 42 : at + 46], "little")


def archive(entries: list[bytes], member: bytes = b"") -> zipfile.ZipFile:
    """Return an archive that has only these entries, and begins with the bytes of a member, local header first.

    The offset in a ZipInfo of it is what the entry says; to read the member, set it to 0. The archive ends with the
    records of ZIP64, so that zipfile cannot take the end of an entry for them.
    """
    directory, count = b"".join(entries), len(entries)
    place = len(member) + len(directory)
    end = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(directory), len(member))
    end += struct.pack("<4sLQL", b"PK\x06\x07", 0, place, 1)
    end += struct.pack("<4s4HLLH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return zipfile.ZipFile(io.BytesIO(member + directory + end))


def member_length(info: zipfile.ZipInfo, header: bytes) -> int:
    """Return how many bytes a member takes, local header included; `header` are at least the first 30 of them.

    Raises zipfile.BadZipFile.
    """
    if len(header) < _HEADER.size:
        raise zipfile.BadZipFile("Truncated file header")
    _, name, extra = _HEADER.unpack_from(header)
    return _HEADER.size + int(name) + int(extra) + info.compress_size
