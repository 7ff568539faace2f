"""Pages that change with each poll: what that costs of memory, and how often a registry's files are asked for."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256

import pytest

from tests.support import http
from tests.support.inside import memory, until
from tests.support.mirror import Mirror
from tests.support.registries import JSON
from tests.support.rescued import outcomes
from tests.support.tally import tally
from tests.support.upstream import NOT_FOUND, Request, Response, Upstream

MIB = 1024 * 1024


def file(upstream: Upstream, project: str, number: int, **said: object) -> dict[str, object]:
    name = f"{project}-{number}.0-py3-none-any.whl"
    digest = sha256(name.encode()).hexdigest()
    return {
        "filename": name,
        "url": f"{upstream.url}/f/{name}",
        "hashes": {"sha256": digest},
        "size": 1000,
        "upload-time": "2020-01-01T00:00:00Z",
        **said,
    }


def page(project: str, files: list[dict[str, object]]) -> Response:
    versions = [str(each["filename"]).split("-")[1] for each in files]
    body = {"meta": {"api-version": "1.1"}, "name": project, "versions": versions, "files": files}
    return Response(json.dumps(body).encode(), headers={"Content-Type": JSON})


def poll(running: Mirror, project: str) -> int:
    """Ask for a live page; return how many files are on it."""
    found = http.get(f"{running.at('live')}{project}/", headers={"Accept": JSON})
    assert found.status_code == 200, found.text
    return len(found.json()["files"])


def turns(*pages: Response) -> Iterator[Response]:
    return itertools.cycle(pages)


def test_changes_count_in_the_bound_on_memory(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """Six pages of 500 files that all change with each of 40 polls: 120,000 changes."""
    running: Mirror = mirror(pypi_upstream=f"{upstream.url}/simple/")
    numbers = itertools.count()
    projects = [f"p{number}" for number in range(6)]

    def changing(project: str, _: Request) -> Response:
        reason = f"reason {next(numbers)}"
        return page(project, [file(upstream, project, number, yanked=reason) for number in range(500)])

    for project in projects:
        upstream.pages[f"/simple/{project}/"] = partial(changing, project)
    for project in projects * 2:
        poll(running, project)
    before = memory(running)
    for project in projects * 40:
        assert poll(running, project) == 500
    grown = (memory(running) - before) // MIB
    tally("MB that 120,000 changes took", grown)
    assert grown < 50


@pytest.mark.parametrize("few", [1, 250])
def test_a_page_that_comes_and_goes_is_rescued_once(
    few: int, upstream: Upstream, mirror: Callable[..., Mirror]
) -> None:
    """500 files and fewer by turns, 20 polls: each file that is missed has one GET and one outcome."""
    running: Mirror = mirror(pypi_upstream=f"{upstream.url}/simple/")
    files = [file(upstream, "demo", number) for number in range(500)]
    pages = turns(page("demo", files), page("demo", files[:few]))
    upstream.pages["/simple/demo/"] = lambda _: next(pages)
    asked: list[str] = []

    def gone(request: Request) -> Response:
        asked.append(request.path)
        return NOT_FOUND

    upstream.otherwise = gone
    seen = {poll(running, "demo") for _ in range(20)}
    assert 500 in seen
    until(lambda: len(outcomes(running.data, "demo")) >= (500 - few if few in seen else 0), "the outcomes")
    assert {poll(running, "demo") for _ in range(2)} <= {500, few}
    running.stop()
    tally(f"GETs of files for 22 polls of a page of 500 and {few} files", len(asked))
    assert len(asked) == len(set(asked)) == len(outcomes(running.data, "demo"))
