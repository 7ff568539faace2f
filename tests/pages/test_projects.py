"""The pages of a project: its time line, its page at an instant, and two instants compared; and pure drawing."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pypi_adapter.history.timeline import Kind, Line
from pypi_adapter.instants import now
from pypi_adapter.pages.drawing import LANES, LEFT, RIGHT, WIDTH, draw, lane_of
from pypi_adapter.simple.difference import difference
from pypi_adapter.simple.model import File, Page
from tests.support import http
from tests.support.examples import examples
from tests.support.index import instant
from tests.support.lived import NAME, lived
from tests.support.mirror import Mirror
from tests.support.pages import check_inert
from tests.support.registries import PyPI


def test_a_project_through_its_life(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    """Every kind of event is in the table, and has its lane in the drawing; nothing of a reason runs."""
    server = lived(pypi, mirror)
    got = http.get(f"{server.url}/-/projects/{NAME}/")
    check_inert(got.text)
    text = unescape(re.sub(r"<[^>]+>", " ", got.text))
    for part in ("uploaded", 'yanked: "broken build <script>', "gone", "rescued", "Status: archived", "block demo-lib"):
        assert part in text, part
    lanes = re.findall(r'<text class="lane"[^>]*>(\w+)</text>', got.text)
    assert lanes == ["Releases", "Yanks", "Removals", "Rescues", "Status", "Observed", "Captures", "Rules"]
    releases = re.findall(r'<tr><th scope="row">([\d.]+)</th>', got.text)
    assert "1.2" not in releases
    assert releases[0] == "6.3"
    assert "1 yanked" in text
    assert "1 withheld by this mirror: steals credentials" in text
    then = http.get(f"{server.url}/-/projects/{NAME}/?at=2020-06-01")
    releases = re.findall(r'<tr><th scope="row">([\d.]+)</th>', then.text)
    assert releases == ["2.1", "2.0", "1.3", "1.2", "1.1", "1.0"]
    assert f'href="/2020-06-01/{NAME}/"' in then.text
    assert "It did not exist then" in http.get(f"{server.url}/-/projects/{NAME}/?at=2001-01-01").text
    compared = http.get(f"{server.url}/-/projects/{NAME}/diff?from=2020-06-01&to={instant()}")
    check_inert(compared.text)
    assert "been observed since then" in compared.text
    compared = http.get(f"{server.url}/-/projects/{NAME}/diff?from=2024-12-31&to=")
    text = unescape(re.sub(r"<[^>]+>", " ", compared.text))
    assert re.search(r"Releases gone\s+1.3, 1.2\s", text)
    assert "yanked: broken build <script>" in text
    assert "Nothing differs" in http.get(f"{server.url}/-/projects/{NAME}/diff?from=2021-01-01&to=2021-01-01").text
    found = http.get(f"{server.url}/-/projects/?q=demo")
    assert f'href="/-/projects/{NAME}/"' in found.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/-/projects/absent/", 404),
        ("/-/projects/absent/diff?from=2020-01-01", 404),
        ("/-/projects/-x-/", 404),
        ("/-/projects/%3Cscript%3E/", 404),
        ("/-/projects/?q=%3Cscript%3E", 200),
        ("/-/projects/?registry=absent", 404),
        ("/-/projects/absent", 308),
    ],
)
def test_a_project_that_is_none(path: str, status: int, server: Mirror) -> None:
    got = http.get(server.url + path, headers={"Accept": "text/html"})
    assert got.status_code == status
    if got.text:
        check_inert(got.text)


def test_an_instant_that_is_none(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    """Said beside the field, and the history is there all the same."""
    server = lived(pypi, mirror)
    for wrong in ["x", "2020-02-30", "2999-01-01", "live", "<script>", "2020-01-01T00:00:00", "\u0660"]:
        for path in (f"/-/projects/{NAME}/", f"/-/projects/{NAME}/diff"):
            got = http.get(server.url + path, params={"at": wrong, "from": wrong})
            assert 'role="alert"' in got.text
            check_inert(got.text)


# --- pure


INSTANTS = st.integers(0, now())
LINES = st.lists(
    st.builds(Line, INSTANTS, st.sampled_from(Kind), st.integers(1, 5000), st.text(max_size=5)), max_size=60
)


def test_every_kind_has_one_lane() -> None:
    assert {kind: sum(kind in kinds for kinds in LANES.values()) for kind in Kind} == dict.fromkeys(Kind, 1)


@given(LINES, LINES, INSTANTS)
@settings(max_examples=examples(200))
def test_marks_are_in_order_apart_and_inside(lines: list[Line], more: list[Line], end: int) -> None:
    """No mark is lost: each lane that has lines has marks, from left to right, and none outside of the drawing."""
    drawing = draw(lines, {"Captures": more}, end)
    assert [lane.name for lane in drawing.lanes if lane.name != "Captures"] == [
        name for name in LANES if any(lane_of(line.kind) == name for line in lines)
    ]
    assert any(lane.name == "Captures" for lane in drawing.lanes) is bool(more)
    for lane in drawing.lanes:
        places = [mark.x for mark in lane.marks]
        assert places
        assert all(LEFT <= x <= WIDTH - RIGHT for x in places)
        assert all(other - one > 9 for one, other in pairwise(places))
        assert 0 < lane.y < drawing.height
    ticks = [x for x, _ in drawing.ticks]
    assert len(ticks) <= 12
    assert all(LEFT <= x <= WIDTH - RIGHT + 1 for x in ticks)


def file(name: str, content: str = "a", yanked: bool | str = False, python: str | None = None) -> File:
    """A file on a page."""
    return File(name, f"https://h/{name}", {"sha256": content * 64}, yanked=yanked, requires_python=python)


ONE, TWO = "demo-1.0-py3-none-any.whl", "demo-2.0-py3-none-any.whl"


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ([], [], []),
        ([file(ONE)], [file(ONE)], []),
        (None, [file(ONE)], [("1.0", "new")]),
        ([file(ONE)], None, [("1.0", "gone")]),
        ([], [file(ONE, yanked="bad")], [("1.0", "new, yanked")]),
        ([file(ONE)], [file(ONE), file(TWO)], [("2.0", "new")]),
        ([file(ONE)], [file(ONE, yanked=True)], [("1.0", "yanked")]),
        ([file(ONE)], [file(ONE, yanked="bad")], [("1.0", "yanked: bad")]),
        ([file(ONE, yanked=True)], [file(ONE)], [("1.0", "no longer yanked")]),
        ([file(ONE)], [file(ONE, "b")], [("1.0", "gone"), ("1.0", "other content under the same name")]),
        ([file(ONE)], [file(ONE, python=">=3.9")], [("1.0", "requires Python >=3.9 (was any)")]),
        ([], [file("odd")], [("", "new")]),
    ],
)
def test_what_differs(before: list[File] | None, after: list[File] | None, changes: list[tuple[str, str]]) -> None:
    pages = [None if files is None else Page("demo", tuple(files)) for files in (before, after)]
    assert [(change.version, change.what) for change in difference(*pages).changes] == changes
