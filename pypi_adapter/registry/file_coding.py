"""Undoes content codings of a distribution file that were not requested, so that the file itself is frozen.

pip takes the bytes of a file as they come; uv and browsers undo the codings that the header names. Both must end up
with the same file, so it is frozen and sent without any coding. Servers mean two things by `Content-Encoding: gzip`:
that they compressed the file for the transfer, or (for a `.tar.gz`) what the file itself is. To tell them apart:

1. the announced digest decides, if the whole body is here before its first byte has to be sent;
2. else the beginning of the file, by its name: a wheel starts like a zip, a `.tar.gz` like gzip. Of the bytes as they
   came, and those after undoing one or more codings, the innermost that starts so is the file;
3. else (for a `.tar`) the header is right, and every coding is undone that it names. If one of them is unknown here and
   no digest can prove the bytes, the file is passed on as it came, with its header.

The length that the server announced is that of the transferred bytes. The digest is checked in any case.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import new

import anyio.to_thread

from httpcache.errors import BadUpstream, redact
from httpcache.freezing.download import Digest
from httpcache.upstream.client import UpstreamResponse
from httpcache.upstream.decoding import KNOWN, BadCoding, Decoder, codings

START = 4096  # bytes that show how a file begins, in any coding
WHOLE = 4 * 1024 * 1024  # bytes up to which a file is read whole before a client gets the first byte
UNPACKED = 256 * 1024 * 1024  # bytes to which such a file may decompress
LONGEST = 8  # bytes of the longest beginning
_GZIP, _BZIP2, _XZ, _ZIP = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"PK\x03\x04"
_BEGINNINGS: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    (".whl", (_ZIP,)), (".zip", (_ZIP,)), (".egg", (_ZIP,)),
    (".tar.gz", (_GZIP,)), (".tgz", (_GZIP,)),
    (".tar.bz2", (_BZIP2,)), (".tbz", (_BZIP2,)),
    (".tar.xz", (_XZ,)), (".txz", (_XZ,)),
    (".tar.lz", (b"LZIP",)), (".tlz", (b"LZIP", b"]\0\0")), (".tar.lzma", (b"]\0\0",)),
    (".tar.z", (b"\x1f\x9d", _GZIP)),
    (".exe", (b"MZ",)), (".msi", (b"\xd0\xcf\x11\xe0",)), (".rpm", (b"\xed\xab\xee\xdb",)), (".deb", (b"!<arch>",)),
)  # fmt: skip


@dataclass(frozen=True)
class Announced:
    """What is known of a file before it arrives: its name, digests of which one must match, its size in bytes."""

    filename: str
    digests: tuple[Digest, ...] = ()
    size: int | None = None

    @property
    def beginnings(self) -> tuple[bytes, ...]:
        """The possible beginnings of such a file, empty if its name does not tell."""
        name = self.filename.lower()
        return next((found for ending, found in _BEGINNINGS if name.endswith(ending)), ())


async def without_codings(answer: UpstreamResponse, file: Announced, limit: int) -> UpstreamResponse:
    """Return an answer with the bytes of the file; see the module's docstring.

    `limit` is the maximum size of the file in bytes. Raises BadUpstream, also while the body is read.
    """
    if answer.status != 200 or "content-encoding" not in answer.headers:
        return answer
    try:
        names = codings(answer.headers["content-encoding"])
    except BadCoding as error:
        raise _bad(answer, error) from error
    wanted = WHOLE if file.digests and (answer.length or limit) <= WHOLE else START
    start = b"".join([chunk async for chunk in _first(answer.body, wanted)])
    is_whole = len(start) < wanted or len(start) == answer.length
    chosen = await anyio.to_thread.run_sync(_choose, start, is_whole, names, file)
    headers = answer.headers.copy()
    if chosen is not None:
        del headers["content-encoding"]
    if chosen:
        headers.pop("content-length", None)
        if file.size is not None:
            headers["content-length"] = str(file.size)
    return replace(answer, headers=headers, body=_body(answer, start, chosen or ()), ends_itself=bool(chosen))


def _bad(answer: UpstreamResponse, error: BadCoding) -> BadUpstream:
    return BadUpstream(f"the Content-Encoding of {redact(answer.url)} cannot be decoded: {error}")


async def _first(body: AsyncIterator[bytes], count: int) -> AsyncIterator[bytes]:
    """Yield chunks until they have at least `count` bytes."""
    async for chunk in body:
        yield chunk
        count -= len(chunk)
        if count <= 0:
            return


def _choose(start: bytes, is_whole: bool, names: Sequence[str], file: Announced) -> tuple[str, ...] | None:
    """Return which codings to undo, None if the file and its header stay as they came."""
    layers = [tuple(names[:depth]) for depth in range(len(names), -1, -1)]
    if is_whole and file.digests:
        return next((undone for undone in layers if _is_right(start, undone, file)), ())
    for undone in layers:
        if file.beginnings and _beginning(start, undone).startswith(file.beginnings):
            return undone
    if KNOWN.issuperset(names):
        return layers[0]
    return () if file.digests else None


def _is_right(body: bytes, undone: Sequence[str], file: Announced) -> bool:
    """Whether a body, after the codings are undone, has an announced digest."""
    sums = {digest: new(digest.algorithm, usedforsecurity=False) for digest in file.digests}
    size = 0
    try:
        for piece in Decoder(undone).whole(body):
            size += len(piece)
            if size > UNPACKED:
                return False
            for found in sums.values():
                found.update(piece)
    except BadCoding:
        return False
    return any(found.hexdigest() == digest.value for digest, found in sums.items())


def _beginning(start: bytes, undone: Sequence[str]) -> bytes:
    """Return the first bytes of the start of a body after the codings are undone."""
    found = b""
    with suppress(BadCoding):  # the start is cut off, or in another coding
        for piece in Decoder(undone).whole(start):
            found += piece
            if len(found) >= LONGEST:
                break
    return found


async def _body(answer: UpstreamResponse, start: bytes, undone: Sequence[str]) -> AsyncIterator[bytes]:
    decoder = Decoder(undone)
    try:
        async for piece in _pieces(decoder.feed(start)):
            yield piece
        async for chunk in answer.body:
            async for piece in _pieces(decoder.feed(chunk)):
                yield piece
        async for piece in _pieces(decoder.end()):
            yield piece
    except BadCoding as error:
        raise _bad(answer, error) from error


async def _pieces(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Decompress in a thread, so that the event loop does not wait."""
    while piece := await anyio.to_thread.run_sync(next, pieces, b""):
        yield piece
