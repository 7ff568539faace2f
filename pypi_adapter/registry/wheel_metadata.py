"""Reads METADATA from a wheel: one that is frozen, or at an upstream by range requests."""

from __future__ import annotations

import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar
from packaging.utils import canonicalize_name

from httpcache.errors import BadUpstream
from httpcache.freezing.download import Digest
from httpcache.upstream.client import Headers, UpstreamResponse
from httpcache.upstream.decoding import codings

from .zip_directory import Directory, archive, entries_with, find_directory, guessed_offset, member_length

METADATA = b".dist-info/METADATA"
MAX_METADATA = 4 * 1024 * 1024  # bytes; the largest known are a few hundred KB
BUDGET = 8 * 1024 * 1024  # bytes read of a wheel for its METADATA
PATIENCE = 300.0  # seconds for all ranges of a wheel together
READERS = 16  # threads that read wheels
PIECE = 4096  # bytes of a zip member that are decompressed at a time
TAIL = 128 * 1024  # bytes at the end of a wheel that are requested first, at least LONGEST_END
NEAR = 512 * 1024  # bytes before the directory within which METADATA is read along with it
HEADER = 1024  # bytes that a member's local header has at most, mostly
LONG = 1024 * 1024  # bytes of a directory or of METADATA that take a thread: 10 ms or more
QUICK = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # methods of which a few bytes cannot become many megabytes at once
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


T = TypeVar("T")
Read = Callable[[int, int], Awaitable[bytes]]
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


async def from_wheel(size: int, read: Read, filename: str) -> bytes:
    """Read METADATA from a wheel of `size` bytes; `read` returns those from a start to a stop (exclusive).

    Raises BadUpstream if it is not a wheel.
    """
    budget = _Budget()

    async def within_budget(start: int, stop: int) -> bytes:
        budget.spend(stop - start)
        return await read(start, stop)

    tail = await within_budget(max(0, size - TAIL), size)
    return await _metadata(_End(size, tail, within_budget), filename)


async def from_ranges(ask: Ask, filename: str, digests: tuple[Digest, ...]) -> tuple[bytes, UpstreamResponse]:
    """Read METADATA from a wheel by range requests; return it with the first answer.

    `ask` sends a GET for the wheel with additional headers. `digests` were announced for the wheel: if it is so small
    that one range has all of it, it must match one of them. Raises NoRangesError if the upstream does not support range
    requests, BadUpstream if the file is not a wheel, or not the announced one.
    """
    remote = _Remote(ask)
    first, data = await remote.open()
    if digests and len(data) == remote.size and not any(digest.is_of(data) for digest in digests):
        raise BadUpstream(f"{filename} does not have the digest that the index announced; nothing was kept")
    return await _metadata(_End(remote.size, data, remote.read), filename), first


def _limiter() -> anyio.CapacityLimiter:
    """Return the limiter of the threads that read wheels: everything else has threads of its own."""
    try:
        return _LIMITER.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(READERS)
        _LIMITER.set(limiter)
        return limiter


class _Budget:
    """A limit on the bytes that are read of a wheel, whatever it says of the sizes of its parts."""

    def __init__(self) -> None:
        self._left = BUDGET

    def spend(self, count: int) -> None:
        """Count bytes before they are read. Raises BadUpstream."""
        self._left -= count
        if self._left < 0:
            raise BadUpstream(f"reading the METADATA of the wheel takes more than {BUDGET} bytes")


