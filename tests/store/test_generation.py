"""The count of changes: no two states of the index have the same one, whoever writes and wherever a writer ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from math import inf
from pathlib import Path

import anyio
import pytest

from httpcache.store.generation import SIZE, Generation
from httpcache.store.local import LocalStore

WRITERS = 6
EACH = 200

# Changes the file `value` inside of the block; the argument says how often, and at which time it is killed.
WRITER = """
import os, signal, sys
from math import inf
from pathlib import Path
from httpcache.store.generation import Generation
folder, times, killed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
changes = Generation(folder / "changes")
for number in range(times):
    with changes.change(inf):
        value = int((folder / "value").read_text() or 0)
        (folder / "value").write_text(str(value + 1))
        if number == killed:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def writer(folder: Path, times: int, killed: int = -1) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, folder, str(times), str(killed)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "value").write_text("")
    return tmp_path


@pytest.fixture
def generation(folder: Path) -> Iterator[Generation]:
    with closing(Generation(folder / "changes")) as opened:
        yield opened


def test_it_is_none_inside_and_another_number_after_each_change(generation: Generation) -> None:
    before = generation.value()
    with generation.change(inf):
        assert generation.value() is None
    after = generation.value()
    with pytest.raises(KeyError), generation.change(inf):
        raise KeyError
    assert len({before, after, generation.value(), None}) == 4


def test_processes_that_make_the_file_and_change_at_once(folder: Path) -> None:
    running = [writer(folder, EACH) for _ in range(WRITERS)]
    assert [each.wait() for each in running] == [0] * WRITERS
    assert (folder / "value").read_text() == str(WRITERS * EACH)
    with closing(Generation(folder / "changes")) as generation:
        assert generation.value() == 2 * WRITERS * EACH


def test_a_count_that_stays_means_that_nothing_has_changed(generation: Generation, folder: Path) -> None:
    done = threading.Event()
    values = folder / "value"

    def look() -> int:
        same = 0
        while not done.is_set():
            before = generation.value()
            first, second = values.read_text(), values.read_text()
            if before is not None and generation.value() == before:
                assert first == second
                same += 1
        return same

    with ThreadPoolExecutor(1) as threads:
        looking = threads.submit(look)
        running = [writer(folder, EACH) for _ in range(2)]
        try:
            assert [each.wait() for each in running] == [0, 0]
        finally:
            done.set()
        assert looking.result() > 0


def test_a_writer_that_is_killed_leaves_no_count_and_no_lock(generation: Generation, folder: Path) -> None:
    before = generation.value()
    killed = writer(folder, EACH, killed=EACH // 2)
    assert killed.wait() == -signal.SIGKILL
    assert generation.value() is None
    with closing(Generation(folder / "changes")) as another:
        assert another.value() is None
        with another.change(inf):
            pass
    assert generation.value() not in (None, before)
    assert generation.value() == 2 * (EACH // 2 + 1)


def test_who_has_another_file_changes_nothing(generation: Generation, folder: Path) -> None:
    path = folder / "changes"
    path.unlink()
    with pytest.raises(FileNotFoundError), generation.change(inf):
        raise AssertionError
    with closing(Generation(path)) as another:
        with pytest.raises(OSError, match="replaced"), generation.change(inf):
            raise AssertionError
        with another.change(inf):
            pass


def test_the_store_tells_of_changes_after_one_that_was_cut_off(tmp_path: Path) -> None:
    async def work(store: LocalStore, other: LocalStore) -> None:
        await other.add("r/a", b"first")
        path = tmp_path / "index" / "changes"
        count = int.from_bytes(path.read_bytes(), sys.byteorder)
        path.write_bytes((count + 1).to_bytes(SIZE, sys.byteorder))  # as it is left
        cut = store.generation()
        assert (store.generation(), other.generation()) == (cut, other.generation())
        await other.remove("r/a")
        after = store.generation()
        assert after not in (cut, count)
        assert store.generation() == after
        await store.add("r/a", b"second")
        assert store.generation() not in (cut, count, after)
        assert os.stat(path).st_size == SIZE

    with closing(LocalStore(tmp_path)) as store, closing(LocalStore(tmp_path)) as other:
        anyio.run(work, store, other)
