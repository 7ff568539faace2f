"""Retries of a registry's pages and files: one rest for both, and failures that are counted for each alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest

from httpcache.command.progress import Lines
from httpcache.errors import TimedOut
from pypi_adapter.capture import retry
from pypi_adapter.capture.capture import Capture
from pypi_adapter.capture.project_capture import ListEntry, capture_project
from pypi_adapter.capture.rescue import Rescue
from pypi_adapter.capture.retry import GaveUp, SharedBackoff
from pypi_adapter.registry.project_list import ProjectListLog
from pypi_adapter.registry.registry import Registry
from pypi_adapter.registry.rest import Rest
from pypi_adapter.registry.scope import ALL, Scope
from pypi_adapter.simple.model import File, ProjectStatus
from tests.support.inprocess import running
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.rescued import unlist
from tests.support.upstream import Request, Response

ONE, TWO = wheel("demo", "1.0"), wheel("demo", "2.0")
OLD = "2023-06-01T00:00:00Z"
REST = 2.0  # seconds


async def nothing(project: str, file: File, status: ProjectStatus | None) -> str | None:
    """The policy that withholds nothing."""
    return None


class Tired:
    """Answers the first request with 429, and notes when the others come."""

    def __init__(self, inner: Callable[[Request], Response]) -> None:
        self.refused = 0.0
        self.times: list[float] = []
        self._inner = inner

    def __call__(self, request: Request) -> Response:
        self.times.append(time.monotonic())
        if not self.refused:
            self.refused = self.times.pop()
            return Response(b"", 429, {"Retry-After": f"{REST:.0f}"})
        return self._inner(request)


@pytest.mark.parametrize("tired", ["pages", "files"])
def test_the_rest_that_a_registry_asks_for_holds_for_its_pages_and_its_files(
    tired: str, pypi: PyPI, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever of the two was refused, the other is not asked for either until the rest is over."""
    caplog.set_level(logging.INFO, "httpcache")
    times: list[float] = []
    for dist in (ONE, TWO):
        pypi.upload(dist, OLD)

    def noted(inner: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            times.append(time.monotonic())
            return inner(request)

        return answer

    async def work() -> Tired:
        async with running(tmp_path) as mirror:
            registry = Registry("pypi", pypi.url, mirror, loss_seconds=0)
            rescue = Rescue(registry, mirror, nothing)
            capture = Capture(registry, ProjectListLog(registry, mirror), rescue, Scope(ALL))
            await capture.run(Lines())
            path = pypi.release(TWO).path
            unlist(pypi, TWO)
            missing = (await capture_project(registry, "demo", ListEntry(listed=True, serial=None), 0)).missing
            index = pypi.index.otherwise

            def file(_: Request) -> Response:
                return Response(TWO.data)

            first = Tired(index if tired == "pages" else file)
            pypi.index.otherwise = first if tired == "pages" else noted(index)
            pypi.files.pages[path] = first if tired == "files" else noted(file)
            works: list[Callable[[], Coroutine[Any, Any, object]]] = [
                lambda: capture.run(Lines()),
                lambda: rescue.settle("demo", missing, None),
            ]
            begins, waits = works if tired == "pages" else reversed(works)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(begins)
                while "trying again in" not in caplog.text:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
                tasks.start_soon(waits)
            return first

    first = anyio.run(work)
    assert first.times
    assert times
    assert min(times) >= first.refused + REST - 0.1


def test_failures_of_files_do_not_count_for_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do those of one pass count for the next."""
    monkeypatch.setattr(retry, "FIRST", 0.001)
    rest = Rest()
    files, pages = SharedBackoff(rest), SharedBackoff(rest)

    async def fail() -> None:
        raise TimedOut("too slow")

    async def work() -> None:
        for _ in range(retry.HOPELESS // retry.TRIES - 1):
            with pytest.raises(TimedOut):
                await files.run(fail)
        with pytest.raises(GaveUp):
            await files.run(fail)
        with pytest.raises(TimedOut):
            await pages.run(fail)

    anyio.run(work)
