"""Reads one member of a frozen .tar.gz: bounded in what is unpacked, whatever the archive says of itself."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Callable
from tempfile import SpooledTemporaryFile
from typing import IO

import anyio.to_thread

from httpcache.errors import Damaged

from .store import Store

LARGEST = 512 * 1024 * 1024  # bytes of an archive that is read
IN_MEMORY = 8 * 1024 * 1024  # bytes of it that are kept in memory, else in a temporary file
UNPACKED = 1024 * 1024 * 1024  # bytes that are unpacked in search of the member
MEMBER = 4 * 1024 * 1024  # bytes of the member


async def member(store: Store, digest: str, size: int, is_wanted: Callable[[str], bool]) -> bytes | None:
    """Return the first member of an archive whose name is wanted, None if there is none or it is no such archive.

    `digest` and `size` are those of a frozen body. Raises StoreError: Damaged if the body is not there or not whole.
    """
    if size > LARGEST:
        return None
    if not await store.check(digest, size):
        raise Damaged("the archive is missing or damaged")
    with SpooledTemporaryFile(IN_MEMORY) as file:
        async for chunk in store.read_body(digest, size, 0, size):
            file.write(chunk)
        file.seek(0)
        return await anyio.to_thread.run_sync(_find, file, is_wanted)


def _find(file: IO[bytes], is_wanted: Callable[[str], bool]) -> bytes | None:
    try:
        with _Bounded(fileobj=file, mode="rb") as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
            for info in archive:
                if info.isfile() and info.size <= MEMBER and is_wanted(info.name):
                    stream = archive.extractfile(info)
                    return stream.read() if stream else None
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError):
        return None
    return None


class _Bounded(gzip.GzipFile):
    """The bytes of an archive, of which UNPACKED can be read."""

    left = UNPACKED

    def read(self, size: int | None = -1) -> bytes:
        """Return up to `size` bytes. Raises ValueError when too many have been read."""
        if size is None or not 0 <= size <= self.left:
            raise ValueError("the archive unpacks to too much")
        found = super().read(size)
        self.left -= len(found)
        return found
