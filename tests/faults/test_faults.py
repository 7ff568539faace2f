"""Each operation on a file fails, once or for good, or kills its process: nobody gets wrong bytes, and it goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support import http
from tests.support.faults import KILL, KINDS, Faults, Kind, compiled
from tests.support.index import PIP
from tests.support.inside import checked_records, processes, until
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.rows import diagonal
from tests.support.tally import tally
from tests.support.upstream import NOT_FOUND, Request, Response, Upstream

DATE: Final = "2024-01-02"
CHUNK: Final = 70_000
PATIENCE: Final = 5.0
"""Seconds for an answer that takes a hundredth of one: a bound against hanging."""
ENOUGH: Final = 3
"""Failures after which a test does not look for more."""
USER: Final = ("user", "secret")

Whole = tuple[int, bytes]


@dataclass(frozen=True)
class Ask:
    """A request. `statuses`: of a right answer; all else is an error. `right`: whether a body is one of the upstream's,
    given how often that had changed. `listed`: clients know the address from the page before, if they got one.
    """

    address: str
    right: Callable[[bytes, int], bool]
    accept: str = "*/*"
    auth: tuple[str, str] | None = None
    statuses: tuple[int, ...] = (200,)
    listed: bool = False


@dataclass
class World:
    """A mirror whose files fail on command, and upstreams with other content after each `change`."""

    mirror: Mirror
    faults: Faults
    upstream: Upstream
    private: Upstream
    pypi: PyPI
    generation: int = 0
    projects: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.upstream.otherwise = self.private.otherwise = self._page

    def _page(self, request: Request) -> Response:
        body = content(request.path, self.generation)
        if request.path.startswith("/absent") and not self.generation:
            return NOT_FOUND
        if request.path.startswith("/large"):
            return Response([body[at : at + CHUNK] for at in range(0, len(body), CHUNK)])
        return Response(body, headers={"Content-Type": "text/html"} if request.path.endswith("/") else {})

    def begin(self) -> None:
        """Upstreams that have not changed yet."""
        self.generation = 0
        self.projects.clear()

    def change(self) -> None:
        """Other content everywhere; the registry lies about when its new file came."""
        self.generation += 1
        for project in self.projects:
            self.pypi.upload(wheel(project, f"1.{self.generation}"), "2024-01-01T12:00:00Z")

    def frozen(self, name: str, *paths: str) -> list[Ask]:
        """Requests for files of the generic upstream."""
        return [Ask(self.mirror.pin(name, self.upstream.url + path), partial(is_content, path)) for path in paths]


def content(path: str, generation: int) -> bytes:
    """The bytes of a path of the generic upstream: one megabyte below `/large`, links where it is a folder."""
    if path.endswith("/"):
        links = "".join(f'<a href="{number}/thing-{number}.tar.gz">thing</a>' for number in range(generation + 1))
        return f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
    key = "same" if path.startswith("/same") else path
    return f"{key} {generation}\n".encode() * (10_000 if path.startswith("/large") else 10)


def is_content(path: str, body: bytes, changes: int) -> bool:
    """Whether a body is what the upstream had at one time."""
    return any(body == content(path, generation) for generation in range(changes + 1))


# What is asked for while an operation fails: each function gives the requests of one scenario, in their order


def small(world: World, name: str) -> list[Ask]:
    """A file with a length."""
    return world.frozen(name, "/small")


def large(world: World, name: str) -> list[Ask]:
    """A file in chunks, without a length."""
    return world.frozen(name, "/large")


def same(world: World, name: str) -> list[Ask]:
    """Two targets with the same bytes, that no other scenario has."""
    return world.frozen(name, f"/same/{name}/a", f"/same/{name}/b")


def private(world: World, name: str) -> list[Ask]:
    """A file behind a password."""
    path = "/private"
    address = world.mirror.pin(name, world.private.url + path)
    return [Ask(address, partial(is_content, path), auth=USER)]


def absent(world: World, name: str) -> list[Ask]:
    """An installer asks a pinned index for a project that comes later."""
    address = world.mirror.pin(name, f"{world.upstream.url}/absent/")
    return [Ask(address, lambda body, _: bool(body), accept=PIP, statuses=(404, 200))]


def pinned_index(world: World, name: str) -> list[Ask]:
    """An installer asks for a page of a pinned index, and for a file that it lists."""
    address = world.mirror.pin(name, f"{world.upstream.url}/thing/")
    page = Ask(address, lambda body, _: b"thing-0.tar.gz" in body, accept=PIP)
    return [page, *world.frozen(name, "/thing/0/thing-0.tar.gz")]


def dated(world: World, name: str) -> list[Ask]:
    """A page as of a date, its file, and the metadata of that."""
    dist = wheel(name, "1.0")
    world.projects.append(name)
    world.pypi.upload(dist, "2024-01-01T00:00:00Z")
    file = f"{world.mirror.url}/files/{name}/{dist.sha256}/{dist.filename}"
    return [
        Ask(f"{world.mirror.at(DATE)}{name}/", lambda body, _: dist.filename.encode() in body, accept=PIP),
        Ask(file, lambda body, _: body == dist.data, listed=True),
        Ask(f"{file}.metadata", lambda body, _: body == dist.metadata, listed=True),
    ]


Scenario = Callable[[World, str], list[Ask]]
SCENARIOS: Final = [small, large, same, private, absent, pinned_index, dated]


def answer(ask: Ask, world: World) -> Whole | None:
    """A whole answer that is right, None for an error with a text or a broken connection; all else is wrong."""
    try:
        got = http.get(ask.address, headers={"Accept": ask.accept}, auth=ask.auth, timeout=PATIENCE)
    except httpx.TimeoutException:
        raise AssertionError(f"no answer in {PATIENCE} s from {ask.address}") from None
    except httpx.TransportError:
        return None
    if got.status_code in ask.statuses:
        if got.status_code != 200:
            return got.status_code, b""  # the first to hear of an absence gets the upstream's words, the others ours
        assert ask.right(got.content, world.generation), f"wrong bytes from {ask.address}: {got.content[:200]!r}"
        return got.status_code, got.content
    assert got.status_code >= 500, f"{got.status_code} from {ask.address}: {got.text[:200]}"
    assert len(got.text) > 10, f"{got.status_code} without a word from {ask.address}"
    return None


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What makes files fail, compiled."""
    return compiled(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def world(library: Path, tmp_path: Path, upstreams: Callable[..., Upstream]) -> Iterator[World]:
    """A mirror with the switch of its faults, not started."""
    pypi = PyPI(upstreams(), upstreams(ranges=True))
    faults = Faults(library, tmp_path / "mirror" / "data", tmp_path / "control")
    mirror = Mirror(tmp_path / "mirror", pypi.url, environment=faults.environment)
    yield World(mirror, faults, upstreams(), upstreams(auth=USER), pypi)
    faults.disarm()
    mirror.kill()


def is_ready(mirror: Mirror) -> bool:
    """Whether a worker answers."""
    try:
        return http.get(f"{mirror.url}/-/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def revive(mirror: Mirror) -> None:
    """Wait for the next worker; start the server again where it gave up, as a service manager does."""
    until(lambda: not mirror.running or is_ready(mirror), "the next worker")
    if not mirror.running:
        mirror.kill()
        mirror.start()


class Trial:
    """One scenario with one operation that fails."""

    def __init__(self, world: World, asks: Sequence[Ask]) -> None:
        self._world, self._asks = world, asks
        self._workers = processes(world.mirror)
        self._left = self._spooled()

    def _spooled(self) -> set[Path]:
        return set((self._world.mirror.data / "spool").iterdir())

    def _ask(self) -> list[Whole | None]:
        found: list[Whole | None] = []
        for ask in self._asks:
            found.append(None if ask.listed and found[0] is None else answer(ask, self._world))
        return found

    def fail(self, number: int, kind: Kind) -> tuple[int, list[Whole | None]]:
        """Ask while the `number`-th operation fails; return how many did, and the answers."""
        world = self._world
        world.faults.arm(number, kind)
        try:
            first = self._ask()
            until(lambda: bool(world.faults.fired) or self._spooled() <= self._left, "the end of the downloads")
        finally:
            fired = world.faults.disarm()
        if fired and kind.error == KILL:
            until(lambda: set(processes(world.mirror)) != set(self._workers), "the end of the worker")
            revive(world.mirror)
        else:
            assert processes(world.mirror) == self._workers, "an error of a file ended a worker"
        return fired, first

    def hold(self, first: Sequence[Whole | None]) -> list[tuple[Ask, Whole]]:
        """Ask again twice, with other content upstream each time; return what is frozen now."""
        world = self._world
        world.change()
        second = self._ask()
        assert None not in second, "still an error when the files work again"
        for ask, before, after in zip(self._asks, first, second, strict=True):
            assert before in (None, after), f"{ask.address} was {before!r:.200} and is {after!r:.200}"
        world.change()
        assert self._ask() == second, "not frozen"
        return [(ask, whole) for ask, whole in zip(self._asks, second, strict=True) if whole]


def finish(world: World, kept: Sequence[tuple[Ask, Whole]]) -> None:
    """What is in the folder is whole, and a server without upstreams gives all that was given before."""
    world.mirror.stop()
    checked_records(world.mirror.data)
    world.mirror.start("--offline")
    assert list((world.mirror.data / "spool").iterdir()) == []
    assert [ask.address for ask, whole in kept if answer(ask, world) != whole] == []
    assert "Traceback" not in world.mirror.log()


def run(scenario: Scenario, kind: Kind, world: World, step: int = 1) -> None:
    """Let each operation of a scenario fail, one a time, until there is none more; or each `step`-th."""
    world.mirror.start()
    failures: list[str] = []
    kept: list[tuple[Ask, Whole]] = []
    for number in count(1, step):
        world.begin()
        trial = Trial(world, scenario(world, f"s{number}-{DATE}" if scenario is not dated else f"s{number}"))
        logged = len(world.mirror.log())
        try:
            fired, first = trial.fail(number, kind)
            kept += trial.hold(first)
            assert "Traceback" not in world.mirror.log()[logged:], "a traceback in the log"
        except AssertionError as failed:
            fired = 1
            failures.append(f"operation {number}, {world.faults.what}: {failed}")
            world.mirror.kill()
            world.mirror.start()
        if not fired or len(failures) == ENOUGH:
            break
        tally("faults injected")
    assert not failures, "\n".join(failures)
    assert number > 3, "hardly an operation was seen: the shim does not work"
    finish(world, kept)


ONCE: Final = [kind for kind in KINDS if KINDS[kind].error != KILL and not KINDS[kind].sticky]
FROM_THEN_ON: Final = [kind for kind in KINDS if KINDS[kind].sticky]


@pytest.mark.parametrize(("scenario", "kind"), [*diagonal(SCENARIOS, ONCE), *diagonal(SCENARIOS, FROM_THEN_ON)])
def test_each_operation_fails(scenario: Scenario, kind: str, world: World) -> None:
    """Whole and right, or an error; and when the files work again, all can be had and stays, without a restart."""
    run(scenario, KINDS[kind], world)


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_worker_is_killed_at_each_operation(scenario: Scenario, step: int, world: World) -> None:
    """Whole and right, or a broken connection; what was whole is the same after it."""
    run(scenario, KINDS["SIGKILL"], world, step)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].sticky])
