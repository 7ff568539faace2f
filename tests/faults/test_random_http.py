"""Random clients, commands, captures and kills over real HTTP, before upstreams that change, fail and take back.

What was answered once is answered for ever but for a rule in force, and nothing is cut. A failure prints its seed;
RANDOM_SEED repeats what was asked, ordered and answered by upstreams, and when it was killed; the machine decides the
rest. SOAK_MINUTES (60) is how long the long one takes.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.answers import MAYBE, OFF, ON, Answers, Rule, made
from tests.support.capture import AT_ONCE
from tests.support.command import run
from tests.support.index import ago, instant
from tests.support.inside import checked_records
from tests.support.mirror import Mirror
from tests.support.packages import Dist, wheel
from tests.support.registries import PyPI
from tests.support.tally import tally
from tests.support.upstream import CUT, NOT_FOUND, Request, Response, Upstream

PLAIN = ["project0", "project1", "project2"]
"""Projects whose registry has bad moments, and takes files and the whole away."""
BLOCKED, SHADY = "blocked", "shady"
"""Projects that the operator blocks, and that the registry quarantines."""


class World:
    """A mirror before a generic upstream and a PyPI, both of which do what a seed says, and who asks and orders."""

    def __init__(self, seed: int, upstream: Upstream, pypi: PyPI, running: Mirror) -> None:
        self.seed, self.upstream, self.pypi, self.running = seed, upstream, pypi, running
        self.dice = random.Random(seed)
        self.rules = {BLOCKED: Rule(), SHADY: Rule()}
        self.answers = Answers(self.rules)
        self.done: Counter[str] = Counter()
        self._numbers = itertools.count()
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._pages: dict[str, list[Response]] = {}
        self._dists: list[Dist] = []
        self._plain = pypi.index.otherwise
        self._instants: list[str] = []
        upstream.otherwise = self._file
        pypi.index.otherwise = self._page
        for project in (*PLAIN, BLOCKED, SHADY):
            self._upload(project)

    def _fate(self, path: str) -> float:
        """A number that the seed gives to this request for a path."""
        with self._lock:
            self._asked[path] += 1
            return random.Random(f"{self.seed} {path} {self._asked[path]}").random()

    def _file(self, request: Request) -> Response:
        """Other bytes each time; one in ten breaks off, one in ten is a 404, and one is another error."""
        fate = self._fate(request.path)
        body = made(request.path, next(self._numbers))
        headers = {"Content-Length": str(len(body)), "Content-Type": "application/octet-stream"}
        if fate < 0.1:
            return Response([body[: len(body) // 2], CUT], headers=headers)
        if fate < 0.2:
            return NOT_FOUND
        if fate < 0.3:
            return Response(b"not now", [500, 503, 429, 403][int(fate * 1000) % 4])
        return Response(body, 200, headers) if fate < 0.7 else Response([body[:99], body[99:]])

    def _page(self, request: Request) -> Response:
        """The registry's page; of some projects at times an older one with its serial, none, or an error."""
        page = self._plain(request)
        if request.path.strip("/").rpartition("/")[2] not in PLAIN:
            return page
        older, fate = self._pages.setdefault(request.path, []), self._fate(request.path)
        older.append(page)
        if fate < 0.15:
            return older[max(0, len(older) - 1 - int(fate * 200))]
        return NOT_FOUND if fate < 0.18 else Response(b"not now", 503) if fate < 0.25 else page

    def _upload(self, project: str) -> None:
        dist = wheel(project, f"{len(self._dists)}.0")
        self.pypi.upload(dist, self.dice.choice([instant(), ago(hours=1)]))
        self._dists.append(dist)
        self._instants.append(instant())

    def change(self) -> None:
        """The registry has another file, tells or lies about when it came, and at times takes one or all away."""
        self._upload(self.dice.choice([*PLAIN, BLOCKED, SHADY]))
        if self.dice.random() < 0.3:
            project = self.dice.choice(PLAIN)
            files = [release.dist for release in self.pypi.projects.get(project, {}).values()]
            for dist in files if self.dice.random() < 0.3 else files[:1]:
                self.pypi.delete(dist)

    def addresses(self, count: int) -> list[str]:
        """What is asked for in a round: new and old, in all the ways that there are."""
        choose, rounds = self.dice.choice, len(self._dists)
        makers: list[tuple[int, Callable[[], str]]] = [
            (4, lambda: f"{self._pin(3)}/{self.upstream.url}/file{self.dice.randrange(10 * rounds)}"),
            (2, lambda: f"{self._pin(rounds)}/{self.pypi.url}{choice_of_projects(self.dice)}/"),
            (3, lambda: f"/{choose(self._instants)}/{choice_of_projects(self.dice)}/"),
            (1, lambda: f"/live/{choice_of_projects(self.dice)}/"),
            (2, lambda: self._distribution(choose(self._dists))),
            (3, lambda: choose(list(self.answers.first) or ["/live/project0/"])),
        ]
        kinds = self.dice.choices([make for _, make in makers], [weight for weight, _ in makers], k=count)
        return [make() for make in kinds]

    def _pin(self, count: int) -> str:
        return f"/pin{self.dice.randrange(count)}-2024-01-02"

    def _distribution(self, dist: Dist) -> str:
        return f"/files/{dist.name}/{dist.sha256}/{dist.filename}"

    # What an operator and the registry do meanwhile

    def orders(self) -> list[Callable[[], None]]:
        """One or two of them."""
        return self.dice.sample([self.block, self.quarantine, self.forget, self.forget, self.capture], 2)

    def forget(self) -> None:
        """Forget one address behind a pin that has been answered."""
        known = [path for path in self.answers.first if path.startswith("/pin")]
        if known:
            path = known[len(known) * 7 // 11]
            with self.answers.forgetting(path):
                self._run("forget", "--data", self.running.data, path, "--yes")

    def block(self) -> None:
        """Block, or take that back."""
        rule = self.rules[BLOCKED]
        command, then = ("unblock", OFF) if rule.state == ON else ("block", ON)
        rule.say(MAYBE)
        if self._run(command, "--data", self.running.data, BLOCKED):
            rule.say(then)

    def quarantine(self) -> None:
        """The registry quarantines a project or takes that back; it counts from when the mirror shows it."""
        self._quarantine(
            "active" if self.pypi.statuses.get(SHADY, {}).get("status") == "quarantined" else "quarantined"
        )

    def _quarantine(self, status: str) -> None:
        rule = self.rules[SHADY]
        rule.say(MAYBE)
        self.pypi.set_status(SHADY, status)
        found = self.answers.ask(self.running, f"/live/{SHADY}/")
        self.done[status] += 1
        if found is not None and found.status_code == 200 and "stale" not in found.headers["cache-status"]:
            shown = found.json().get("project-status", {}).get("status")
            if (shown == "quarantined") == (status == "quarantined"):
                rule.say(ON if status == "quarantined" else OFF)

    def capture(self) -> None:
        """Make a pass; it fails for projects whose registry has a bad moment."""
        options = ("--data", self.running.data, "--pypi-upstream", self.pypi.url, "--log-level", "error", *AT_ONCE)
        self._run("capture", *options, "--pypi-capture", self.dice.choice(["all", "requested"]), codes=(0, 1))

    def _run(self, command: str, *arguments: Any, codes: Sequence[int] = (0,)) -> bool:
        ran = run(command, *arguments, seconds=120)
        self.done[command] += 1
        if ran.returncode not in codes or "Traceback" in ran.stderr:
            self.answers.wrong.append(f"httpcache {command}: {ran.returncode} {ran.stderr[-2000:]}")
        return ran.returncode == 0

    def round(self, clients: int) -> None:
        """Clients that ask as long as orders are carried out, and at times a kill in the middle."""
        self.change()
        asked, orders, clock = [self.addresses(40) for _ in range(clients)], self.orders(), self.dice.uniform(0.1, 3)
        with ThreadPoolExecutor(clients + 2) as pool:
            done: list[Future[Any]] = [pool.submit(lambda: [order() for order in orders])]
            if self.dice.random() < 0.6:
                done.append(pool.submit(self._kill, clock))
            for paths in asked:
                pool.submit(self._ask, paths, done)
        for each in done:
            each.result()

    def _ask(self, paths: Sequence[str], done: Sequence[Future[Any]]) -> None:
        """Ask at least once for each, and again as long as something is going on."""
        for count, path in enumerate(itertools.cycle(paths)):
            if count >= len(paths) and all(each.done() for each in done):
                return
            broken = self.answers.ask(self.running, path) is None
            time.sleep(0.2 if broken else 0.02)  # the orders have to get on too

    def _kill(self, after: float) -> None:
        time.sleep(after)
        self.running.kill()
        self.running.start()
        self.done["kill"] += 1

    def finish(self) -> None:
        """No rule is in force any more: all is as it was, and a server without upstreams says the same."""
        if self.rules[BLOCKED].state != OFF:
            self.block()
        self._quarantine("active")
        for arguments in (self.running.arguments, ("--offline",)):
            self.running.restart(*arguments)
            for path in list(self.answers.first):
                self.answers.ask(self.running, path)


def choice_of_projects(dice: random.Random) -> str:
    """A project; some come only later or never."""
    return dice.choice([*PLAIN, BLOCKED, SHADY, f"ghost{dice.randrange(3)}"])


MINUTES = float(os.environ.get("SOAK_MINUTES", "60"))


@pytest.mark.parametrize(
    ("seconds", "clients"), [(25, 4), pytest.param(60 * MINUTES, 2, marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_every_answer_is_the_same_for_ever(
    seconds: float, clients: int, upstream: Upstream, pypi: PyPI, mirror: Callable[..., Mirror]
) -> None:
    seed = int(os.environ.get("RANDOM_SEED", random.randrange(1 << 32)))
    print(f"RANDOM_SEED={seed}")
    running = mirror(pypi, "--workers", "2", "--capture", "--capture-every", "1", "--pypi-capture", "all")
    world, end = World(seed, upstream, pypi, running), time.monotonic() + seconds
    while time.monotonic() < end and not world.answers.wrong:
        world.round(clients)
    if not world.answers.wrong:
        world.finish()
    answers = world.answers
    counts = {"answers compared": answers.compared, "absences among them": answers.absences}
    for what, count in ({"withheld": answers.withheld} | counts | world.done).items():
        tally(f"random: {what}", count)
    assert not answers.wrong, "\n".join(answers.wrong)
    assert answers.compared > 100
    assert checked_records(running.data)
    assert "Traceback" not in running.log()
