"""Reads METADATA from a wheel: on disk, or at an upstream by range requests."""

from __future__ import annotations

import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from math import inf
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.lowlevel import RunVar
from packaging.utils import canonicalize_name

from httpcache.errors import BadUpstream
from httpcache.freezing.download import Digest
from httpcache.upstream.client import Headers, UpstreamResponse
from httpcache.upstream.decoding import codings

MAX_METADATA = 4 * 1024 * 1024  # bytes; the largest known are a few hundred KB
BUDGET = 8 * 1024 * 1024  # bytes read of a wheel for its METADATA: in memory a zip directory takes seven times that
PATIENCE = 300.0  # seconds for all ranges of a wheel together
READERS = 16  # wheels read at the same time
PIECE = 4096  # bytes of a zip member that are decompressed at a time
READ_AHEAD = 64 * 1024  # bytes requested at a time: the directory and METADATA of most wheels are in the last 64 KB
# What zipfile raises for files that are damaged or not zip files: it does not wrap the errors of the codecs.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OverflowError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    OSError,
)
_LIMITER: RunVar[anyio.CapacityLimiter] = RunVar("wheels read by ranges")
_DIST_INFO = re.compile(r"([^/]+)\.dist-info/METADATA")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


Ask = Callable[[Headers], AbstractAsyncContextManager[UpstreamResponse]]


class NoRangesError(Exception):
    """The upstream does not support range requests for this file."""


def ranged(answer: UpstreamResponse) -> tuple[int, int]:
    """Return the offset of the part of a file in an answer, and the size of the whole file, both in bytes.

    Raises NoRangesError if the answer is not to the range request.
    """
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    if answer.status != 206 or not found or codings(answer.headers.get("content-encoding")):
        raise NoRangesError(f"status {answer.status}")
    return int(found[1]), int(found[3])


async def from_wheel(path: Path, filename: str) -> bytes:
    """Read METADATA from a wheel on disk. Raises BadUpstream if it is not a wheel."""
    return await anyio.to_thread.run_sync(from_file, path, filename, limiter=_limiter())


def from_file(path: Path, filename: str) -> bytes:
    """Read METADATA as `from_wheel` does, in the caller's thread."""
    with path.open("rb", buffering=0) as file:
        return _read(_Budgeted(file), filename)


async def from_ranges(ask: Ask, filename: str, digests: tuple[Digest, ...]) -> tuple[bytes, UpstreamResponse]:
    """Read METADATA from a wheel by range requests; return it with the first answer.

    `ask` sends a GET for the wheel with additional headers. `digests` were announced for the wheel: if it is so small
    that one range has all of it, it must match one of them. Raises NoRangesError if the upstream does not support range
    requests, BadUpstream if the file is not a wheel, or not the announced one.
    """
    remote = _Remote(ask)
    first = await remote.open()
    if digests and not any(map(remote.may_have, digests)):
        raise BadUpstream(f"{filename} is not what the index announced, by its digest; nothing was kept")
    return await anyio.to_thread.run_sync(_read, remote, filename, limiter=_limiter()), first


def _limiter() -> anyio.CapacityLimiter:
    """Return the limiter of the threads that wait for upstreams: everything else has threads of its own."""
    try:
        return _LIMITER.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(READERS)
        _LIMITER.set(limiter)
        return limiter


class _Budgeted(io.RawIOBase):
    """A file with a limit on the bytes read: zipfile would read as much as a hostile file tells it to."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._left = BUDGET

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(self._left + 1 if count < 0 else min(count, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise BadUpstream(f"to read its METADATA takes more than {BUDGET} bytes of it")
        return data


class _Remote(io.RawIOBase):
    """A file read by range requests, for zipfile in a worker thread; no bytes are fetched twice."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._left = BUDGET
        self._end = inf
        self._at = 0
        self._size = 0
        self._parts: list[tuple[int, bytes]] = []

    async def open(self) -> UpstreamResponse:
        self._end = anyio.current_time() + PATIENCE
        return await self._fetch(f"bytes=-{READ_AHEAD}", READ_AHEAD)

    def may_have(self, digest: Digest) -> bool:
        """Whether the file has this digest; also true if no range had all of the file."""
        whole = next((part for _, part in self._parts if len(part) == self._size), None)
        return whole is None or digest.is_of(whole)

    async def _fetch(self, wanted: str, count: int) -> UpstreamResponse:
        if self._left < count or anyio.current_time() > self._end:
            raise BadUpstream(f"to read its METADATA takes more than {BUDGET} bytes of it, or {PATIENCE:.0f} seconds")
        self._left -= count
        async with self._ask((("Range", wanted),)) as answer:
            start, size = ranged(answer)
            if self._parts and size != self._size:
                raise BadUpstream("the file changed while it was read")
            self._size = size
            self._parts.append((start, await answer.read(count, "a range")))
            return answer

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset
        if self._at < 0:
            raise ValueError("a negative place")
        return self._at

    def readall(self) -> bytes:
        return self.read(self._size - self._at)

    def read(self, count: int = -1) -> bytes:
        stop = self._size if count < 0 else min(self._at + count, self._size)
        data = self._cached(self._at, stop)
        if data is None:
            ahead = min(max(stop, self._at + READ_AHEAD), self._size)
            anyio.from_thread.run(self._fetch, f"bytes={self._at}-{ahead - 1}", ahead - self._at)
            data = self._cached(self._at, stop)
        if data is None:
            raise BadUpstream("a range is shorter than it was asked for")
        self._at += len(data)
        return data

    def _cached(self, start: int, stop: int) -> bytes | None:
        if start >= stop:
            return b""
        for first, part in self._parts:
            if first <= start and stop <= first + len(part):
                return part[start - first : stop - first]
        return None


def _read(file: io.RawIOBase, filename: str) -> bytes:
    try:
        with zipfile.ZipFile(file) as wheel:
            return _member(wheel, _metadata_name(wheel.namelist(), filename), filename)
    except ZIP_ERRORS as error:
        raise BadUpstream(f"{filename} is no wheel: {error}") from error


def _metadata_name(names: Iterable[str], filename: str) -> str:
    """Return the name of the METADATA member of a wheel. Raises BadUpstream if there is none, or more than one.

    As in pip, it is in the folder whose name ends with `.dist-info` and begins with the project's name, whatever comes
    between: some tools leave out the version (PEP 427) or add a build number.
    """
    project = canonicalize_name(filename.partition("-")[0])
    folders = dict.fromkeys(found[1] for name in names if (found := _DIST_INFO.fullmatch(name)))
    own = [folder for folder in folders if canonicalize_name(folder).startswith(project)]
    if len(own) > 1:  # another project's name may begin with this one's
        own = [folder for folder in own if re.match(r"-\d|$", canonicalize_name(folder).removeprefix(project))] or own
    if len(own) > 1:
        listed = " and ".join(ascii(f"{folder}.dist-info") for folder in own[:3])
        raise BadUpstream(
            f"{filename} has more than one METADATA of {project}, in {listed[:300]}: installers refuse it"
        )
    if not own:
        raise BadUpstream(f"{filename} has no METADATA in a .dist-info folder of {project}")
    return f"{own[0]}.dist-info/METADATA"


def _member(wheel: zipfile.ZipFile, name: str, filename: str) -> bytes:
    """Read METADATA piece by piece, ignoring the size in the zip directory, so that a zip bomb is detected in time."""
    body = b""
    with wheel.open(name) as member:
        while piece := member.read(PIECE):
            body += piece
            if len(body) > MAX_METADATA:
                raise BadUpstream(f"the METADATA of {filename} is longer than {MAX_METADATA} bytes")
    return body