def test_many_write_at_once_while_all_fails(kind: str, world: World) -> None:
    """Threads that open the index just then; all get an answer, and all can be had when the files work again."""
    world.mirror.start()
    world.faults.arm(1, KINDS[kind])
    asks = [dated(world, f"s{number}")[0] for number in range(12)]
    with ThreadPoolExecutor(len(asks)) as pool:
        answers = [pool.submit(answer, ask, world) for ask in asks]
        first = [future.result() for future in answers]
        assert world.faults.disarm()
        assert first == [None] * len(asks)
        assert None not in [future.result() for future in [pool.submit(answer, ask, world) for ask in asks * 4]]
    assert "Traceback" not in world.mirror.log()


STARTS: Final = [("a full disk", 19), ("an I/O error", 53), ("SIGKILL", 53)]


@pytest.mark.parametrize(
    ("kind", "step"), [*STARTS, *(pytest.param(kind, 1, marks=pytest.mark.soak) for kind in KINDS)]
)
def test_each_operation_of_a_first_start_fails(kind: str, step: int, world: World) -> None:
    """It ends with one line, or it serves; and the next start is as if nothing had been."""
    failures: list[str] = []
    for number in count(1, step):
        world.begin()
        shutil.rmtree(world.mirror.data, ignore_errors=True)
        (world.mirror.folder / "log").unlink(missing_ok=True)
        world.faults.arm(number, KINDS[kind])
        try:
            begin_and_freeze(world, KINDS[kind])
        except AssertionError as failed:
            failures.append(f"operation {number}, {world.faults.what}: {failed}")
        fired = world.faults.disarm()
        world.mirror.kill()
        if not fired or len(failures) == ENOUGH:
            break
        tally("faults injected")
    assert not failures, "\n".join(failures)
    assert number > step, "no operation was seen: the shim does not work"


def begin_and_freeze(world: World, kind: Kind) -> None:
    """Start with a fault to come, ask for a file, and do both again with none."""
    mirror, asks = world.mirror, small(world, f"start-{DATE}")
    mirror.start(ready=False)
    until(lambda: not mirror.running or is_ready(mirror), "a start or an end")
    first = answer(asks[0], world)
    if not mirror.running:
        mirror.process = None
        assert kind.error == KILL or "httpcache: " in mirror.log(), f"no word of why it ended:\n{mirror.log()}"
    assert "Traceback" not in mirror.log(), mirror.log()
    world.faults.disarm()
    mirror.kill()
    mirror.start()
    world.change()
    second = answer(asks[0], world)
    assert second is not None
    assert first in (None, second)
    mirror.stop()
    checked_records(mirror.data)
