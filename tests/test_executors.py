"""Executors that have all their threads before there is work."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from httpcache.executors import prestarted_executor, shut_down

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[1]

# As another user, who may have no thread more than there are.
LIMITED = """
import os, resource
from httpcache.errors import StoreError
from httpcache.executors import prestarted_executor
ready = prestarted_executor(2, "early")
os.setuid(54321)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
assert [ready.submit(int, number).result() for number in range(9)] == list(range(9))
try:
    prestarted_executor(2, "late")
except StoreError as error:
    print(error.text)
"""


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("five_")]


def test_all_threads_are_there() -> None:
    with prestarted_executor(5, "five") as executor:
        there = sorted(names())
        assert len(there) == 5
        assert executor.submit(lambda: threading.current_thread().name).result() in there
        assert sorted(names()) == there
    assert names() == []


def test_each_thread_ends_with_the_last_work() -> None:
    """Also where one of them has work to do until then."""
    executor, done = prestarted_executor(5, "five"), list[str]()
    executor.submit(time.sleep, 0.1)
    there = sorted(names())
    shut_down(executor, 5, lambda: done.append(threading.current_thread().name))
    assert sorted(done) == there
    assert names() == []


def test_a_mistake_in_the_last_work_is_told() -> None:
    with pytest.raises(ZeroDivisionError):
        shut_down(prestarted_executor(5, "five"), 5, lambda: 1 / 0)
    assert names() == []


EXITING = """
import threading
from contextlib import suppress
from httpcache.executors import prestarted_executor, shut_down
executor = prestarted_executor(3, "three")
def late():
    with suppress(RuntimeError):
        while True:
            executor.submit(int).result()
    shut_down(executor, 3, lambda: print("closed"))
    print("went on")
threading.Thread(target=late).start()
"""


def test_an_interpreter_that_exits_has_ended_the_threads_before() -> None:
    """The threads of all executors are joined first; then there is nobody to do the last work, and nobody waits."""
    done = subprocess.run(
        [sys.executable, "-c", EXITING], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a user with a limit")
def test_where_the_system_has_none_left_it_is_told_at_the_start() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "cannot start more threads" in done.stdout
