"""Two servers on one data folder: together they freeze each target once, and neither needs the other."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support import http
from tests.support.command import run
from tests.support.inside import checked_records, parts, processes, until
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI
from tests.support.upstream import Request, Response, Upstream

pytestmark = pytest.mark.alone

DATE: Final = "2024-01-02"
PIN: Final = f"two-{DATE}"
CLIENTS: Final = 16
CHUNK: Final = 50_000

Pair = tuple[Mirror, Mirror]


@pytest.fixture
def pair(tmp_path: Path, pypi: PyPI) -> Iterator[Pair]:
    """Two servers on one folder, on ports of their own, with two workers each."""
    one, other = (Mirror(tmp_path / name, pypi.url, ["--workers", "2"]) for name in ("one", "other"))
    other.data = one.data
    try:
        yield one.start(), other.start()
        for server in (one, other):
            server.stop()
            assert "Traceback" not in server.log()
    finally:
        for server in (one, other):
            server.kill()


@pytest.fixture
def changing(upstream: Upstream) -> Upstream:
    """An upstream with other bytes at each request; in chunks below `/chunked`."""
    numbers = count()

    def page(request: Request) -> Response:
        body = f"{request.path} {next(numbers)}\n".encode() * 4000
        if request.path.startswith("/chunked"):
            return Response([body[at : at + CHUNK] for at in range(0, len(body), CHUNK)])
        return Response(body)

    upstream.otherwise = page
    return upstream


def storm(pair: Pair, upstream: Upstream, paths: list[str], times: int) -> dict[str, set[bytes]]:
    """Ask both for each path so many times, all at once and in any order; return the bodies that came, by path."""
    found: defaultdict[str, set[bytes]] = defaultdict(set)
    asks = [(server, path) for server in pair for path in paths] * times
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    random.Random(seed).shuffle(asks)

    def ask(server: Mirror, path: str) -> None:
        answer = http.get(server.pin(PIN, upstream.url + path))
        assert answer.status_code == 200, answer.text
        found[path].add(answer.content)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda one: ask(*one), asks))
    return found


@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_a_storm_through_both(kind: str, pair: Pair, changing: Upstream) -> None:
    """Of each target there is one request to the upstream, and everybody gets its answer."""
    paths = [f"/{kind}/{number}" for number in range(40)]
    found = storm(pair, changing, paths, 4)
    assert {path: len(bodies) for path, bodies in found.items()} == dict.fromkeys(paths, 1)
    assert {path: changing.count(path) for path in paths} == dict.fromkeys(paths, 1)
    assert len(checked_records(pair[0].data)) == len(paths)


def test_a_storm_for_one_target(pair: Pair, changing: Upstream) -> None:
    """All who ask at once, at either server, follow one download."""
    for number in range(10):
        path = f"/chunked/one-{number}"
        assert len(storm(pair, changing, [path], 16)[path]) == 1
        assert changing.count(path) == 1


def test_dated_pages_through_both(pair: Pair, pypi: PyPI) -> None:
    """Both write one log: the page as of a date is the same at both, whatever each of them has observed since."""
    dists = [wheel(f"project-{number}", "1.0") for number in range(12)]
    for dist in dists:
        pypi.upload(dist, "2024-01-01T00:00:00Z")

    def page(server: Mirror, when: str, name: str) -> bytes:
        answer = http.get(f"{server.at(when)}{name}/", headers={"Accept": JSON})
        assert answer.status_code == 200, answer.text
        return answer.content

    names = [dist.name for dist in dists]
    with ThreadPoolExecutor(CLIENTS) as pool:
        first = list(pool.map(lambda ask: page(pair[ask % 2], DATE, names[ask // 2 % 12]), range(96)))
        for dist in dists:
            pypi.upload(wheel(dist.project, "1.1"), "2024-01-01T12:00:00Z")
        live = list(pool.map(lambda ask: page(pair[ask % 2], "live", names[ask // 2 % 12]), range(96)))
        again = list(pool.map(lambda ask: page(pair[ask % 2], DATE, names[ask // 2 % 12]), range(96)))
    assert len(set(first)) == len(names)
    assert again == first
    assert not any(b"1.1-py3" in body for body in first)
    assert all(b"1.1-py3" in body for body in live)


def ends(answer: httpx.Response) -> bytes | None:
    """The rest of a body, None where it breaks off."""
    try:
        return answer.read()
    except httpx.TransportError:
        return None


def is_leading(server: Mirror) -> bool:
    """Whether it downloads: it writes a part."""
    return any(written for pid in processes(server) for written in parts(server, pid))


@pytest.mark.parametrize("dies", ["the one that downloads", "the one that follows"])
def test_one_is_killed_in_the_middle(dies: str, pair: Pair, upstream: Upstream) -> None:
    """The other goes on: with the download if it is its own; and if not, its clients see a break and can ask again."""
    release, numbers = threading.Event(), count()

    def page(_: Request) -> Response:
        body = b"%d" % next(numbers) * CHUNK
        return Response([body, release, body], headers={"Content-Length": str(2 * CHUNK)})

    upstream.otherwise = page
    leader, follower = pair
    address = f"{upstream.url}/file"
    with ExitStack() as stack, ThreadPoolExecutor(CLIENTS) as pool:
        answers = {server: stack.enter_context(http.stream("GET", server.pin(PIN, address))) for server in pair}
        assert is_leading(leader)
        assert not is_leading(follower)
        victim, other = (leader, follower) if dies == "the one that downloads" else (follower, leader)
        victim.kill()
        release.set()
        bodies = dict(zip(answers, pool.map(ends, answers.values()), strict=True))
    assert bodies[victim] is None
    kept = http.get(other.pin(PIN, address)).content
    if victim is leader:
        assert bodies[other] is None
        assert kept == b"1" * 2 * CHUNK
    else:
        assert bodies[other] == kept == b"0" * 2 * CHUNK
    victim.start()
    assert http.get(victim.pin(PIN, address)).content == kept
    assert upstream.count("/file") == (2 if victim is leader else 1)
    assert len(checked_records(leader.data)) == 1


def test_one_is_killed_in_a_storm(pair: Pair, changing: Upstream) -> None:
    """What either gave before is what the other gives, and the one that was killed when it is back."""
    whole: dict[str, bytes] = {}
    enough = threading.Event()

    def fetch(server: Mirror, numbers: Iterator[int], until: Callable[[], bool]) -> None:
        with httpx.Client(timeout=60, trust_env=False) as client:
            for number in numbers:
                path = f"/chunked/{number}"
                try:
                    answer = client.get(server.pin(PIN, changing.url + path))
                except httpx.TransportError:
                    if server is pair[0]:
                        return
                    continue  # it followed a download of the one that was killed
                assert answer.status_code in (200, 502), answer.text
                if answer.status_code == 200:
                    assert whole.setdefault(path, answer.content) == answer.content
                if number > 40:
                    enough.set()
                if until():
                    return

    with ThreadPoolExecutor(8) as pool:
        first = [pool.submit(fetch, pair[0], count(), lambda: False) for _ in range(4)]
        second = [pool.submit(fetch, pair[1], count(), lambda: len(whole) > 120) for _ in range(4)]
        assert enough.wait(60)
        pair[0].kill()
        for future in first + second:
            future.result(60)
    pair[0].start()
    for server in pair:
        assert {path: http.get(server.pin(PIN, changing.url + path)).content for path in whole} == whole
    assert len(checked_records(pair[0].data)) >= len(whole) > 120


def test_forget_beside_both(pair: Pair, changing: Upstream) -> None:
    """What is forgotten is fetched once more, and both give the new bytes; nothing else moves, also under load."""
    other_pin = f"kept-{DATE}"
    kept = http.get(pair[0].pin(other_pin, f"{changing.url}/length/kept")).content
    paths = [f"/length/{number}" for number in range(10)]
    seen: set[bytes] = set()
    for _ in range(4):
        found = storm(pair, changing, paths, 2)
        bodies = {path: bodies.pop() for path, bodies in found.items() if len(bodies) == 1}
        assert len(bodies) == len(paths), "two answers for one target"
        assert not seen & set(bodies.values()), "forgotten, and given once more"
        seen |= set(bodies.values())
        forgotten = run("forget", "--data", pair[0].data, PIN, "--yes")
        assert forgotten.returncode == 0, forgotten
    assert {changing.count(path) for path in paths} == {4}
    for server in pair:
        assert http.get(server.pin(other_pin, f"{changing.url}/length/kept")).content == kept


def test_forget_in_a_storm(pair: Pair, changing: Upstream) -> None:
    """Every answer is whole, one body or another of the upstream's; in the end both agree, and nothing is missing."""
    paths = [f"/chunked/{number}" for number in range(10)]
    done = threading.Event()

    def fetch(server: Mirror) -> int:
        answers = 0
        with httpx.Client(timeout=60, trust_env=False) as client:
            while not done.is_set():
                for path in paths:
                    answer = client.get(server.pin(PIN, changing.url + path))
                    assert answer.status_code == 200, answer.text
                    line = answer.content.partition(b"\n")[0] + b"\n"
                    assert answer.content == line * 4000
                    assert line.startswith(f"{path} ".encode())
                    answers += 1
        return answers

    def have_come(count: int) -> bool:
        return changing.count() >= count

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(fetch, server) for server in pair * 4]
        try:
            asked = 0
            for _ in range(8):
                until(partial(have_come, asked + len(paths)), "all files once more")
                asked = changing.count()
                forgotten = run("forget", "--data", pair[0].data, PIN, "--yes")
                assert forgotten.returncode == 0, forgotten
        finally:
            done.set()
            assert all(future.result(60) > 0 for future in futures)
    for path in paths:
        assert len({http.get(server.pin(PIN, changing.url + path)).content for server in pair}) == 1
    assert len(checked_records(pair[0].data)) == len(paths)
