"""The thread that writes a part, while more of the body comes."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

from httpcache.spool import BATCH, Writer

PIECE = 64 * 1024


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def test_all_pieces_are_written_in_order_and_told_of(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    pieces = [os.urandom(number) for number in (1, PIECE, 7, BATCH, 3 * BATCH, 2)]
    done: list[object] = []
    seen: list[bytes] = []

    async def write() -> None:
        with (tmp_path / "part").open("xb", buffering=0) as file:
            writer = Writer(threads, file.fileno(), lambda: done.append("first"), seen.append, done.append)
            async with writer.running():
                for piece in pieces:
                    await writer.take(piece)

    anyio.run(write)
    whole = b"".join(pieces)
    assert (tmp_path / "part").read_bytes() == whole
    assert seen == pieces
    assert done[0] == "first"
    assert done[1:] == sorted(done[1:])  # type: ignore[type-var]
    assert done[-1] == len(whole)


def test_what_waits_for_a_slow_disk_is_bounded(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    disk = threading.Event()

    async def write() -> None:
        with (tmp_path / "part").open("xb", buffering=0) as file:
            writer = Writer(threads, file.fileno(), disk.wait, lambda piece: None, lambda written: None)
            async with writer.running(), anyio.create_task_group() as group:

                async def flood() -> None:
                    for _ in range(100):
                        await writer.take(bytes(PIECE))

                group.start_soon(flood)
                await anyio.wait_all_tasks_blocked()
                assert writer.taken == PIECE + BATCH
                disk.set()

    anyio.run(write)
    assert (tmp_path / "part").stat().st_size == 100 * PIECE


def test_a_disk_that_fails_ends_the_download(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    (tmp_path / "part").touch()
    told: list[int] = []

    async def write() -> None:
        with (tmp_path / "part").open("rb", buffering=0) as file:  # which cannot be written to
            writer = Writer(threads, file.fileno(), lambda: None, lambda piece: None, told.append)
            async with writer.running():
                await writer.take(b"one")

    with pytest.raises(OSError, match="descriptor") as failed:
        anyio.run(write)
    assert failed.value.errno == errno.EBADF
    assert told == []


def test_nothing_is_written_after_the_download_was_cut_off(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    disk = threading.Event()
    seen: list[bytes] = []

    async def write() -> None:
        with (tmp_path / "part").open("xb", buffering=0) as file:
            writer = Writer(threads, file.fileno(), disk.wait, seen.append, lambda written: None)
            async with writer.running():
                await writer.take(b"begun")
                await writer.take(b"waiting")
                threading.Timer(0.05, disk.set).start()
                raise ConnectionError

    with pytest.raises(ConnectionError):
        anyio.run(write)
    assert seen == [b"begun"]
    assert (tmp_path / "part").read_bytes() == b"begun"
