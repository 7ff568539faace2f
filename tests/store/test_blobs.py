"""What all Blobs promise: one suite for all implementations; and what is particular to files."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import anyio
import pytest

from httpcache.errors import StoreError
from httpcache.store.base import Blobs, Condition
from httpcache.store.file_blobs import FileBlobs
from httpcache.store.file_reader import CHUNK
from tests.support.engines import BLOBS, BlobsMaker, files, part

pytestmark = pytest.mark.anyio

BODY = os.urandom(CHUNK * 2 + 12345)
DIGEST = sha256(BODY).hexdigest()


@pytest.fixture(params=list(BLOBS.values()), ids=list(BLOBS))
def maker(request: pytest.FixtureRequest) -> BlobsMaker:
    found: BlobsMaker = request.param
    return found


@pytest.fixture
async def blobs(maker: BlobsMaker, tmp_path: Path) -> AsyncIterator[Blobs]:
    async with maker(tmp_path) as opened:
        yield opened


async def read(blobs: Blobs, digest: str, start: int, stop: int) -> bytes:
    return b"".join([chunk async for chunk in blobs.read(digest, start, stop)])


async def put(blobs: Blobs, folder: Path, body: bytes) -> str:
    digest = sha256(body).hexdigest()
    async with blobs.putting():
        await blobs.put(digest, part(folder, body))
    return digest


async def test_a_file_is_taken_in(blobs: Blobs, maker: BlobsMaker, tmp_path: Path) -> None:
    path = part(tmp_path, BODY)
    async with blobs.putting():
        await blobs.put(DIGEST, path)
    assert not path.exists()
    assert blobs.condition(DIGEST, len(BODY)) is Condition.SOUND
    async with maker(tmp_path) as restarted:
        assert restarted.condition(DIGEST, len(BODY)) is not Condition.BROKEN
        for opened in (blobs, restarted):
            assert await opened.check(DIGEST, len(BODY)) is True
            assert await opened.check(DIGEST, len(BODY) - 1) is False
            assert await read(opened, DIGEST, 0, len(BODY)) == BODY


async def test_a_reader_is_not_disturbed_by_a_second_put(blobs: Blobs, tmp_path: Path) -> None:
    await put(blobs, tmp_path, BODY)
    chunks = []
    async for chunk in blobs.read(DIGEST, 0, len(BODY)):
        chunks.append(chunk)
        await put(blobs, tmp_path, BODY)
    assert b"".join(chunks) == BODY


async def test_twenty_puts_at_once(blobs: Blobs, tmp_path: Path) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(put, blobs, tmp_path, BODY)
    assert await read(blobs, DIGEST, 0, len(BODY)) == BODY


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, len(BODY)), (0, 1), (len(BODY) - 1, len(BODY)), (CHUNK - 1, CHUNK + 1), (5, CHUNK * 2 + 5), (7, 7), (0, 0)],
)
async def test_a_range(start: int, stop: int, blobs: Blobs, tmp_path: Path) -> None:
    await put(blobs, tmp_path, BODY)
    assert await read(blobs, DIGEST, start, stop) == BODY[start:stop]


async def test_an_empty_blob(blobs: Blobs, tmp_path: Path) -> None:
    digest = await put(blobs, tmp_path, b"")
    assert await blobs.check(digest, 0) is True
    assert await read(blobs, digest, 0, 0) == b""


async def test_a_blob_that_is_missing_or_short(blobs: Blobs, tmp_path: Path) -> None:
    assert await blobs.check(DIGEST, len(BODY)) is False
    with pytest.raises(StoreError):
        await read(blobs, DIGEST, 0, 1)
    await put(blobs, tmp_path, BODY)
    with pytest.raises(StoreError):
        await read(blobs, DIGEST, 0, len(BODY) + 1)


async def test_a_file_that_is_missing(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        await blobs.put(DIGEST, tmp_path / "nothing")
    assert await blobs.check(DIGEST, len(BODY)) is False


async def test_only_what_has_its_stamp_is_removed(maker: BlobsMaker, tmp_path: Path) -> None:
    async with maker(tmp_path, grace=0.0) as blobs:
        digests = [await put(blobs, tmp_path, body) for body in (b"one", b"other", b"third")]
        stamps = await blobs.stamps()
        assert set(stamps) == set(digests)
        assert await blobs.stamps_of([digests[1], DIGEST]) == {digests[1]: stamps[digests[1]]}
        await anyio.sleep(1.1)  # object stores tell times in seconds
        await put(blobs, tmp_path, b"one")
        assert await blobs.remove([(digest, stamps[digest]) for digest in digests[:2]]) == len(b"other")
        assert await blobs.remove([(digests[1], stamps[digests[1]])]) == 0
        assert set(await blobs.stamps()) == {digests[0], digests[2]}
        assert await blobs.check(digests[0], 3)
        assert not await blobs.check(digests[1], 5)


async def test_a_body_whose_record_is_about_to_be_written_is_not_removed(blobs: Blobs, tmp_path: Path) -> None:
    """Whoever asks which blobs no record names must not find it: not yet, or not at all."""
    records: list[str] = []

    async def collect() -> None:
        stamps = await blobs.stamps()
        await blobs.remove([(digest, stamp) for digest, stamp in stamps.items() if digest not in records])

    async with anyio.create_task_group() as group, blobs.putting():
        await blobs.put(DIGEST, part(tmp_path, BODY))
        group.start_soon(collect)
        await anyio.sleep(0.2)
        records.append(DIGEST)
    assert await blobs.check(DIGEST, len(BODY))
    assert await read(blobs, DIGEST, 0, len(BODY)) == BODY


# Files


async def test_a_damaged_file_is_mended_by_the_next_that_has_its_bytes(tmp_path: Path) -> None:
    async with files(tmp_path) as blobs:
        assert isinstance(blobs, FileBlobs)
        await put(blobs, tmp_path, BODY)
        blobs.path(DIGEST).write_bytes(b"damaged")
        assert await blobs.check(DIGEST, len(BODY)) is False
        await put(blobs, tmp_path, BODY)
        assert await read(blobs, DIGEST, 0, len(BODY)) == BODY
        assert blobs.condition(DIGEST, len(BODY)) is Condition.SOUND
