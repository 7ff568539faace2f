"""The log of a registry when several write to it at once, and what may make the registry be asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from httpcache.freezing.mirror import Mirror as Inner
from httpcache.store.log import Log
from pypi_adapter.history.history import Entry, History, decode_entry
from pypi_adapter.instants import now
from pypi_adapter.registry.registry import Registry
from pypi_adapter.registry.requested_projects import RequestedProjects
from tests.support import http
from tests.support.command import run
from tests.support.index import json_file, json_files, json_page
from tests.support.inprocess import running
from tests.support.mirror import Mirror, free_port
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.upstream import PATIENCE, Request, Response, Upstream

PROJECT = "/simple/thing/"


def _page(*versions: str, **headers: str) -> Response:
    uploaded = {"upload-time": "2024-01-02T03:04:05Z"}
    files = (json_file(f"/files/thing-{version}.tar.gz", **uploaded) for version in versions)
    return json_page(json_files(*files), **headers)


async def _entries(mirror: Inner) -> list[Entry]:
    return [decode_entry(value) for value in await Log(mirror.store, "pypi/thing").read()]


def _check(entries: list[Entry]) -> None:
    """A new history takes the log in; each file is shown once and the project is told once."""
    history = History(entries)
    assert history.exists
    shown = [showing.file.filename for entry in entries for showing in entry.shown]
    assert sorted(shown) == sorted(set(shown))
    assert sum(entry.project is not None for entry in entries) == 1


@pytest.mark.parametrize("read", [True, False], ids=["read", "not read"])
@pytest.mark.parametrize("age", [0, 30], ids=["later", "earlier"])
@pytest.mark.parametrize("dated", [False, True], ids=["live", "dated"])
def test_two_observe_a_project_at_once(
    dated: bool, age: int, read: bool, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first has made its entry when the second appends; `read`: a request to the first reads in between.

    `age`: what the second observed was older than what the first did, or not.
    """
    answers = iter([_page("1.0"), _page("1.0", **({"Age": f"{age}"} if age else {}))])
    upstream.pages[PROJECT] = lambda _: next(answers, _page("1.0", "1.1"))
    append = Log.append

    async def held(log: Log, number: int, value: bytes) -> bool:
        if not reached.is_set():
            reached.set()
            await release.wait()
        return await append(log, number, value)

    monkeypatch.setattr(Log, "append", held)
    reached, release = anyio.Event(), anyio.Event()

    async def work() -> None:
        async with running(tmp_path) as one, running(tmp_path) as two:
            index = f"{upstream.url}/simple/"
            first, second = (
                Registry("pypi", index, one, loss_seconds=900),
                Registry("pypi", index, two, loss_seconds=900),
            )
            try:
                async with anyio.create_task_group() as tasks:
                    if dated:
                        tasks.start_soon(first.as_of, "thing", now())
                    else:
                        tasks.start_soon(first.live, "thing", 0)
                    await reached.wait()
                    await second.live("thing", 0)
                    assert len(await _entries(two)) == 1
                    if read:
                        tasks.start_soon(first.had, "thing", 0)
                        await anyio.wait_all_tasks_blocked()
                    release.set()
            finally:
                release.set()
            entries = await _entries(two)
            _check(entries)
            assert len([entry for entry in entries if entry.changed]) == 1
            for registry in (first, second, Registry("pypi", index, two, loss_seconds=900)):
                view = await registry.live("thing", 0)
                assert view.page is not None
                assert len(view.page.page().files) == 2
            _check(await _entries(one))

    anyio.run(work)


def test_names_are_noted_and_read_at_once(upstream: Upstream, tmp_path: Path) -> None:
    """By two processes; every reader sees the names so far in one order, each once."""
    names = [f"p{number}" for number in range(24)]
    upstream.otherwise = lambda _: _page("1.0")

    async def work() -> None:
        seen: list[list[str]] = []
        async with running(tmp_path) as one, running(tmp_path) as two:
            index = f"{upstream.url}/simple/"
            registries = [
                Registry("pypi", index, one, loss_seconds=900),
                Registry("pypi", index, two, loss_seconds=900),
            ]

            async def read(registry: Registry) -> None:
                seen.append(await registry.requested.all())

            async with anyio.create_task_group() as tasks:
                for number, name in enumerate(names):
                    for registry in registries if number % 3 == 0 else [registries[number % 2]]:
                        tasks.start_soon(registry.live, name, 0)
                    for registry in registries * 3:
                        tasks.start_soon(read, registry)
            values = await Log(one.store, "pypi/ logged").read()
            written = [name for value in values for name in value.decode().split("\n")]
            assert sorted(written) == sorted(names)
            for registry in (*registries, Registry("pypi", index, one, loss_seconds=900)):
                assert await registry.requested.all() == written
            for found in seen:
                assert found == written[: len(found)]

    anyio.run(work)


