"""A load on all nodes of a cluster, and what must hold whatever happens to nodes and engines meanwhile."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Final

import httpx

from tests.support import http
from tests.support.cluster import Cluster, soon
from tests.support.command import run
from tests.support.index import ago, instant
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI
from tests.support.upstream import Request, Response, Upstream

PIN: Final = "load-2024-01-02"
THREADS: Final = 4
SIZES: Final = (100, 40_000, 400_000)
"""Bytes: in the index, in the object store, and in several pieces."""
RECOVERY: Final = 30.0
"""Seconds within which all nodes work again, once everything else does."""
COMPARED: Final = 60
"""Answers that are compared on each node in the end."""


class Load:
    """First fetches, hits, a date, and instants of a project that changes.

    `whole` has what the first whole answer to each address was: no other one may come from any node. `answered` counts
    the statuses, `refused` connections and answers that were `broken` off. `wrong` is what no client may see.
    """

    def __init__(self, cluster: Cluster, upstream: Upstream, pypi: PyPI, seed: int = 0) -> None:
        self.cluster = cluster
        self.upstream = upstream
        self.pypi = pypi
        self.whole: dict[str, bytes] = {}
        self.answered: Counter[object] = Counter()
        self.wrong: list[str] = []
        self._dice = Random(seed)
        self._numbers = itertools.count()
        self._versions = itertools.count()
        self._last = self.fresh()
        self._lock = threading.Lock()
        self._end = threading.Event()
        upstream.otherwise = self._file
        self._upload(days=5000)

    def _file(self, request: Request) -> Response:
        """Other bytes each time, which tell what they are of."""
        size = int(request.path.split("/")[1])
        piece = f"{request.path} {next(self._versions)}\n".encode()
        return Response((piece * (size // len(piece) + 1))[:size])

    def _upload(self, days: float = 0) -> None:
        self.pypi.upload(wheel("demo", f"1.{next(self._versions)}"), ago(days=days))

    def fresh(self, size: int = 0) -> str:
        """The path of a file that nobody has asked for."""
        number = next(self._numbers)
        self._last = f"/{PIN}/{self.upstream.url}/{size or SIZES[number % len(SIZES)]}/{number}"
        return self._last

    @contextmanager
    def running(self) -> Iterator[None]:
        """Load inside the block; nothing wrong may have been answered at its end."""
        threads = [threading.Thread(target=self._run) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._end.set()
            for thread in threads:
                thread.join()
        assert not self.wrong, "\n".join(self.wrong)

    def run_for(self, seconds: float) -> None:
        """Let the load run; ends at once if something wrong was answered."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.wrong:
            time.sleep(0.1)

    def _run(self) -> None:
        while not self._end.is_set() and len(self.wrong) < 5:
            self.ask(self._dice.choice(self.cluster.nodes), self._some_path())
            time.sleep(0.03)

    def _some_path(self) -> str:
        match self._dice.choices(["fresh", "last", "known", "date", "instant"], [30, 15, 40, 5, 10])[0]:
            case "fresh":
                return self.fresh()
            case "last":
                return self._last
            case "date":
                return "/2023-01-01/demo/"
            case "instant":
                if self._dice.random() < 0.2:
                    self._upload()
                return f"/{instant()}/demo/"
        with self._lock:
            return self._dice.choice(list(self.whole) or [self._last])

    def ask(self, node: Mirror, path: str) -> int | None:
        """Ask a node, and judge what it answers. Returns the status of a whole answer."""
        began = False
        try:
            with http.stream("GET", node.url + path, headers={"Accept": JSON}) as answer:
                began = True
                content = answer.read()
        except httpx.ConnectError:
            self.answered["refused"] += 1
            return None
        except httpx.TimeoutException as error:
            self.wrong.append(f"{node.url}{path}: {error!r}")
            return None
        except httpx.TransportError:
            self.answered["broken" if began else "refused"] += 1
            return None
        self.answered[answer.status_code] += 1
        self._judge(f"{node.url}{path}", path, answer, content)
        return answer.status_code

    def _judge(self, address: str, path: str, answer: httpx.Response, content: bytes) -> None:
        if answer.status_code == 200:
            with self._lock:
                first = self.whole.setdefault(path, content)
            if content != first:
                self.wrong.append(f"{address}: {content[:60]!r}, and not {first[:60]!r}")
        elif answer.status_code != 503 or "retry-after" not in answer.headers:
            self.wrong.append(f"{address}: {answer.status_code} {dict(answer.headers)} {content[:300]!r}")

    def recovers(self, size: int = 0) -> None:
        """All nodes freeze again what nobody has asked for."""
        for node in self.cluster.nodes:
            soon(lambda node=node: self.ask(node, self.fresh(size)) == 200, f"{node.url} works again", RECOVERY)  # type: ignore[misc]

    def check(self) -> None:
        """What was answered whole is there on all nodes without the upstream, and every record has its body."""
        self.upstream.stop()
        paths = sorted(self.whole)
        for path in self._dice.sample(paths, min(COMPARED, len(paths))):
            for node in self.cluster.nodes:
                soon(lambda node=node, path=path: self.ask(node, path) == 200, f"{node.url}{path} is there", RECOVERY)  # type: ignore[misc]
        assert not self.wrong, "\n".join(self.wrong)
        for node in self.cluster.nodes:
            node.stop()  # with code 0; and a command needs a connection, too
            assert "Traceback" not in node.log(), node.log()
        ran = run("verify", *self.cluster.command, environment=self.cluster.environment)
        assert ran.returncode == 0, ran.stdout + ran.stderr
