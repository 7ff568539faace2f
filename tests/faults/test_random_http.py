"""Random clients over real HTTP, kills and restarts: what was answered once is answered for ever, and nothing is cut.

A failure prints the seed of what was asked and when it was killed; the machine decides the rest.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support import http
from tests.support.index import JSON, instant
from tests.support.inside import checked_records
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.upstream import CUT, Request, Response, Upstream

CLIENTS = 6
END = b"the end"


class Answers:
    """What each address has answered; another answer is an error."""

    def __init__(self) -> None:
        self.first: dict[str, bytes] = {}
        self.wrong: list[str] = []
        self._lock = threading.Lock()

    def ask(self, mirror: Mirror, path: str) -> None:
        try:
            found = http.get(mirror.url + path, headers={"Accept": JSON})
        except httpx.TransportError:
            return  # killed, or cut: the client knows
        if found.status_code >= 500 or found.status_code in (404, 425):
            return
        with self._lock:
            if found.content != self.first.setdefault(path, found.content):
                self.wrong.append(f"{path} has another answer than before")
            if "/file" in path and not found.content.endswith(END):
                self.wrong.append(f"{path} was cut and looks whole")


@pytest.mark.parametrize("seconds", [30, pytest.param(3600, marks=pytest.mark.soak)])
def test_every_answer_is_the_same_for_ever(
    seconds: int, upstream: Upstream, pypi: PyPI, mirror: Callable[..., Mirror]
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice, numbers, answers = random.Random(seed), itertools.count(), Answers()

    def page(request: Request) -> Response:
        number = next(numbers)  # no two answers are the same
        body = f"{request.path} {number}\n".encode() * (1 + number * 7919 % 4000) + END
        headers = {"Content-Length": str(len(body)), "Content-Type": "application/octet-stream"}
        return (
            Response([body[: len(body) // 2], CUT], headers=headers)
            if number % 7 == 3
            else Response(body, 200, headers)
        )

    upstream.otherwise = page
    running, paths, instants = mirror(pypi, "--workers", "2"), [f"/pin{n}-2024-01-02/" for n in range(3)], [instant()]
    end = time.monotonic() + seconds
    for round_ in itertools.count():
        if time.monotonic() > end:
            break
        pypi.upload(wheel(f"project{round_ % 3}", f"{round_}.0"), instant())
        instants.append(instant())
        known = list(answers.first)
        asked = [f"{dice.choice(paths)}{upstream.url}/file{dice.randrange(20 * (round_ + 1))}" for _ in range(60)]
        asked += [f"/{dice.choice(instants)}/project{dice.randrange(3)}/" for _ in range(20)]
        asked += dice.choices(known, k=20 if known else 0)
        dice.shuffle(asked)
        kill = threading.Timer(dice.uniform(0.1, 2), running.kill)
        with ThreadPoolExecutor(CLIENTS) as pool:
            kill.start()
            list(pool.map(lambda path: answers.ask(running, path), asked))
        kill.join()
        running.start()
    assert len(answers.first) > 10
    for path in list(answers.first):
        answers.ask(running, path)
    assert answers.wrong == []
    assert checked_records(running.data)
    assert "Traceback" not in running.log()