def test_many_readers_of_many_names_at_once(upstream: Upstream, tmp_path: Path) -> None:
    """None of the readers has read any of the log before."""
    upstream.otherwise = lambda _: _page("1.0")

    async def work() -> None:
        async with running(tmp_path) as mirror:
            index = f"{upstream.url}/simple/"
            noting, reading = (
                Registry("pypi", index, mirror, loss_seconds=900),
                Registry("pypi", index, mirror, loss_seconds=900),
            )
            for number in range(10):
                await noting.live(f"p{number}", 0)
            found: list[list[str]] = []

            async def read() -> None:
                found.append(await reading.requested.all())

            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(read)
            assert found == [[f"p{number}" for number in range(10)]] * 20

    anyio.run(work)


@pytest.mark.parametrize("status", [200, 404])
def test_a_slow_registry_behind_a_cache_is_asked_once_for_all_who_wait(
    status: int, upstream: Upstream, tmp_path: Path
) -> None:
    """With an Age the page is older than every request for it; it still answers them all."""
    release = threading.Event()

    def page(_: Request) -> Response:
        assert release.wait(PATIENCE)
        return _page("1.0", Age="30") if status == 200 else Response(b"", 404, {"Age": "30"})

    upstream.pages[PROJECT] = page

    async def work() -> None:
        async with running(tmp_path) as mirror:
            registry = Registry("pypi", f"{upstream.url}/simple/", mirror, loss_seconds=900)
            views = []

            async def read() -> None:
                views.append(await registry.live("thing", 0))

            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(read)
                    await anyio.to_thread.run_sync(upstream.wait, PROJECT)
                    observer = await registry._observer("thing")
                    for _ in range(19):
                        tasks.start_soon(read)
                    while observer.lock.statistics().tasks_waiting < 19:
                        await anyio.lowlevel.checkpoint()
                    assert upstream.count(PROJECT) == 1
                    release.set()
            finally:
                release.set()
            assert [view.page is not None for view in views] == [status == 200] * 20
            assert upstream.count(PROJECT) <= 2

    anyio.run(work)


# What the registry is not asked for


THING = wheel("thing", "1.0")
PROJECTS = [
    "..%2F..%2Fadmin", "..%252F..%252Fadmin", "%2E%2E", "%252e%252e", "a%3Fq=1", "a%253Fq=1", "a%23b", "a%2523b",
    "thing%2F", "thing%0D%0Ax", "thing%0A", "thing%00", "th%20ing", "thing@127.0.0.1", "%2F%2F127.0.0.1", "th%C3%AFng",
    "%EF%BC%8E%EF%BC%8E", "-thing", "thing-", "",
]  # fmt: skip
FILES = [
    "admin",
    "thing-1.0.html",
    "index.html",
    "..%2F..%2Fadmin",
    "thing-1.0.txt.metadata",
    ".metadata",
    "",
    "a%3Fq=1",
]


def test_what_names_no_project_or_file_does_not_reach_the_registry(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    pypi.upload(THING, "2024-01-01T00:00:00Z")
    server = mirror(pypi)
    paths = [f"/files/{project}/{THING.sha256}/{THING.filename}" for project in PROJECTS]
    paths += [f"/files/thing/{THING.sha256}/{filename}" for filename in FILES]
    for path in paths:
        for address in (path, f"{path}.metadata"):
            assert http.get(server.url + address).status_code == 404, address
    assert [request.target for request in (*pypi.index.requests, *pypi.files.requests)] == []
    assert http.get(f"{server.url}/files/thing/{THING.sha256}/{THING.filename}").content == THING.data


@pytest.mark.parametrize(
    "address", ["http://u:S3CRET@127.0.0.1/simple/", "http://:S3CRET@127.0.0.1/", "ftp://x", "x", "http://", "file:///"]
)
@pytest.mark.parametrize("how", ["option", "environment"])
def test_an_index_that_cannot_be_one(how: str, address: str, tmp_path: Path) -> None:
    arguments = ["serve", "--port", f"{free_port()}", "--data", str(tmp_path / "data")]
    if how == "option":
        ran = run(*arguments, "--pypi-upstream", address)
    else:
        ran = run(*arguments, environment={"HTTPCACHE_PYPI_UPSTREAM": address})
    assert ran.returncode == 2
    assert ("--pypi-upstream" if how == "option" else "HTTPCACHE_PYPI_UPSTREAM") in ran.stderr
    assert "S3CRET" not in ran.stderr + ran.stdout
    assert not (tmp_path / "data").exists()


def test_names_that_are_noted_at_the_same_time_share_an_entry(tmp_path: Path) -> None:
    """Logs from before that have one name in each entry, and keep their order."""
    names = [f"p{number}" for number in range(20)]

    async def work() -> None:
        async with running(tmp_path) as mirror:
            log, requested = Log(mirror.store, "pypi/ logged"), RequestedProjects(mirror.store, "pypi")
            for number, name in enumerate(("old", "older", "p3")):
                assert await log.append(number, name.encode())
            async with anyio.create_task_group() as tasks:
                for name in names:
                    tasks.start_soon(requested.note, name)
            new = [name for name in names if name != "p3"]
            assert await requested.all() == ["old", "older", "p3", *new]
            assert await RequestedProjects(mirror.store, "pypi").all() == ["old", "older", "p3", *new]
            assert await requested.position("p0") == 3
            assert len(await log.read()) <= 5

    anyio.run(work)
