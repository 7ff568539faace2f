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

from httpcache.freezing.writer import AT_ONCE, BATCH, SYNCED, WAITING, Writer

PIECE = AT_ONCE + 1  # a first piece of this size is left to the thread


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


@pytest.mark.parametrize(("size", "is_at_once"), [(1, True), (AT_ONCE, True), (AT_ONCE + 1, False)])
def test_only_a_small_first_piece_is_written_without_a_thread(
    tmp_path: Path, threads: ThreadPoolExecutor, size: int, is_at_once: bool
) -> None:
    """And the thread may be as busy as it likes meanwhile: the client has the first bytes."""
    writers: list[int] = []
    told: list[int] = []
    piece = os.urandom(size)

    async def write() -> None:
        with (tmp_path / "part").open("xb", buffering=0) as file:
            writer = Writer(
                threads, file.fileno(), None, lambda piece: writers.append(threading.get_ident()), told.append
            )
            async with writer.running():
                await writer.take(piece)
                assert (told == [size]) is is_at_once
                await writer.take(piece)

    anyio.run(write)
    assert [thread == threading.get_ident() for thread in writers] == [is_at_once, False]
    assert told[-1] == 2 * size
    assert (tmp_path / "part").read_bytes() == 2 * piece


@pytest.mark.parametrize("count", [1, 2, 2 * WAITING // BATCH])
def test_what_waits_for_a_slow_disk_is_bounded(tmp_path: Path, threads: ThreadPoolExecutor, count: int) -> None:
    disk = threading.Event()
    parts = [tmp_path / f"part-{number}" for number in range(count)]
    writers: list[Writer] = []

    async def flood(part: Path) -> None:
        with part.open("xb", buffering=0) as file:
            writer = Writer(threads, file.fileno(), disk.wait, lambda piece: None, lambda written: None)
            writers.append(writer)
            async with writer.running():
                for _ in range(50):
                    await writer.take(bytes(PIECE))

    async def write() -> None:
        async with anyio.create_task_group() as group:
            for part in parts:
                group.start_soon(flood, part)
            await anyio.wait_all_tasks_blocked()
            try:
                waiting = sum(writer.taken - PIECE for writer in writers)
                assert 0.9 * min(count * BATCH, WAITING) < waiting <= min(count * BATCH, WAITING) + count * PIECE
            finally:
                disk.set()

    anyio.run(write)
    assert {part.stat().st_size for part in parts} == {50 * PIECE}


@pytest.mark.parametrize("size", [1, PIECE])
def test_a_disk_that_fails_ends_the_download(tmp_path: Path, threads: ThreadPoolExecutor, size: int) -> None:
    (tmp_path / "part").touch()
    told: list[int] = []

    async def write() -> None:
        with (tmp_path / "part").open("rb", buffering=0) as file:  # which cannot be written to
            writer = Writer(threads, file.fileno(), lambda: None, lambda piece: None, told.append)
            async with writer.running():
                await writer.take(bytes(size))

    with pytest.raises(OSError, match="descriptor") as failed:
        anyio.run(write)
    assert failed.value.errno == errno.EBADF
    assert told == []


def test_the_disk_is_asked_while_the_body_comes(
    tmp_path: Path, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that does not end bounds what it has yet to write, and with it what is left to do at the end."""
    disk = threading.Event()
    written: list[int] = []

    def fdatasync(fd: int) -> None:
        written.append(os.fstat(fd).st_size)
        disk.wait()

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    size = 5 * SYNCED

    async def write() -> None:
        reached = anyio.Event()
        with (tmp_path / "part").open("xb", buffering=0) as file:
            writer = Writer(threads, file.fileno(), None, lambda piece: None, lambda written: None)
            async with writer.running(), anyio.create_task_group() as group:

                async def flood() -> None:
                    for number in range(size // BATCH):
                        if (number + 1) * BATCH == 3 * SYNCED:
                            reached.set()
                        await writer.take(bytes(BATCH))

                group.start_soon(flood)
                try:
                    with anyio.fail_after(60):
                        await reached.wait()
                    await anyio.sleep(0.1)
                    assert writer.taken <= written[0] + 2 * SYNCED + BATCH
                finally:
                    disk.set()

    anyio.run(write)
    assert (tmp_path / "part").stat().st_size == size
    assert written[0] >= SYNCED
    assert size - written[-1] < 2 * SYNCED


@pytest.mark.parametrize("size", [SYNCED, 2 * SYNCED])
def test_a_fault_that_the_disk_tells_of_late_ends_the_download(threads: ThreadPoolExecutor, size: int) -> None:
    reading, writing = os.pipe()  # no disk: it takes all, and cannot be asked for it

    def drain() -> None:
        while os.read(reading, 1 << 20):
            pass

    async def write() -> None:
        writer = Writer(threads, writing, None, lambda piece: None, lambda written: None)
        async with writer.running():
            for _ in range(size // BATCH):
                await writer.take(bytes(BATCH))

    with ThreadPoolExecutor(1) as other:
        drained = other.submit(drain)
        try:
            with pytest.raises(OSError, match="argument") as failed:
                anyio.run(write)
        finally:
            os.close(writing)
        drained.result()
    os.close(reading)
    assert failed.value.errno == errno.EINVAL


def test_nothing_is_written_after_the_download_was_cut_off(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    disk = threading.Event()
    seen: list[bytes] = []
    begun = bytes(PIECE)

    async def write() -> None:
        with (tmp_path / "part").open("xb", buffering=0) as file:
            writer = Writer(threads, file.fileno(), disk.wait, seen.append, lambda written: None)
            async with writer.running():
                await writer.take(begun)
                await writer.take(b"waiting")
                threading.Timer(0.05, disk.set).start()
                raise ConnectionError

    with pytest.raises(ConnectionError):
        anyio.run(write)
    assert seen == [begun]
    assert (tmp_path / "part").read_bytes() == begun
