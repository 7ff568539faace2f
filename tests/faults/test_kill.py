"""SIGKILL at the worst moments: what is served afterwards is whole, or fetched again."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import count
from typing import Final

import httpx
import pytest

from tests.support import http
from tests.support.command import run
from tests.support.index import PIP
from tests.support.inside import checked_records, parts, processes, until
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.tally import tally
from tests.support.upstream import Request, Response, Upstream

pytestmark = pytest.mark.alone

BODY = bytes(range(256)) * 4000
HALF = len(BODY) // 2
CLIENTS = 16
LENGTH = {"Content-Length": str(len(BODY))}
USER: Final = ("user", "secret")
PAUSE: Final = 0.25
"""Seconds between kills, at most."""


def received(answer: httpx.Response, wanted: int) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes of an answer, at least so many, and what goes on from there."""
    chunks, found = answer.iter_raw(), b""
    while len(found) < wanted:
        found += next(chunks)
    return found, chunks


@pytest.mark.parametrize("after", [2, HALF, len(BODY)])
@pytest.mark.parametrize("headers", [{}, LENGTH], ids=["chunked", "length"])
def test_a_kill_in_the_middle_leaves_nothing(
    headers: dict[str, str], after: int, upstream: Upstream, mirror: Callable[..., Mirror]
) -> None:
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


