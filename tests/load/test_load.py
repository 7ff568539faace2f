"""The mirror among bad clients: slow, silent, endless or gone, hundreds at once, and the honest ones between them."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest

from httpcache.command.ending import GRACE_SECONDS
from tests.support import badclients as bad
from tests.support import http
from tests.support.badclients import Crowd, Watch, handles, held
from tests.support.clients import Clients
from tests.support.command import told
from tests.support.inside import checked_records, memory, processes, until
from tests.support.mirror import COMMAND, Mirror, free_port
from tests.support.tally import tally
from tests.support.upstream import Request, Response, Upstream

pytestmark = pytest.mark.alone

BODY: Final = os.urandom(10_000_000)
HALF: Final = len(BODY) // 2
LENGTH: Final = {"Content-Length": str(len(BODY))}
MEGABYTE: Final = 1_000_000

CROWD: Final = 300
TIMEOUT: Final = 30.0
"""Seconds that an honest client waits for the next bytes at most: less than most installers do."""
PER_FILE_READER: Final = 600_000
"""Bytes of memory that one slow reader of a whole frozen file may cost."""
PER_STREAM_READER: Final = 2 * MEGABYTE
"""Bytes of memory that one slow reader of a range, or of a live download, may cost."""
PER_IDLE: Final = 20_000
"""Bytes of memory that one idle connection may cost."""
POOLS: Final = 16
"""Handles that its own pools may take besides: a connection of SQLite for each of 8 threads, an idle upstream."""
REST: Final = 400 * MEGABYTE
"""Bytes of memory that may stay when all have gone: what the allocators keep for the next crowd, however often one
comes. It is between 100 and 250 MB after 300 slow readers."""


def honest(clients: Clients, address: str, body: bytes = BODY) -> None:
    """httpx and curl are given the whole and the right bytes."""
    assert http.get(address, timeout=TIMEOUT).content == body
    file = clients.place() / "file"
    clients.curl("-f", "--max-time", str(2 * TIMEOUT), "-o", file, address).checked()
    assert sha256(file.read_bytes()).digest() == sha256(body).digest()


def frozen(running: Mirror, upstream: Upstream) -> str:
    """The address of a file that is frozen."""
    upstream.pages["/frozen"] = BODY
    address = running.pin("load", f"{upstream.url}/frozen")
    assert http.get(address).content == BODY
    return address


@contextmanager
def halfway(running: Mirror, upstream: Upstream) -> Iterator[tuple[str, threading.Event]]:
    """The address of a file that is half downloaded, and what lets the other half come."""
    release = threading.Event()
    upstream.pages["/live"] = Response([BODY[:HALF], release, BODY[HALF:]], headers=LENGTH)
    address = running.pin("load", f"{upstream.url}/live")
    with http.stream("GET", address) as first:
        next(first.iter_raw())
        try:
            yield address, release
        finally:
            release.set()


def at_rest(running: Mirror) -> tuple[int, int]:
    """Its handles and its memory when nobody is there."""
    until(lambda: held(running) == 0, "all handles to be given back")
    return handles(running), memory(running)


def gone(running: Mirror, level: int, before: int) -> None:
    """All handles have come back, and the memory; the threads of the store and the pool of upstreams may have grown."""
    until(lambda: held(running) == 0 and handles(running) <= level + POOLS, "all handles to be given back")
    until(lambda: memory(running) < before + REST, "the memory to be given back")


# Readers


def all_have_some(crowds: Sequence[Crowd]) -> bool:
    """Whether every crowd has taken some bytes."""
    return all(crowd.turns > 2 for crowd in crowds)


def test_slow_readers_of_a_frozen_file(upstream: Upstream, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """300 take a few bytes now and then, of whole files and ranges: others are served. Twice, for what might stay."""
    running: Mirror = mirror()
    address = frozen(running, upstream)
    level, before = at_rest(running)
    ways = bad.openings(address, seed=1)
    for _ in range(2):
        with ExitStack() as stack:
            seen = stack.enter_context(Watch(running))
            crowds = [
                stack.enter_context(Crowd(running, CROWD // len(ways), way, bad.nibble, bad.TINY)) for way in ways
            ]
            honest(clients, address)
            until(partial(all_have_some, crowds), "the slow ones to take some bytes")
            assert [crowd.dropped for crowd in crowds] == [0] * len(ways)
        per_client = (PER_FILE_READER + 3 * PER_STREAM_READER) // 4
        assert seen.memory - before < CROWD * per_client + REST
        assert seen.held <= 2 * (CROWD + 1), "a client holds more than its socket and one file"
        gone(running, level, before)
    tally("bad clients survived", 2 * CROWD)


def test_slow_readers_of_a_live_download(upstream: Upstream, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """300 take a few bytes now and then of a file that is still coming: it comes as fast as the upstream sends it."""
    running: Mirror = mirror()
    frozen(running, upstream)
    level, before = at_rest(running)
    with halfway(running, upstream) as (address, release), Watch(running) as seen, ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(1))
        crowd = stack.enter_context(Crowd(running, CROWD, bad.request(address), bad.nibble, bad.TINY))
        whole = pool.submit(honest, clients, address)
        until(lambda: crowd.turns > 2, "the slow ones to take some bytes")
        release.set()
        whole.result()
        assert crowd.dropped == 0
        assert http.get(address, timeout=TIMEOUT).content == BODY  # frozen, while they still read
    assert upstream.count("/live") == 1
    assert seen.memory - before < CROWD * PER_STREAM_READER + REST
    gone(running, level, before)
    tally("bad clients survived", CROWD)


@pytest.mark.parametrize("what", ["whole", "range", "live"])
def test_readers_that_stop_reading_are_cut_off(
    what: str, upstream: Upstream, mirror: Callable[..., Mirror], clients: Clients
) -> None:
    """They keep their connection and answer the kernel's questions, but take nothing: they hold a handle only so long.

    Cut off means that the server has nothing open for them any more, however long they stay.
    """
    running: Mirror = mirror("--client-timeout", "1")
    address = frozen(running, upstream)
    level, before = at_rest(running)
    with ExitStack() as stack:
        release: threading.Event | None = None
        if what == "live":
            address, release = stack.enter_context(halfway(running, upstream))
        lines = ["Range: bytes=1-"] if what == "range" else []
        others = held(running)  # the download, and the client that began it
        late = stack.enter_context(bad.connect(running, bad.TINY))
        late.sendall(bad.request(address, *lines))
        silent = stack.enter_context(Crowd(running, 100, bad.request(address, *lines), bad.nothing, bad.TINY))
        until(lambda: held(running) >= others + 100, "the silent ones to be answered")
        until(lambda: held(running) <= others, "the silent ones to be cut off")
        assert silent.dropped == 0, "they left by themselves"
        assert len(bad.answered(late)) < HALF, "one that reads on after all gets a break, not the rest"
        if release is not None:
            release.set()
        honest(clients, address)
    gone(running, level, before)
    tally("bad clients survived", 100)


def test_a_client_that_is_slow_and_not_silent_is_served(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """The time between two bytes is bounded, not the time of a download: this one takes three times as long."""
    running: Mirror = mirror("--client-timeout", "1")
    address = frozen(running, upstream)
    pace, found = threading.Event(), bytearray()
    started = time.monotonic()
    with bad.connect(running, 65_536) as client:
        client.sendall(bad.request(address, "Connection: close"))
        while chunk := client.recv(len(BODY) // 30):
            found += chunk
            pace.wait(0.1 * len(chunk) / (len(BODY) // 30))
    assert bytes(found).endswith(BODY)
    assert time.monotonic() - started > 2.5, "the client was not slow: the test shows nothing"


# Clients that vanish


@pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])
def test_clients_that_vanish_in_the_middle(
    reset: bool, upstream: Upstream, mirror: Callable[..., Mirror], clients: Clients
) -> None:
    """250 of each kind, on whole files, ranges and a live download: the download goes on, every handle comes back."""
    running: Mirror = mirror()
    address = frozen(running, upstream)
    level, before = at_rest(running)
    with halfway(running, upstream) as (live, release), ThreadPoolExecutor(16) as pool:
        ways = [*bad.openings(address, seed=2), *bad.openings(live, seed=3)[:2]]
        counts = [1, 500, 3000, 100_000]
        chosen = [(ways[number % len(ways)], counts[number % len(counts)]) for number in range(250)]

        def leave(choice: tuple[bytes, int]) -> None:
            bad.vanish(running, choice[0], reset=reset, after=choice[1])

        assert len(list(pool.map(leave, chosen))) == 250
        honest(clients, address)
        assert not release.is_set()
    honest(clients, live)
    assert upstream.count("/live") == 1, "the download did not go on"
    gone(running, level, before)
    running.stop()
    assert len(checked_records(running.data)) == 2
    tally("bad clients survived", 250)


def test_clients_that_vanish_while_they_wait_for_the_upstream(
    upstream: Upstream, mirror: Callable[..., Mirror]
) -> None:
    """Nothing has been answered yet: the request goes on for those who stay, and nothing is held for those who left."""
    running: Mirror = mirror()
    frozen(running, upstream)
    (level, before), release = at_rest(running), threading.Event()

    def late(_: Request) -> Response:
        assert release.wait(30)
        return Response(BODY)

    upstream.pages["/late"] = late
    address = running.pin("load", f"{upstream.url}/late")
    with ThreadPoolExecutor(1) as pool:
        stays = pool.submit(http.get, address)
        upstream.wait("/late")
        for number in range(100):
            bad.vanish(running, bad.request(address), reset=number % 2 == 0, after=0)
        release.set()
        assert stays.result().content == BODY
    assert upstream.count("/late") == 1
    gone(running, level, before)
    tally("bad clients survived", 100)


# Requests


def test_heads_that_never_end(upstream: Upstream, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """300 that send half a head and wait, 300 that send one byte of it at a time, 300 that send nothing at all."""
    running: Mirror = mirror("--client-timeout", "3")
    address = frozen(running, upstream)
    level, before = at_rest(running)
    half = bad.request(address, ended=False)
    with (
        Crowd(running, CROWD, half, bad.nothing) as stuck,
        Crowd(running, CROWD, half + b"X: ", bad.dribble) as slow,
        Crowd(running, CROWD, b"", bad.nothing) as mute,
    ):
        until(lambda: held(running) >= 3 * CROWD, "all of them to be accepted")
        honest(clients, address)
        assert stuck.dropped + slow.dropped + mute.dropped < 3 * CROWD, "they had gone before: the test shows nothing"
        until(lambda: [stuck.dropped, slow.dropped, mute.dropped] == [CROWD] * 3, "all of them to be cut off")
        gone(running, level, before)
        honest(clients, address)
    tally("bad clients survived", 3 * CROWD)


def _oversized() -> dict[str, Callable[[str], bytes]]:
    """Heads of more than 16 KB, by what is too long in them."""
    return {
        "one header": lambda address: bad.request(address, "X: " + 20_000 * "x"),
        "many headers": lambda address: bad.request(address, *(f"X-{number}: {50 * 'x'}" for number in range(500))),
        "address": lambda address: bad.request(address + 20_000 * "x"),
        "method": lambda address: 20_000 * b"G" + bad.request(address),
        "megabytes": lambda address: bad.request(address, "X: " + 8_000_000 * "x"),
        "no line": lambda _: 20_000 * b"\0",
    }


@pytest.mark.parametrize("kind", _oversized())
def test_heads_that_are_too_large(kind: str, upstream: Upstream, limited: Mirror) -> None:
    """They are refused, or their connection ends; the server takes in no more of them than the limit."""
    address = limited.pin("load", f"{upstream.url}/asked")
    head, before = _oversized()[kind](address), memory(limited)
    for _ in range(20):
        with bad.connect(limited) as client:
            try:
                client.sendall(head)
            except ConnectionError:
                continue
            answer = bad.answered(client)
            assert answer == b"" or answer.split()[1] in (b"400", b"414", b"431"), answer[:100]
    assert memory(limited) - before < 20 * MEGABYTE
    assert upstream.requests == []
    tally("bad clients survived", 20)


def test_a_head_below_the_limit_is_read(upstream: Upstream, limited: Mirror) -> None:
    """14 KB of the 16 KB that are allowed: cookies and tokens of an honest client are not small."""
    upstream.pages["/file"] = b"whole"
    answer = http.get(limited.pin("load", f"{upstream.url}/file"), headers={"X": 14_000 * "x"})
    assert (answer.status_code, answer.content) == (200, b"whole")


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    """A mirror that reads heads of up to 16 KB."""
    running = Mirror(tmp_path_factory.mktemp("limited"), arguments=["--max-header", "16K"]).start()
    yield running
    try:
        running.stop()
    finally:
        running.kill()


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("what", ["own page", "frozen", "live", "missing"])
def test_requests_with_an_endless_body(what: str, method: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    """20 that pour at once: what they send goes nowhere, and others are answered."""
    upstream.pages["/frozen"] = BODY
    assert http.get(server.pin(pin, f"{upstream.url}/frozen")).content == BODY
    level, before = at_rest(server)
    with ExitStack() as stack:
        address = f"{server.url}/-/health" if what == "own page" else server.pin(pin, f"{upstream.url}/{what}")
        if what == "live":
            address, _ = stack.enter_context(halfway(server, upstream))
        opening = bad.request(address, "Transfer-Encoding: chunked", method=method)
        seen = stack.enter_context(Watch(server))
        crowd = stack.enter_context(Crowd(server, 20, opening, bad.pour))
        until(lambda: crowd.turns > 20 or crowd.dropped == 20, "them to pour")
        assert http.get(server.pin(pin, f"{upstream.url}/frozen"), timeout=TIMEOUT).content == BODY
    assert seen.memory - before < 20 * PER_STREAM_READER + REST
    gone(server, level, before)
    tally("bad clients survived", 20)


def test_requests_without_an_end_and_no_answer_taken(
    upstream: Upstream, mirror: Callable[..., Mirror], clients: Clients
) -> None:
    """50 pile up requests on one connection each and read nothing: the server takes no more than it has answered."""
    running: Mirror = mirror("--client-timeout", "3")
    address = frozen(running, upstream)
    level, before = at_rest(running)
    head = bad.request(address)
    with Crowd(running, 50, head, bad.pile(head), bad.TINY) as crowd, Watch(running) as seen:
        until(lambda: crowd.turns > 5, "them to pile up requests")
        honest(clients, address)
        until(lambda: crowd.dropped == 50, "them to be cut off")
    assert seen.memory - before < 50 * PER_FILE_READER + 100 * MEGABYTE
    assert seen.held <= 2 * (50 + 1)
    gone(running, level, before)
    tally("bad clients survived", 50)


# Limits


def test_thousands_of_idle_connections(upstream: Upstream, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """3000 have asked once and stay: each costs a handle and little memory."""
    count = 3000
    if not bad.room_for(count):
        pytest.skip("this process may not open so many files")
    running: Mirror = mirror()
    address = frozen(running, upstream)
    level, before = at_rest(running)
    with Crowd(running, count, bad.request(f"{running.url}/-/health"), bad.nothing) as idle:
        until(lambda: held(running) >= count, "all of them to be accepted")
        honest(clients, address)
        assert memory(running) - before < count * PER_IDLE + REST
        assert idle.dropped == 0
    gone(running, level, before)
    tally("bad clients survived", count)


def test_more_clients_than_allowed_wait_for_their_turn(
    upstream: Upstream, mirror: Callable[..., Mirror], clients: Clients
) -> None:
    """`--max-clients 50` and 200 idle ones: the 201st is served when their time is over; handles stay within bounds."""
    running: Mirror = mirror("--max-clients", "50", "--client-timeout", "1")
    address = frozen(running, upstream)
    level, before = at_rest(running)
    asked = bad.request(f"{running.url}/-/health")
    with Watch(running) as seen, Crowd(running, 200, asked, bad.nothing) as idle:
        until(lambda: held(running) >= 50, "the limit to be reached")
        honest(clients, address)
        until(lambda: idle.dropped == 200, "all of them to have had their turn")
    assert seen.held <= 2 * 50
    gone(running, level, before)
    tally("bad clients survived", 200)


def test_many_clients_of_one_first_download(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """60 clients on 2 workers, 50 MB, nothing frozen: one request, and memory that does not depend on the file."""
    size, part = 50 * MEGABYTE, os.urandom(MEGABYTE)
    upstream.pages["/large"] = lambda _: Response((part for _ in range(50)), headers={"Content-Length": str(size)})
    running: Mirror = mirror("--workers", "2")
    (_, before), address = at_rest(running), running.pin("load", f"{upstream.url}/large")

    with Watch(running) as seen, ThreadPoolExecutor(60) as pool:
        sums = list(pool.map(lambda _: bad.checksum(running, address), range(60)))
    assert set(sums) == {(size, zlib.crc32(part * 50))}
    assert upstream.count("/large") == 1
    assert seen.memory - before < 5 * size, "of the sixty copies that are on their way"
    tally("clients of one first download", 60)


def test_the_limit_of_open_files_is_raised(mirror: Callable[..., Mirror]) -> None:
    """The soft limit is for programs that use `select`; the mirror takes what the hard one allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        running: Mirror = mirror()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [bad.limit_of_files(pid) for pid in processes(running)] == [(hard, hard)] * len(processes(running))