class _Remote:
    """A file that is read by range requests."""

    def __init__(self, ask: Ask) -> None:
        self.size = 0
        """The size of the whole file in bytes, known from the first answer on."""
        self._ask = ask
        self._budget = _Budget()
        self._until = anyio.current_time() + PATIENCE

    async def open(self) -> tuple[UpstreamResponse, bytes]:
        """Request the end of the file. Return the answer, and the last TAIL bytes, or all if there are fewer."""
        answer, start, data = await self._fetch(f"bytes=-{TAIL}", TAIL)
        if start + len(data) != self.size:  # some servers take that for the first bytes
            data = await self.read(max(0, self.size - TAIL), self.size)
        return answer, data

    async def read(self, start: int, stop: int) -> bytes:
        """Request the bytes from `start` to `stop` (exclusive)."""
        _, first, data = await self._fetch(f"bytes={start}-{stop - 1}", stop - start)
        if first != start or len(data) != stop - start:
            raise BadUpstream("the upstream sent another range than the requested one")
        return data

    async def _fetch(self, wanted: str, count: int) -> tuple[UpstreamResponse, int, bytes]:
        self._budget.spend(count)
        if anyio.current_time() > self._until:
            raise BadUpstream(f"reading the METADATA of the wheel takes more than {PATIENCE:.0f} seconds")
        async with self._ask((("Range", wanted),)) as answer:
            start, size = ranged(answer)
            if self.size not in (0, size):
                raise BadUpstream("the wheel changed while it was read: try again")
            self.size = size
            return answer, start, await answer.read(count, "a range")


@dataclass
class _End:
    """What has been read of a file of `size` bytes: `data`, its last bytes. `more` reads from one offset to another."""

    size: int
    data: bytes
    more: Callable[[int, int], Awaitable[bytes]]

    @property
    def start(self) -> int:
        """The offset of `data`."""
        return self.size - len(self.data)

    async def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to `stop` (exclusive) or to the end; none are read twice."""
        if start < 0:
            raise zipfile.BadZipFile("an offset before the beginning of the file")
        stop, missing = min(stop, self.size), b""
        if start < self.start:
            missing = await self.more(start, min(stop, self.start)) if start < stop else b""
        return missing + self.data[max(0, start - self.start) : max(0, stop - self.start)]


async def _metadata(end: _End, filename: str) -> bytes:
    """Return the METADATA of a wheel of which TAIL bytes, or all, have been read. Raises BadUpstream."""
    try:
        return await _found(end, filename)
    except ZIP_ERRORS as error:
        raise BadUpstream(f"{filename} is not a wheel: {error}") from error


async def _found(end: _End, filename: str) -> bytes:
    directory = find_directory(end.data, end.size)
    if directory.start < end.start:
        end.data = await end.read(_first_needed(directory, end), end.size)
    data = await end.read(directory.start, directory.stop)
    entries = await _run(partial(entries_with, METADATA, data), is_long=len(data) > LONG)
    with archive(entries) as listed:
        info = listed.getinfo(_metadata_name(listed.namelist(), filename))
    start = info.header_offset + directory.in_front
    member = await end.read(start, start + HEADER + info.compress_size)
    missing = member_length(info, member) - len(member)
    if missing > 0:
        member += await end.read(start + len(member), start + len(member) + missing)
    is_long = max(info.compress_size, info.file_size) > LONG or info.compress_type not in QUICK
    return await _run(partial(_unpacked, entries, member, info.filename, filename), is_long=is_long)


def _first_needed(directory: Directory, end: _End) -> int:
    """Return where to read on from, if the directory begins before what has been read.

    METADATA is read along with the rest of the directory if it seems to be shortly before it, as in most wheels.
    """
    guess = guessed_offset(METADATA, end.data) + directory.in_front
    return guess if directory.start - NEAR < guess < directory.start else directory.start


async def _run(work: Callable[[], T], *, is_long: bool) -> T:
    """Run work, in a thread if it would keep the event loop from everything else."""
    return await anyio.to_thread.run_sync(work, limiter=_limiter()) if is_long else work()


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


def _unpacked(entries: list[bytes], member: bytes, name: str, filename: str) -> bytes:
    """Read METADATA piece by piece, ignoring the size in the zip directory, so that a zip bomb is detected in time."""
    body = bytearray()
    with archive(entries, member) as wheel:
        info = wheel.getinfo(name)
        info.header_offset = 0
        with wheel.open(info) as file:
            while piece := file.read(PIECE):
                body += piece
                if len(body) > MAX_METADATA:
                    raise BadUpstream(f"the METADATA of {filename} is longer than {MAX_METADATA} bytes")
    return bytes(body)
