"""A process that hangs, stopped while it holds a lock or leads a download: the others answer within a bound."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import httpx
import pytest

from httpcache.freezing.downloads import HUNG
from httpcache.store.locks import PATIENCE
from tests.support import http
from tests.support.index import ask, instant
from tests.support.inside import until
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI
from tests.support.upstream import Response, Upstream

pytestmark = pytest.mark.alone

DATE: Final = "2024-01-02"
BOUND: Final = 2 * PATIENCE + 10
"""Seconds that any answer may take: a lock of this process and one of SQLite, on a busy machine."""

# Takes a lock of the folder and stops; goes on at SIGCONT.
HOLDER: Final = """
import fcntl, os, signal, sqlite3, sys
from math import inf
from pathlib import Path
from httpcache.store.generation import Generation
folder, kind = Path(sys.argv[1]), sys.argv[2]
if kind == "changes":
    with Generation(folder / "index" / "changes").change(inf):
        os.kill(os.getpid(), signal.SIGSTOP)
elif kind == "sqlite":
    with sqlite3.connect(folder / "index" / "index.db", isolation_level=None) as database:
        database.execute("BEGIN IMMEDIATE")
        os.kill(os.getpid(), signal.SIGSTOP)
        database.execute("ROLLBACK")
else:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def here(tmp_path: Path, pypi: PyPI) -> Iterator[Mirror]:
    pypi.upload(wheel("known", "1.0"), "2023-01-01T00:00:00Z")
    started = Mirror(tmp_path / "mirror", pypi.url).start()
    try:
        yield started
        started.stop()
    finally:
        started.kill()


def stopped(folder: Path, kind: str) -> subprocess.Popen[bytes]:
    """A process that holds a lock and has stopped."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, folder, kind])
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    return process


@pytest.mark.parametrize("kind", ["changes", "sqlite", "lock"])
def test_a_lock_that_nobody_lets_go_of(here: Mirror, pypi: PyPI, upstream: Upstream, kind: str) -> None:
    """Hits go on; what has to write is a 503 with Retry-After in time, for however many; then all is well again."""
    for number in range(8):
        upstream.pages[f"/{number}"] = b"%d" % number * 20_000  # no small ones: these need no lock
        pypi.upload(wheel(f"new{number}", "1.0"), "2023-01-01T00:00:00Z")
    hits = [here.pin(f"hung-{DATE}", f"{upstream.url}/0"), f"{here.at(DATE)}known/"]
    before = [ask(hit, JSON).content for hit in hits]
    at = instant()
    holder = stopped(here.data, kind)
    try:
        fetches = [here.pin(f"hung-{DATE}", f"{upstream.url}/{number}") for number in range(1, 8)]
        dates = [f"{here.at(at)}new{number}/" for number in range(8)]
        wanted = {"changes": dates, "sqlite": fetches + dates, "lock": fetches}[kind]
        began = time.monotonic()
        with ThreadPoolExecutor(len(wanted)) as pool:
            asked = [pool.submit(answer, address) for address in wanted]
            while not all(each.done() for each in asked):
                assert [ask(hit, JSON).content for hit in hits] == before
        assert {each.result() for each in asked} <= {503, None}, kind
        # A file is sent as it arrives, so what has begun breaks off; a page of a date has not begun.
        assert kind == "lock" or any(each.result() == 503 for each in asked), kind
        assert time.monotonic() - began < BOUND
    finally:
        holder.send_signal(signal.SIGCONT)
    assert holder.wait(30) == 0
    assert [answer(address) for address in wanted] == [200] * len(wanted)
    assert [ask(hit, JSON).content for hit in hits] == before


def answer(address: str) -> int | None:
    """The status of an answer, None where its connection breaks before the end; a 503 says when to come back."""
    try:
        found = httpx.get(address, timeout=BOUND, trust_env=False)
    except httpx.RemoteProtocolError:
        return None
    assert found.status_code == 200 or "retry-after" in found.headers, found.text
    return found.status_code


@pytest.mark.parametrize("begun", [False, True], ids=["before the head", "in the body"])
def test_a_download_whose_process_hangs(tmp_path: Path, upstream: Upstream, begun: bool) -> None:
    """Another process takes it over; the one that hung has the same bytes when it comes back."""
    one, other = (Mirror(tmp_path / name) for name in ("one", "other"))
    other.data = one.data
    go = threading.Event()
    body = b"x" * 100_000

    def slow() -> Iterator[object]:
        if begun:
            yield body[:50_000]
        yield go
        yield body[50_000:] if begun else body

    kind = {"Content-Type": "application/octet-stream"}  # no page, which would be waited for
    upstream.pages["/file"] = lambda request: Response(slow(), 200, {**kind, "Content-Length": str(len(body))})
    path = f"/hung-{DATE}/{upstream.url}/file"
    try:
        one.start()
        other.start()
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(answer, one.url + path)
            upstream.wait("/file")
            if begun:
                until(
                    lambda: any(part.stat().st_size for part in (one.data / "spool").glob("*.part")),
                    "a part with bytes",
                )
            assert one.process is not None
            os.killpg(one.process.pid, signal.SIGSTOP)
            upstream.pages["/file"] = Response(body, 200, kind)
            began = time.monotonic()
            found = answer(other.url + path)
            if begun:  # what had begun cannot go on with other bytes
                assert found is None
                found = answer(other.url + path)
            assert found == 200
            assert time.monotonic() - began < 2 * HUNG + 10
            os.killpg(one.process.pid, signal.SIGCONT)
            go.set()
            assert first.result(60) in (200, None, 502, 503)
        for mirror in (one, other):
            assert http.get(mirror.url + path).content == body
        assert not list((one.data / "spool").glob("*.lock"))
        one.stop()
        other.stop()
    finally:
        go.set()
        one.kill()
        other.kill()