def test_too_few_open_files_are_an_error_at_the_start(tmp_path: Path) -> None:
    """A worker that runs out of them later could neither accept nor refuse anybody."""
    command = f"ulimit -n 200; exec {COMMAND} serve --data {tmp_path / 'data'} --port {free_port()}"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert "may open only 200 files" in told(ran)


def test_a_killed_worker_refuses_nobody(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """Connections that come while no worker is there wait for the next one."""
    running: Mirror = mirror()
    address = frozen(running, upstream)
    assert running.process is not None
    worker = max(set(processes(running)) - {running.process.pid})
    with http.stream("GET", address):  # keeps it busy to the last moment
        os.kill(worker, signal.SIGKILL)
        waiting = [socket.create_connection(("127.0.0.1", running.port), timeout=TIMEOUT) for _ in range(50)]
    for client in waiting:
        client.sendall(bad.request(f"{running.url}/-/health", "Connection: close"))
    for client in waiting:
        with client:
            assert bad.answered(client).startswith(b"HTTP/1.1 200"), running.log()
    assert worker not in processes(running)
    assert http.get(address).content == BODY


def test_clients_that_stay_do_not_keep_it_from_stopping(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """100 idle ones, 100 in the middle of a head and 100 that take nothing: SIGTERM ends it before the last resort."""
    running: Mirror = mirror("--client-timeout", "1")
    address = frozen(running, upstream)
    half, asked = bad.request(address, ended=False), bad.request(f"{running.url}/-/health")
    with (
        Crowd(running, 100, half, bad.nothing),
        Crowd(running, 100, bad.request(address), bad.nothing, bad.TINY),
        Crowd(running, 100, asked, bad.nothing),
    ):
        until(lambda: held(running) >= 300, "all of them to be there")
        running.terminate()
        assert running.wait(GRACE_SECONDS - 5) == 0, running.log()
    tally("bad clients survived", 300)


# All of them


@pytest.mark.soak
def test_all_bad_clients_at_once(upstream: Upstream, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """SOAK_MINUTES (10) of everything above, mixed; honest clients all the time; memory and handles come back."""
    running: Mirror = mirror("--workers", "2", "--client-timeout", "5")
    address = frozen(running, upstream)
    level, before = at_rest(running)
    ends, rounds = time.monotonic() + 60 * float(os.environ.get("SOAK_MINUTES", "10")), 0
    while rounds < 2 or time.monotonic() < ends:
        with ThreadPoolExecutor(16) as pool, ExitStack() as stack:
            peak = _round(running, upstream, clients, address, rounds, pool, stack)
        rounds += 1
        gone(running, level, before)
        assert peak < 4 * CROWD * PER_STREAM_READER
    tally("rounds of the load soak", rounds)


def _round(
    running: Mirror,
    upstream: Upstream,
    clients: Clients,
    address: str,
    number: int,
    pool: ThreadPoolExecutor,
    stack: ExitStack,
) -> int:
    """One round of all bad clients with honest ones between them; the most memory that was seen."""
    release = threading.Event()
    name = f"/live-{number}"
    upstream.pages[name] = Response([BODY[:HALF], release, BODY[HALF:]], headers=LENGTH)
    live = running.pin("load", upstream.url + name)
    first = pool.submit(honest, clients, live)
    upstream.wait(name)
    seen = stack.enter_context(Watch(running))
    half = bad.request(address, ended=False)
    mix = [
        *((way, bad.nibble, bad.TINY) for way in bad.openings(address, number)),
        *((way, bad.nothing, bad.TINY) for way in bad.openings(live, number)),
        (half, bad.nothing, 0),
        (half + b"X: ", bad.dribble, 0),
        (bad.request(address, "Transfer-Encoding: chunked"), bad.pour, 0),
        (bad.request(f"{running.url}/-/health"), bad.nothing, 0),
    ]
    for opening, step, buffer in mix:
        stack.enter_context(Crowd(running, CROWD // 4, opening, step, buffer))
    vanishing = [(way, after) for way in bad.openings(address, number) for after in (0, 1, 5000, 50_000)] * 8
    gone_early = [
        pool.submit(bad.vanish, running, way, reset=index % 2 == 0, after=after)
        for index, (way, after) in enumerate(vanishing)
    ]
    honest(clients, address)
    release.set()
    first.result()
    honest(clients, address)
    for each in gone_early:
        each.result()
    honest(clients, live)
    tally("bad clients survived", len(mix) * (CROWD // 4) + len(vanishing))
    return seen.memory
