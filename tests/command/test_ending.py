"""SIGTERM while clients are connected: what is under way has 20 seconds, then it is cut and named; it exits with 0."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

import pytest

from httpcache.command.serve import AGAIN_SECONDS
from httpcache.target import shown_address
from tests.support import badclients as bad
from tests.support import http
from tests.support.inside import checked_records, processes, until
from tests.support.mirror import Mirror
from tests.support.upstream import Response, Upstream

BOUND: Final = 21.0
"""Seconds from the signal to the end, of which 20 are for what is under way."""
AT_ONCE: Final = 3.0
"""Seconds in which a noisy machine ends all processes that wait for nothing."""
CAPTURE: Final = ("--capture", "--pypi-capture", "all")
LARGE: Final = bytes(32 * 1024 * 1024)
"""More than the buffers of two sockets hold."""


def ended(running: Mirror, within: float, how: signal.Signals = signal.SIGTERM) -> float:
    """Send a signal; see that it ends in time with exit code 0 and without a traceback; return the seconds."""
    assert running.process is not None
    begun = time.monotonic()
    running.process.send_signal(how)
    assert running.wait(within) == 0, running.log()
    assert "Traceback" not in running.log()
    return time.monotonic() - begun


def slow(running: Mirror, address: str) -> socket.socket:
    """A client that has begun to read an answer and takes no more of it."""
    client = bad.connect(running, bad.TINY)
    client.sendall(bad.request(address))
    assert client.recv(15) == b"HTTP/1.1 200 OK"
    return client


def lines(running: Mirror, text: str) -> list[str]:
    return [line for line in running.log().splitlines() if text in line]


@pytest.mark.parametrize("workers", [1, 2])
def test_slow_clients_are_cut_and_named(workers: int, upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """A frozen file, a first fetch and a passed query: each is named, without what may be secret in its address."""
    running: Mirror = mirror("--workers", f"{workers}")
    never = threading.Event()
    upstream.pages["/large"] = LARGE
    upstream.pages["/part?key=S3CRET"] = Response([b"some", never], headers={"Content-Length": "8"})
    frozen = running.pin("slow", f"{upstream.url}/large")
    assert len(http.get(frozen).content) == len(LARGE)
    with (
        slow(running, frozen),
        slow(running, running.pin("slow", f"{upstream.url.replace('//', '//robot:S3CRET@')}/large")),
        http.stream("GET", running.pin("slow", f"{upstream.url}/part?key=S3CRET")) as fetched,
    ):
        assert fetched.status_code == 200
        took = ended(running, BOUND)
    never.set()
    assert took > 19
    cut = lines(running, "had been sent on this connection")
    assert len([line for line in cut if "/large: cut off" in line]) == 2
    assert len([line for line in cut if "/part?key=…: cut off" in line]) == 1
    assert all(int(line.split(": ")[-1].split()[0]) > 0 for line in cut if "/large" in line)
    assert [line for line in lines(running, "after 4 bytes") if "/part?key=…: cut off" in line]
    assert "S3CRET" not in running.log()
    assert [record.size for record in checked_records(running.data)] == [len(LARGE)]
    assert not list((running.data / "spool").glob("*.part"))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_idle_connections_do_not_count(how: signal.Signals, mirror: Callable[..., Mirror]) -> None:
    """50 that have been answered, and 10 that have asked for nothing."""
    running: Mirror = mirror("--workers", "2")
    with ExitStack() as stack:
        for number in range(60):
            client = stack.enter_context(bad.connect(running))
            if number < 50:
                client.sendall(bad.request(f"{running.url}/-/health"))
                assert b"200" in client.recv(4096)
        ended(running, AT_ONCE, how)
    assert "cut off" not in running.log()


def test_what_ends_in_time_is_frozen_and_whole(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """A download that nobody waits for, and a client that is slow but done before the time is over."""
    running: Mirror = mirror()
    release = threading.Event()
    upstream.pages["/large"] = LARGE
    upstream.pages["/file"] = Response([b"some", release, b"more"])
    frozen = running.pin("slow", f"{upstream.url}/large")
    http.get(frozen)
    with http.stream("GET", running.pin("slow", f"{upstream.url}/file")) as answer:
        next(answer.iter_raw())
    with http.stream("GET", frozen) as answer:
        chunks = answer.iter_raw()
        size = len(next(chunks))
        running.terminate()
        time.sleep(1)
        release.set()
        assert size + sum(map(len, chunks)) == len(LARGE)
    assert running.wait(AT_ONCE) == 0
    assert sorted(record.size for record in checked_records(running.data)) == [8, len(LARGE)]
    assert "cut off" not in running.log()


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(
    again: signal.Signals, upstream: Upstream, mirror: Callable[..., Mirror]
) -> None:
    """With a client that is slow, a download that nobody waits for, and a capture that does not end."""
    never = threading.Event()
    upstream.pages["/large"] = LARGE
    upstream.pages["/part"] = Response([b"some", never], headers={"Content-Length": "8"})
    upstream.pages["/simple/"] = Response([b"{", never])
    running: Mirror = mirror("--workers", "2", *CAPTURE, pypi_upstream=f"{upstream.url}/simple/")
    frozen = running.pin("slow", f"{upstream.url}/large")
    http.get(frozen)
    with slow(running, frozen):
        with http.stream("GET", running.pin("slow", f"{upstream.url}/part")):
            until(lambda: any((running.data / "spool").glob("*.part")), "the download")
        until(lambda: upstream.count("/simple/") > 0, "the capture")
        running.terminate()
        running.terminate()  # the same signal, as who signals a process and its group sends it
        time.sleep(AGAIN_SECONDS + 0.5)
        assert running.running
        ended(running, AT_ONCE, again)
    never.set()
    assert lines(running, "/large: cut off")
    assert lines(running, "/part: cut off after 4 bytes")
    assert [record.size for record in checked_records(running.data)] == [len(LARGE)]


def test_a_capture_under_way_is_ended(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    never = threading.Event()
    upstream.pages["/simple/"] = Response([b"{", never])
    running: Mirror = mirror(*CAPTURE, pypi_upstream=f"{upstream.url}/simple/")
    until(lambda: upstream.count("/simple/") > 0, "the capture")
    ended(running, AT_ONCE)
    never.set()


def test_workers_and_a_capture_end_when_the_server_is_killed(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """Without the signal to the others that a terminal or a supervisor sends."""
    never = threading.Event()
    upstream.pages["/simple/"] = Response([b"{", never])
    running: Mirror = mirror("--workers", "2", *CAPTURE, pypi_upstream=f"{upstream.url}/simple/")
    until(lambda: upstream.count("/simple/") > 0, "the capture")
    assert running.process is not None
    assert len(processes(running)) >= 4
    running.process.kill()
    until(lambda: not processes(running), "the end of all of them")
    running.kill()
    never.set()


@pytest.mark.parametrize(
    ("path", "query", "text"),
    [
        ("/pin/https://h/x", "a=b&c", "/pin/https://h/x?a=…&…"),
        ("/pin/https%3A/h/x", "", "/pin/https://h/x"),
        ("/pin/https://u:S3CRET@h/x", "", "/pin/https://h/x"),
        ("/base/pin/https://u:S3CRET@h/x", "", "/base/…"),
        ("/base/pin/https%3A//u%3AS3CRET%40h/x", "", "/base/…"),
        ("/pin/ftp://u:S3CRET@h/x", "", "/pin/…"),
        ("/live/one/", "token=S3CRET", "/live/one/?token=…"),
        ("/", "", "/"),
    ],
)
def test_addresses_are_shown_without_secrets(path: str, query: str, text: str) -> None:
    assert shown_address(path.encode(), query.encode()) == text
