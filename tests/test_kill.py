"""SIGKILL at the worst moments: what is served afterwards is whole, or fetched again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import count

import httpx
import pytest

from tests.support import http
from tests.support.inside import checked_records, parts, processes, until
from tests.support.mirror import Mirror
from tests.support.upstream import Request, Response, Upstream

BODY = bytes(range(256)) * 4000
HALF = len(BODY) // 2
CLIENTS = 16
LENGTH = {"Content-Length": str(len(BODY))}


def received(answer: httpx.Response, wanted: int) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes of an answer, at least so many, and what goes on from there."""
    chunks, found = answer.iter_raw(), b""
    while len(found) < wanted:
        found += next(chunks)
    return found, chunks


@pytest.mark.parametrize("after", [2, HALF, len(BODY)])
@pytest.mark.parametrize("headers", [{}, LENGTH], ids=["chunked", "length"])
def test_a_kill_in_the_middle_leaves_nothing(headers: dict[str, str], after: int, upstream: Upstream, mirror) -> None:
    """`after`: the bytes that the upstream has sent; all of them, but not the end of the chunks, is not the whole."""
    release = threading.Event()
    rest = [release, BODY[after:]] if after < len(BODY) or not headers else [BODY[:0]]
    upstream.pages["/file"] = Response([BODY[:after], *rest], headers=headers)
    running: Mirror = mirror()
    address = running.pin("kill", f"{upstream.url}/file")
    whole = after == len(BODY) and bool(headers)
    with http.stream("GET", address) as answer:
        # The last byte that came waits for the record, so one less can be read.
        start, chunks = received(answer, after if whole else max(after - 1, 0))
        running.kill()
        if whole:
            assert start == BODY
        else:
            assert len(start) < len(BODY)
            with pytest.raises(httpx.TransportError):
                b"".join(chunks)
    release.set()
    assert len(checked_records(running.data)) == int(whole)
    other = bytes(reversed(BODY))
    upstream.pages["/file"] = other
    running.start()
    assert list((running.data / "spool").iterdir()) == []
    assert http.get(address).content == (BODY if whole else other)
    running.stop()
    assert len(checked_records(running.data)) == 1


def test_a_kill_in_a_storm_of_downloads(upstream: Upstream, mirror) -> None:
    """What a client had whole before the kill is the same after it, whatever the upstream says by then."""
    body = os.urandom(100_000)
    upstream.otherwise = lambda request: Response(request.path.encode() + body)
    running: Mirror = mirror("--workers", "2")
    whole: dict[str, bytes] = {}
    enough = threading.Event()

    def fetch(numbers: Iterator[int]) -> None:
        with httpx.Client(timeout=60) as client, suppress(httpx.TransportError):
            for number in numbers:
                address = running.pin("storm", f"{upstream.url}/{number}")
                answer = client.get(address)
                if answer.status_code == 200:
                    whole[address] = answer.content
                if len(whole) >= 30:
                    enough.set()

    with ThreadPoolExecutor(8) as pool:
        threads = pool.map(lambda thread: fetch(count(thread, 8)), range(8))
        assert enough.wait(60)
        running.kill()
        list(threads)
    assert len(checked_records(running.data)) >= len(whole) >= 30
    upstream.stop()
    running.start("--offline")
    with httpx.Client() as client:
        assert {address: client.get(address).content for address in whole} == whole


def test_a_worker_dies_while_another_follows_its_download(upstream: Upstream, mirror) -> None:
    """Every client sees a break, none a short success; nothing is kept; afterwards the file can be had."""
    asked: list[int] = []

    def answer(_: Request) -> Response:
        asked.append(1)
        return Response([BODY[:HALF], release, BODY[HALF:]], headers=LENGTH) if len(asked) == 1 else Response(BODY)

    release = threading.Event()
    upstream.pages["/file"] = answer
    running: Mirror = mirror("--workers", "2")
    address = running.pin("kill", f"{upstream.url}/file")

    def roles() -> dict[bool, int]:
        """The process that writes a part, and one that only reads it."""
        found = {pid: list(parts(running, pid)) for pid in processes(running)}
        return {any(written): pid for pid, written in found.items() if written}

    def ends(response: httpx.Response) -> bytes | None:
        try:
            return response.read()
        except httpx.TransportError:
            return None

    with ExitStack() as stack, ThreadPoolExecutor(CLIENTS) as pool:
        answers: list[httpx.Response] = []
        while len(roles()) < 2:  # the kernel deals connections out: ask until both workers have one
            assert len(answers) < 100
            answers.append(stack.enter_context(http.stream("GET", address)))
        os.kill(roles()[True], signal.SIGKILL)
        assert set(pool.map(ends, answers)) == {None}
    release.set()
    until(lambda: not running.running or _is_ready(running), "the next worker")
    if not running.running:
        running.kill()
        running.start()
    assert http.get(address).content == BODY
    running.stop()
    assert [record.size for record in checked_records(running.data)] == [len(BODY)]


def test_a_worker_that_dies_is_replaced(upstream: Upstream, mirror) -> None:
    """One process that the kernel kills for its memory must not end the service."""
    upstream.pages["/file"] = BODY
    running: Mirror = mirror()
    assert running.process is not None
    workers = set(processes(running)) - {running.process.pid}
    assert workers, "the server answers in its main process: kill that instead"
    victim = max(workers)
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in processes(running), "the end of the worker")
    until(lambda: not running.running or _is_ready(running), "the next worker")
    if not running.running:
        running.kill()
        pytest.fail(f"one worker's death ended the server:\n{running.log()}")
    assert http.get(running.pin("after", f"{upstream.url}/file")).content == BODY


def _is_ready(running: Mirror) -> bool:
    try:
        return http.get(f"{running.url}/-/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False
