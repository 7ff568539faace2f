"""Files that a registry removes are frozen at once, if they can be: by the real server, and at chosen moments."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings

from httpcache.freezing.mirror import Mirror as Inner
from pypi_adapter.capture import retry
from pypi_adapter.capture.rescue import AT_ONCE, Outcomes, Rescue
from pypi_adapter.history.history import History, Missing, Observation
from pypi_adapter.history.project_log import entries_log
from pypi_adapter.history.rescue_log import RescueLog
from pypi_adapter.instants import now
from pypi_adapter.registry.registry import Registry
from pypi_adapter.simple.model import File, ProjectStatus, identity
from tests.history.test_history import history_of, observed, unaddressed
from tests.support import http
from tests.support.command import run
from tests.support.examples import examples
from tests.support.index import document, filenames, instant, json_file, json_files, json_page
from tests.support.inprocess import running
from tests.support.inside import checked_records, until
from tests.support.mirror import Mirror
from tests.support.packages import Dist, wheel
from tests.support.rawupstream import RawUpstream, answer, head
from tests.support.registries import PyPI
from tests.support.rescued import link, outcomes, unlist
from tests.support.rows import diagonal
from tests.support.upstream import CUT, NOT_FOUND, Request, Response, Upstream

OLD = "2023-06-01T00:00:00Z"
ONE, LINUX, TWO = wheel("demo", "1.0"), wheel("demo", "1.0", tag="cp311-cp311-linux_x86_64"), wheel("demo", "2.0")
PAGE = "/simple/demo/"


@pytest.fixture
def demo(pypi: PyPI) -> PyPI:
    """A PyPI with a project of two releases, the first with two files."""
    for dist in (ONE, LINUX, TWO):
        pypi.upload(dist, OLD)
    return pypi


def settled(server: Mirror, *dists: Dist, project: str = "demo") -> list[tuple[str, str, str | None, int | None]]:
    """Wait until the files have outcomes, and return these."""
    until(lambda: len(outcomes(server.data, project)) >= len(dists), "the outcomes")
    return [(each.filename, each.outcome, each.reason, each.size) for each in outcomes(server.data, project)]


def all_rescued(*dists: Dist) -> list[tuple[str, str, str | None, int | None]]:
    return sorted((dist.filename, "rescued", None, len(dist.data)) for dist in dists)


def history(server: Mirror) -> list[str]:
    """The time line, without its times."""
    ran = run("history", "--data", server.data, "demo")
    assert ran.returncode == 0, ran.stderr
    return [line.partition("  ")[2] for line in ran.stdout.splitlines()]


# --- the server


REMOVED = {"a file": (LINUX,), "a release": (ONE, LINUX), "the project": (ONE, LINUX, TWO)}


@pytest.mark.parametrize(("by", "what"), diagonal(["live", "a date"], list(REMOVED)))
def test_what_is_removed_is_frozen(by: str, what: str, demo: PyPI, mirror: Callable[..., Mirror]) -> None:
    """Nobody has asked for the file; the observation that misses it is enough. Earlier dates keep it, offline too."""
    removed = REMOVED[what]
    server = mirror(demo)
    before = instant()
    document(f"{server.at(before)}demo/")
    unlist(demo, *removed)
    filenames(f"{server.at('live' if by == 'live' else instant())}demo/")
    assert settled(server, *removed) == all_rescued(*removed)
    assert sorted(record.digest for record in checked_records(server.data)) == sorted(dist.sha256 for dist in removed)
    for dist in removed:
        assert f"{dist.filename}: rescued ({len(dist.data)} bytes)" in history(server)
    gone = instant()
    filenames(f"{server.at(gone)}demo/")
    server.restart("--offline")
    assert filenames(f"{server.at(before)}demo/") == sorted(dist.filename for dist in (ONE, LINUX, TWO))
    assert filenames(f"{server.at(gone)}demo/") == sorted(
        {ONE.filename, LINUX.filename, TWO.filename} - {d.filename for d in removed}
    )
    for dist in removed:
        assert http.get(link(server, dist)).content == dist.data
        assert http.get(f"{link(server, dist)}.metadata").content == dist.metadata


def test_what_has_other_content_now_is_frozen(demo: PyPI, mirror: Callable[..., Mirror]) -> None:
    """A file of the same name with other bytes is another file; the first one is missed."""
    server = mirror(demo)
    document(f"{server.at('live')}demo/")
    demo.files.pages[demo.release(TWO).path] = TWO.data
    demo.upload(wheel("demo", "2.0", salt="other"), instant())
    document(f"{server.at('live')}demo/")
    assert settled(server, TWO) == all_rescued(TWO)
    assert http.get(link(server, TWO)).content == TWO.data


def test_already_gone(demo: PyPI, mirror: Callable[..., Mirror]) -> None:
    """The page and the file at the same time: earlier dates list it, and its address answers what the upstream does."""
    server = mirror(demo)
    before = instant()
    document(f"{server.at(before)}demo/")
    demo.delete(TWO)
    document(f"{server.at('live')}demo/")
    assert settled(server, TWO) == [(TWO.filename, "gone", "its address answers 404", None)]
    assert history(server)[-1] == f"{TWO.filename}: already gone: its address answers 404"
    assert TWO.filename in filenames(f"{server.at(before)}demo/")
    assert http.get(link(server, TWO)).status_code == 404


def test_yanked_is_not_missed(demo: PyPI, mirror: Callable[..., Mirror]) -> None:
    server = mirror(demo)
    document(f"{server.at('live')}demo/")
    demo.yank(TWO, "broken")
    unlist(demo, ONE)
    document(f"{server.at('live')}demo/")
    assert settled(server, ONE) == all_rescued(ONE)
    assert [seen.path for seen in demo.files.requests if seen.path.endswith(".whl")] == [
        f"/packages/{ONE.sha256[:2]}/{ONE.sha256[2:4]}/{ONE.sha256[4:]}/{ONE.filename}"
    ]


def test_an_observation_that_misses_nothing_new_rescues_nothing(demo: PyPI, tmp_path: Path) -> None:
    """What failed is left to the capture: a page that is asked for often must not ask for the same file as often."""

    async def work() -> None:
        async with running(tmp_path) as mirror:
            registry = Registry("pypi", demo.url, mirror, loss_seconds=0)
            told: list[list[str]] = []
            registry.on_missed = lambda project, missing, status: told.append([each.file.filename for each in missing])
            await registry.live("demo", 0)
            demo.yank(LINUX, "broken")
            await registry.live("demo", 0)
            assert told == []
            demo.delete(TWO)
            await registry.live("demo", 0)
            assert told == [[TWO.filename]]
            await registry.live("demo", 0)
            await registry.as_of("demo", now())
            demo.yank(LINUX, False)
            await registry.live("demo", 0)
            assert told == [[TWO.filename]]
            demo.delete(LINUX)
            await registry.as_of("demo", now())
            assert told[1:] == [[LINUX.filename, TWO.filename]]
            demo.delete(ONE)
            await registry.live("demo", 0)
            assert len(told[2]) == 3

    anyio.run(work)


@pytest.mark.parametrize("by", ["quarantine", "rule"])
def test_malware_is_not_made_immortal(by: str, demo: PyPI, mirror: Callable[..., Mirror], tmp_path: Path) -> None:
    """A quarantine holds also when the project is removed after it. Nothing is fetched."""
    rules = tmp_path / "rules.toml"
    rules.write_text('[[block]]\nproject = "demo"\nversions = "==2.0"\nreason = "a worm"\n' if by == "rule" else "")
    server = mirror(demo, "--config", str(rules))
    before = instant()
    document(f"{server.at(before)}demo/")
    if by == "quarantine":
        demo.set_status("demo", "quarantined", "a worm")
        document(f"{server.at('live')}demo/")
    removed = (TWO,) if by == "rule" else (ONE, LINUX, TWO)
    unlist(demo, *removed)
    filenames(f"{server.at('live')}demo/")
    found = settled(server, *removed)
    assert [(name, outcome) for name, outcome, _, _ in found] == sorted((dist.filename, "withheld") for dist in removed)
    assert all("a worm" in str(reason) for _, _, reason, _ in found)
    assert any(line.startswith(f"{TWO.filename}: not rescued, withheld by ") for line in history(server))
    assert TWO.filename not in filenames(f"{server.at(before)}demo/")
    assert http.get(link(server, TWO)).status_code == 403
    assert demo.files.requests == []
    assert checked_records(server.data) == []


def test_the_answer_does_not_wait_for_the_rescue(demo: PyPI, mirror: Callable[..., Mirror]) -> None:
    """And the end of the server does not lose what is under way: the download may end."""
    server = mirror(demo)
    document(f"{server.at('live')}demo/")
    release = threading.Event()
    path = demo.release(TWO).path
    demo.delete(TWO)
    demo.files.pages[path] = Response([TWO.data[:100], release, TWO.data[100:]])
    assert TWO.filename not in filenames(f"{server.at('live')}demo/")
    demo.files.wait(path)
    server.terminate()
    release.set()
    server.stop()
    assert [record.digest for record in checked_records(server.data)] == [TWO.sha256]
    settle(demo, server.data)  # what was cut off; if nothing was, nothing is left to do
    assert settled(server, TWO) == all_rescued(TWO)
    assert demo.files.count(path) == 1


def test_a_kill_in_the_middle(demo: PyPI, mirror: Callable[..., Mirror]) -> None:
    """Nothing half is kept, and the next one to look completes it."""
    server = mirror(demo)
    document(f"{server.at('live')}demo/")
    release = threading.Event()
    path = demo.release(TWO).path
    demo.delete(TWO)
    demo.files.pages[path] = Response([TWO.data[:100], release, TWO.data[100:]])
    document(f"{server.at('live')}demo/")
    demo.files.wait(path)
    until(lambda: any(part.stat().st_size for part in (server.data / "spool").glob("*.part")), "the first bytes")
    server.kill()
    release.set()
    assert checked_records(server.data) == []
    assert outcomes(server.data, "demo") == []
    assert settle(demo, server.data) == Outcomes(rescued=1)
    assert [record.digest for record in checked_records(server.data)] == [TWO.sha256]
    assert settle(demo, server.data) == Outcomes()
    assert demo.files.count(path) == 2


# --- settle


async def nothing(project: str, file: File, status: ProjectStatus | None) -> str | None:
    """The policy that withholds nothing."""
    return None


async def missing_of(mirror: Inner) -> tuple[list[Missing], ProjectStatus | None]:
    known = History(await entries_log(mirror.store, "pypi", "demo").all())
    return known.missing(), known.status


async def settle_in(
    mirror: Inner, url: str, withheld: Callable[..., object] = nothing, *, look: bool = False
) -> Outcomes:
    registry = Registry("pypi", url, mirror, loss_seconds=0)
    if look:
        await registry.live("demo", 0)
    return await Rescue(registry, mirror, withheld).settle("demo", *await missing_of(mirror))  # type: ignore[arg-type]


def settle(pypi: PyPI, data: Path) -> Outcomes:
    """Do what the capture does, in the data folder of a server that does not run."""

    async def work() -> Outcomes:
        async with running(data.parent) as mirror:
            return await settle_in(mirror, pypi.url)

    return anyio.run(work)


OTHER = {"as long": bytes(reversed(TWO.data)), "longer": TWO.data + b"\n", "shorter": TWO.data[:-1], "empty": b""}


@pytest.mark.parametrize("other", OTHER)
def test_other_bytes_are_not_kept(other: str, demo: PyPI, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as mirror:
            await settle_in(mirror, demo.url, look=True)
            demo.files.pages[demo.release(TWO).path] = OTHER[other]
            demo.delete(TWO)
            assert await settle_in(mirror, demo.url, look=True) == Outcomes(gone=1)
            assert await settle_in(mirror, demo.url) == Outcomes()

    anyio.run(work)
    assert [(each.outcome, each.reason) for each in outcomes(tmp_path / "data", "demo")] == [
        ("gone", "other bytes are at its address")
    ]
    assert checked_records(tmp_path / "data") == []


FAILURES: dict[str, Response | None] = {
    **{str(status): Response(b"no", status) for status in (401, 429, 500, 503)},
    "redirects to nothing": Response(b"", 302),
    "cut": Response([TWO.data[:100], CUT]),
    "cut short": Response(TWO.data[:100], headers={"Content-Length": str(len(TWO.data))}),
    "unreachable": None,
}


@pytest.mark.parametrize("failure", FAILURES)
def test_what_fails_is_tried_again(
    failure: str, demo: PyPI, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST", 0.01)  # seconds: it rests between its tries

    async def work() -> None:
        async with running(tmp_path) as mirror:
            await settle_in(mirror, demo.url, look=True)
            path = demo.release(TWO).path
            unlist(demo, LINUX, TWO)
            response = FAILURES[failure]
            if response is None:
                demo.files.stop()
                assert await settle_in(mirror, demo.url, look=True) == Outcomes(failed=2)
                demo.files.start()
            else:
                demo.files.pages[path] = response
                assert await settle_in(mirror, demo.url, look=True) == Outcomes(rescued=1, failed=1)
            assert TWO.filename not in [each.filename for each in await RescueLog(mirror.store, "pypi", "demo").all()]
            assert [record.levelname for record in caplog.records if "not rescued yet" in record.getMessage()]
            demo.files.pages[path] = TWO.data
            assert (await settle_in(mirror, demo.url)).failed == 0

    anyio.run(work)
    assert {outcome.filename: outcome.outcome for outcome in outcomes(tmp_path / "data", "demo")} == {
        LINUX.filename: "rescued",
        TWO.filename: "rescued",
    }


def test_a_body_that_ends_with_its_connection_may_be_a_cut_one(upstream: Upstream, tmp_path: Path) -> None:
    """Nothing tells the end from a cut: that other bytes are there is not known."""

    async def work() -> None:
        with RawUpstream() as host:
            file = json_file(f"{host.url}/{TWO.filename}", hashes={"sha256": TWO.sha256}, size=len(TWO.data))
            rest = json_file(f"{host.url}/{ONE.filename}")
            upstream.pages[PAGE] = json_page(json_files(file, rest))
            async with running(tmp_path) as mirror:
                index = f"{upstream.url}/simple/"
                await settle_in(mirror, index, look=True)
                upstream.pages[PAGE] = json_page(json_files(rest))
                host.play(f"/{TWO.filename}", [head() + TWO.data[:-1]], [answer(TWO.data)])
                assert await settle_in(mirror, index, look=True) == Outcomes(failed=1)
                assert await settle_in(mirror, index) == Outcomes(rescued=1)

    anyio.run(work)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_file_hosts_say_of_what_they_no_longer_have(status: int, demo: PyPI, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as mirror:
            await settle_in(mirror, demo.url, look=True)
            demo.files.pages[demo.release(TWO).path] = Response(b"no", status)
            demo.delete(TWO)
            assert await settle_in(mirror, demo.url, look=True) == Outcomes(gone=1)
            assert await settle_in(mirror, demo.url) == Outcomes()

    anyio.run(work)
    assert [each.reason for each in outcomes(tmp_path / "data", "demo")] == [f"its address answers {status}"]


def test_a_404_of_a_moment_ago_is_asked_again(demo: PyPI, tmp_path: Path) -> None:
    """What clients are told from memory is no outcome."""

    async def work() -> None:
        async with running(tmp_path) as mirror:
            registry = Registry("pypi", demo.url, mirror, loss_seconds=0)
            await registry.live("demo", 0)
            path = demo.release(TWO).path
            demo.files.pages[path] = NOT_FOUND
            file = await registry.file("demo", TWO.sha256, TWO.filename)
            for _ in range(2):
                await registry.files.open("demo", file)
            assert demo.files.count(path) == 1
            unlist(demo, TWO)
            assert await settle_in(mirror, demo.url, look=True) == Outcomes(rescued=1)

    anyio.run(work)


def test_what_is_frozen_is_not_asked_for(demo: PyPI, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as mirror:
            registry = Registry("pypi", demo.url, mirror, loss_seconds=0)
            await registry.live("demo", 0)
            await registry.files.freeze("demo", await registry.file("demo", TWO.sha256, TWO.filename))
            demo.delete(TWO)
            demo.files.requests.clear()
            assert await settle_in(mirror, demo.url, look=True) == Outcomes(rescued=1)
            assert demo.files.requests == []

    anyio.run(work)


def test_back_and_removed_again(demo: PyPI, tmp_path: Path) -> None:
    """An outcome is of one disappearance: a registry that lost everything for an hour must not cost the next rescue."""

    async def work() -> None:
        async with running(tmp_path) as mirror:
            await settle_in(mirror, demo.url, look=True)
            demo.delete(TWO)
            assert await settle_in(mirror, demo.url, look=True) == Outcomes(gone=1)
            demo.upload(TWO, OLD)
            assert await settle_in(mirror, demo.url, look=True) == Outcomes()
            unlist(demo, TWO)
            assert await settle_in(mirror, demo.url, look=True) == Outcomes(rescued=1)

    anyio.run(work)
    assert [each.outcome for each in outcomes(tmp_path / "data", "demo")] == ["gone", "rescued"]


def test_a_rule_that_is_lifted(demo: PyPI, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as mirror:
            rule: list[str] = ["a worm"]

            async def withheld(project: str, file: File, status: ProjectStatus | None) -> str | None:
                return rule[0] if rule and file.filename == TWO.filename else None

            await settle_in(mirror, demo.url, look=True)
            unlist(demo, TWO)
            assert await settle_in(mirror, demo.url, withheld, look=True) == Outcomes(withheld=1)
            assert await settle_in(mirror, demo.url, withheld) == Outcomes()
            assert demo.files.requests == []
            rule.clear()
            assert await settle_in(mirror, demo.url, withheld) == Outcomes(rescued=1)
            rule.append("a worm after all")
            assert await settle_in(mirror, demo.url, withheld) == Outcomes()

    anyio.run(work)
    assert [each.outcome for each in outcomes(tmp_path / "data", "demo")] == ["withheld", "rescued"]


MANY = [wheel("demo", f"1.{number}") for number in range(24)]


def test_two_processes_settle_the_same_files(pypi: PyPI, tmp_path: Path) -> None:
    """Each file has one outcome, and was asked for once by one of them."""
    for dist in MANY:
        pypi.upload(dist, OLD)

    async def work() -> None:
        async with running(tmp_path) as one, running(tmp_path) as two:
            await settle_in(one, pypi.url, look=True)
            unlist(pypi, *MANY[::2])
            for dist in MANY[1::2]:
                pypi.delete(dist)
            counts: list[Outcomes] = []

            async def settle_once(mirror: Inner) -> None:
                counts.append(await settle_in(mirror, pypi.url))

            await Registry("pypi", pypi.url, one, loss_seconds=0).live("demo", 0)
            async with anyio.create_task_group() as tasks:
                for mirror in (one, two) * 3:
                    tasks.start_soon(settle_once, mirror)
            assert sum(each.rescued for each in counts) == sum(each.gone for each in counts) == 12
            assert sum(each.failed for each in counts) == 0

    anyio.run(work)
    found = outcomes(tmp_path / "data", "demo")
    assert sorted(each.filename for each in found) == sorted(dist.filename for dist in MANY)
    assert {each.filename for each in found if each.outcome == "rescued"} == {dist.filename for dist in MANY[::2]}
    for dist in MANY[::2]:
        assert sum(seen.path.endswith(dist.filename) for seen in pypi.files.requests) == 1


def test_few_at_once(pypi: PyPI, tmp_path: Path) -> None:
    """A project of hundreds of files must not take every connection."""
    for dist in MANY:
        pypi.upload(dist, OLD)
    lock, too_many = threading.Lock(), threading.Event()
    under_way: set[str] = set()

    def slow(request: Request) -> Response:
        with lock:
            under_way.add(request.path)
            if len(under_way) > AT_ONCE:
                too_many.set()
        too_many.wait(0.1)  # that no more come can only be told by waiting
        with lock:
            under_way.remove(request.path)
        return NOT_FOUND

    async def work() -> None:
        async with running(tmp_path) as mirror:
            await settle_in(mirror, pypi.url, look=True)
            for dist in MANY:
                pypi.delete(dist)
            pypi.files.otherwise = slow
            assert await settle_in(mirror, pypi.url, look=True) == Outcomes(gone=len(MANY))

    anyio.run(work)
    assert not too_many.is_set()


# --- what is missing


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.too_slow])
@given(observed())
def test_missing(observations: list[Observation]) -> None:
    """Over full copies of all observations: shown once, not by the last, as last shown, in the order of showing.

    Which address it is listed with is no part of it: another one is no change.
    """
    copies = [
        {identity(file): file for file in reversed(each.page.files)} if each.page else {} for each in observations
    ]
    first = dict.fromkeys(identity(file) for each in observations if each.page for file in each.page.files)
    wanted = [next(copy[key] for copy in reversed(copies) if key in copy) for key in first if key not in copies[-1]]
    missing = history_of(observations).missing()
    assert list(map(unaddressed, [each.file for each in missing])) == list(map(unaddressed, wanted))
    for each in missing:
        last = max(number for number, copy in enumerate(copies) if identity(each.file) in copy)
        assert observations[last].instant < each.gone <= observations[last + 1].instant


@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.too_slow])
@given(observed())
def test_what_is_missing_is_missing_from_the_same_instant_later(observations: list[Observation]) -> None:
    """So an outcome is found again, whatever else was observed since."""
    known = History()
    before: dict[tuple[str, str], int] = {}
    for observation in observations:
        known.extend(known.observe(observation, believed=True))
        gone = {identity(each.file): each.gone for each in known.missing()}
        shown = {identity(file) for file in observation.page.files} if observation.page else set()
        assert gone.keys() >= before.keys() - shown
        assert all(gone[key] == instant for key, instant in before.items() if key in gone)
        before = gone