def test_a_kill_in_a_storm_of_downloads(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
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


def test_a_worker_dies_while_another_follows_its_download(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
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


def test_a_worker_that_dies_is_replaced(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
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


def test_workers_that_die_together_are_replaced(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """All of them: none is lost in the moment in which another is replaced."""
    upstream.pages["/file"] = BODY
    running: Mirror = mirror("--workers", "4")
    workers = _workers(running)
    assert len(workers) == 4
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    until(lambda: not running.running or len(_workers(running) - workers) == 4, "four new workers")
    until(lambda: not running.running or _is_ready(running), "one of them to listen")
    assert http.get(running.pin("after", f"{upstream.url}/file")).content == BODY
    running.kill()  # those that are still starting would not hear a SIGTERM


def test_workers_do_not_outlive_the_server(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """If only the main process is killed, the port becomes free, and the next start serves what was frozen."""
    upstream.pages["/file"] = BODY
    running: Mirror = mirror("--workers", "2")
    address = running.pin("kept", f"{upstream.url}/file")
    assert http.get(address).content == BODY
    assert running.process is not None
    workers = _workers(running)
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()
    try:
        until(lambda: not set(processes(running)) & workers, "the end of the workers")
    finally:
        for worker in workers & set(processes(running)):
            os.kill(worker, signal.SIGKILL)
        running.process = None
    upstream.stop()
    running.start()
    assert http.get(address).content == BODY


class Load:
    """Clients that ask for all kinds of things at once, and hold the mirror to what any of them has had whole."""

    def __init__(self, running: Mirror, upstream: Upstream, private: Upstream, pypi: PyPI, seed: int) -> None:
        """Upstreams that answer each request with other bytes."""
        self.running, self.pypi = running, pypi
        self.upstream, self.private = upstream, private
        self.whole: dict[str, bytes] = {}
        self.answers: Counter[int] = Counter()
        self._over = threading.Event()
        self._numbers = count()
        self._seed = seed
        self._lock = threading.Lock()
        upstream.otherwise = private.otherwise = self._page

    def _page(self, request: Request) -> Response:
        body = f"{request.path} {next(self._numbers)}\n".encode() * random.choice([1, 100, 20_000])
        if request.path.startswith("/chunked"):
            return Response([body[at : at + 65536] for at in range(0, len(body), 65536)])
        return Response(body)

    def publish(self, number: int) -> str:
        """A project that is new on the registry."""
        name = f"project-{number}"
        self.pypi.upload(wheel(name, "1.0"), "2024-01-01T00:00:00Z")
        return name

    def _addresses(self, dice: random.Random) -> Iterator[str]:
        """Something new, or what somebody has asked for before."""
        at = self.running
        asked: list[str] = []
        while not self._over.is_set():
            number = dice.randrange(1 << 40)
            if asked and dice.random() < 0.3:
                yield dice.choice(asked)
                continue
            kind = dice.choice(["file", "chunked", "same", "private", "dated"])
            if kind == "dated":
                address = f"{at.at('2024-01-02')}{self.publish(number)}/"
            else:
                address = at.pin(
                    "load-2024-01-02", f"{(self.private if kind == 'private' else self.upstream).url}/{kind}/{number}"
                )
            asked.append(address)
            yield address

    def ask(self, client: httpx.Client, address: str) -> None:
        """One request; what has been whole must be the same."""
        auth = USER if "/private/" in address else None
        try:
            answer = client.get(address, headers={"Accept": PIP if "/2024-01-02/" in address else "*/*"}, auth=auth)
        except httpx.TransportError:
            self.answers[0] += 1
            self._over.wait(0.02)  # there may be nobody who listens
            return
        self.answers[answer.status_code] += 1
        if answer.status_code == 200:
            assert self.whole.setdefault(address, answer.content) == answer.content, address
        else:
            assert answer.status_code >= 500, (answer.status_code, answer.text)

    def run(self, thread: int) -> None:
        """One client, until `stop`."""
        with httpx.Client(timeout=60, trust_env=False) as client:
            for address in self._addresses(random.Random(self._seed + thread)):
                self.ask(client, address)

    def stop(self) -> None:
        """Let the clients end."""
        self._over.set()


@pytest.mark.parametrize("kills", [200, pytest.param(3000, marks=pytest.mark.soak)])
def test_kills_at_random_instants(
    kills: int, upstreams: Callable[..., Upstream], pypi: PyPI, mirror: Callable[..., Mirror]
) -> None:
    """Workers, and now and then all processes at once, while six clients ask for everything there is."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    running: Mirror = mirror(pypi, "--workers", "3")
    load = Load(running, upstreams(), upstreams(auth=USER), pypi, seed)
    with ThreadPoolExecutor(6) as pool:
        clients = [pool.submit(load.run, thread) for thread in range(6)]
        try:
            for _ in range(kills):
                threading.Event().wait(dice.random() * PAUSE)  # the instant of the kill, not a wait for anything
                _kill_something(running, dice)
                assert not any(client.done() for client in clients)
        finally:
            load.stop()
        for client in clients:
            client.result(120)
    tally("kills at random instants", kills)
    tally("right answers between kills", load.answers[200])
    assert load.answers[200] > kills // 2
    assert load.answers[0] > 0, "no kill was in the middle of anything"
    running.kill()
    records = checked_records(running.data)
    verified = run("verify", "--data", running.data)
    assert verified.returncode == 0, verified
    assert len(records) >= sum("://127" in address.partition("2024-01-02")[2] for address in load.whole)
    _check_offline(running, load)
    assert "Traceback" not in running.log()


def _kill_something(running: Mirror, dice: random.Random) -> None:
    """One worker; in one of ten cases everything. Then start the server if it is gone, as a service manager does."""
    workers = sorted(_workers(running)) if running.running else []
    if workers and dice.random() < 0.9:
        with suppress(ProcessLookupError):
            os.kill(dice.choice(workers), signal.SIGKILL)
    else:
        running.kill()
    if not running.running:
        running.kill()
        running.start()


def _check_offline(running: Mirror, load: Load) -> None:
    """All that any client had whole is there, without upstreams."""
    running.start("--offline")
    again = dict(load.whole)
    with httpx.Client(timeout=60, trust_env=False) as client:
        load.answers.clear()
        for address in again:
            load.ask(client, address)
    assert load.answers == {200: len(again)}


def _workers(running: Mirror) -> set[int]:
    """The processes that answer."""
    assert running.process is not None
    return set(processes(running)) - {running.process.pid}


def _is_ready(running: Mirror) -> bool:
    try:
        return http.get(f"{running.url}/-/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False
