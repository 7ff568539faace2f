"""METADATA read out of a wheel: one on disk, or by ranges one at an upstream."""

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
BUDGET = 8 * 1024 * 1024  # bytes of a wheel that are read for its METADATA: a directory takes seven times its size
PATIENCE = 300.0  # seconds for all ranges of a wheel together
READERS = 16  # wheels that are read at once
PIECE = 4096  # bytes of a zip member that are unpacked at once
READ_AHEAD = 64 * 1024  # bytes asked for at once: the directory and METADATA of most wheels are in the last 64 KB
# What zipfile raises for files that are none, or damaged: it lets the errors of the codecs through.
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
    """The upstream does not answer ranges of this file."""


def ranged(answer: UpstreamResponse) -> tuple[int, int]:
    """Return where the part of a file begins that an answer has, and the size of the file (bytes).

    Raises NoRangesError for an answer to something else than the range that was asked for.
    """
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    if answer.status != 206 or not found or codings(answer.headers.get("content-encoding")):
        raise NoRangesError(f"status {answer.status}")
    return int(found[1]), int(found[3])


async def from_wheel(path: Path, filename: str) -> bytes:
    """Return METADATA out of a wheel on disk. Raises BadUpstream where it is none."""
    return await anyio.to_thread.run_sync(from_file, path, filename, limiter=_limiter())


def from_file(path: Path, filename: str) -> bytes:
    """The same, in the thread of who asks."""
    with path.open("rb", buffering=0) as file:
        return _read(_Budgeted(file), filename)


async def from_ranges(ask: Ask, filename: str, digests: tuple[Digest, ...]) -> tuple[bytes, UpstreamResponse]:
    """Return METADATA read out of a wheel by ranges, and the first answer.

    `ask` sends a GET for the wheel with additional headers. `digests` were announced for it: a wheel so small that
    the first range is all of it is held to one of them. Raises NoRangesError where the upstream does not answer ranges,
    BadUpstream where what it answers is no wheel, or another.
    """
    remote = _Remote(ask)
    first = await remote.open()
    if digests and not any(map(remote.may_have, digests)):
        raise BadUpstream(f"{filename} is not what the index announced, by its digest; nothing was kept")
    return await anyio.to_thread.run_sync(_read, remote, filename, limiter=_limiter()), first


def _limiter() -> anyio.CapacityLimiter:
    """The threads that wait for upstreams: not those that everything else needs."""
    try:
        return _LIMITER.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(READERS)
        _LIMITER.set(limiter)
        return limiter


class _Budgeted(io.RawIOBase):
    """A file of which so much is read and no more: zipfile reads as much as a hostile file tells it to."""

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
    """A file behind ranges, for zipfile in a worker thread: what was fetched once is not fetched again."""

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
        """Whether the file has a digest, or no range had all of it."""
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
    """Return the member of a wheel that is its METADATA. Raises BadUpstream where there is none, or more than one.

    It is found as pip finds it: in the folder whose name ends in `.dist-info` and begins with the project's, whatever
    follows that, as there are tools that leave the version out (PEP 427) or add a build number.
    """
    project = canonicalize_name(filename.partition("-")[0])
    folders = dict.fromkeys(found[1] for name in names if (found := _DIST_INFO.fullmatch(name)))
    own = [folder for folder in folders if canonicalize_name(folder).startswith(project)]
    if len(own) > 1:  # one of a project whose name only begins like this one's may lie beside it
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
    """Read METADATA piece by piece, whatever the directory says of its size: a bomb is seen before it has gone off."""
    body = b""
    with wheel.open(name) as member:
        while piece := member.read(PIECE):
            body += piece
            if len(body) > MAX_METADATA:
                raise BadUpstream(f"the METADATA of {filename} is longer than {MAX_METADATA} bytes")
    return body
