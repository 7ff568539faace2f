"""Hits while other files are fetched for the first time, as on a mirror that builds use: what the one costs the other.

Hits go to FILES addresses at random, with wrk. Meanwhile a client asks for RATE new addresses a second, one after the
other. All are queries behind the same file of the upstream.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpx

from .process import Unavailable

FILES: Final = 200
RATE: Final = 20.0
"""New files a second."""
SIZE: Final = 50_000


def warm(url: str) -> None:
    """Ask for every file that will be hit, twice. Raises Unavailable."""
    with httpx.Client(trust_env=False) as client:
        for number in range(2 * FILES):
            _ask(client, f"{url}{number % FILES}")


class Newcomers:
    """A client that asks for new files in a thread; `seconds` has how long each took."""

    def __init__(self, url: str) -> None:
        """`url` is what all addresses begin with; no two runs may have the same."""
        self.seconds: list[float] = []
        self._url = url
        self._error: Exception | None = None
        self._stopped = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask inside the block. Raises Unavailable at its end where an answer was not right."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join()
        if self._error:
            raise Unavailable(f"new files: {self._error}")

    def _run(self) -> None:
        started = time.perf_counter()
        try:
            with httpx.Client(trust_env=False) as client:
                while not self._stopped.wait(max(0.0, started + len(self.seconds) / RATE - time.perf_counter())):
                    asked = time.perf_counter()
                    _ask(client, f"{self._url}{len(self.seconds)}")
                    self.seconds.append(time.perf_counter() - asked)
        except (httpx.HTTPError, Unavailable) as error:
            self._error = error


def _ask(client: httpx.Client, url: str) -> None:
    answer = client.get(url).raise_for_status()
    if len(answer.content) != SIZE:
        raise Unavailable(f"{len(answer.content)} bytes of {SIZE}")
