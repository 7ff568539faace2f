"""The pages about many projects: what differs between two dates, and the instants at which a build can have broken."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest

from httpcache.command.asking import Asker
from pypi_adapter.comparing.diff import diff
from pypi_adapter.instants import read_instant, to_segment
from pypi_adapter.pages.changes import NAMES, project_names
from tests.support import http
from tests.support.index import document, instant, shared_pypi
from tests.support.lived import HOSTILE
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.pages import check_inert

Changed = tuple[Mirror, str, str]


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changed]:
    """A mirror, and two instants between which there were uploads, a yank, a removal, and what came back."""
    with shared_pypi(tmp_path_factory.mktemp("changed")) as (pypi, mirror):

        def look() -> str:
            for name in ("one", "two"):
                document(f"{mirror.at(instant())}{name}/")
            return instant()

        one, two = (
            [wheel("one", f"1.{number}") for number in range(4)],
            [wheel("two", f"1.{number}") for number in range(4)],
        )
        for dist in (*one[:3], *two[:3]):
            pypi.upload(dist, "2023-01-01T00:00:00Z")
        before = look()
        pypi.yank(one[1], f"broken {HOSTILE}")
        pypi.delete(two[1])
        pypi.upload(one[3], instant())
        look()
        pypi.yank(one[1], False)
        pypi.upload(two[1], "2023-01-01T00:00:00Z")
        pypi.upload(two[3], instant())
        pypi.delete(one[0])
        after = look()
        look()  # so the last instant is one that was observed
        yield mirror, before, after


def page(mirror: Mirror, name: str, status: int = 200, begin: str = "", end: str = "", projects: str = "") -> str:
    """A page, of which nothing runs."""
    query = {"from": begin, "to": end, "projects": projects}
    got = http.get(f"{mirror.url}/-/{name}/?{urlencode(query)}")
    assert got.status_code == status, got.text
    check_inert(got.text)
    return got.text


def to_copy(text: str, name: str) -> str:
    """What a region has for copying."""
    found = re.search(rf'<pre data-copy[^>]*aria-label="{name}"><code>(.*?)</code>', text, re.DOTALL)
    assert found
    return unescape(found[1])


def test_it_says_what_the_command_says(changed: Changed, capsys: pytest.CaptureFixture[str]) -> None:
    mirror, before, after = changed
    text = page(mirror, "diff", projects="One\ntwo", begin=before, end=after)
    given: dict[str, Any] = {"before": before, "after": after, "projects": ["one", "two"]}
    given |= {"index": None, "requirements": None, "python": None}
    for form, name in (("markdown", "Markdown"), ("json", "JSON")):
        assert diff(Asker(mirror.url), given | {"format": form}) == 0
        assert to_copy(text, name).strip() == capsys.readouterr().out.strip()
    assert to_copy(text, "The command") == f"httpcache diff {before} {after} one two --mirror {mirror.url}"


def test_every_instant_at_which_something_changes(changed: Changed) -> None:
    """At each one the page of its project differs from that of a microsecond before, and between them it does not."""
    mirror, before, after = changed
    text = page(mirror, "bisect", projects="one, two", begin=before, end=after)
    found = [json.loads(line) for line in to_copy(text, "JSON").splitlines()]
    for name, expected in {
        "one": ["uploaded", "yanked", "gone", "no longer yanked"],  # the last two were seen together
        "two": ["gone", "uploaded", "back"],
    }.items():
        assert [each["what"] for each in found if each["project"] == name] == expected
    assert f"At {len({each['instant'] for each in found})} instants something changed" in text
    command = f"httpcache bisect --good {before} --bad {after} -r requirements.txt --mirror {mirror.url} -- pytest"
    assert to_copy(text, "The command") == command

    def files(name: str, moment: str) -> list[tuple[str, str]]:
        shown = document(f"{mirror.at(moment)}{name}/")["files"]
        return sorted((file["filename"], str(file.get("yanked"))) for file in shown)

    for name in ("one", "two"):
        moments = sorted({each["instant"] for each in found if each["project"] == name})
        for moment, following in zip(moments, [*moments[1:], after], strict=True):
            assert files(name, _less(moment)) != files(name, moment)
            assert files(name, moment) == files(name, _less(following))
        assert files(name, before) == files(name, _less(moments[0]))


def _less(moment: str) -> str:
    found = read_instant(moment)
    assert found is not None
    return to_segment(found - 1)


@pytest.mark.parametrize("name", ["diff", "bisect"])
def test_what_is_asked_in_vain(name: str, changed: Changed) -> None:
    mirror, before, after = changed
    assert 'role="alert"' not in page(mirror, name)
    many = " ".join(f"p{number}" for number in range(NAMES + 1))
    for wrong, begin, end, projects in [
        ("The first date is after the second one.", after, before, "one"),
        ("Write names of projects", before, after, "-"),
        (f"{NAMES} are looked at at most", before, after, many),
        ("is in the future", before, "2999-01-01", "one"),
        ("Write a date", "live", after, "one"),
    ]:
        assert wrong in page(mirror, name, 400, begin, end, projects)
    text = page(mirror, name, begin=before, end=instant(), projects="absent one")
    assert "not observed here: open its index at the second date first" in text
    assert '/-/projects/absent/">absent</a>' in text
    assert "last observed at 20" in text
    assert http.get(f"{mirror.url}/-/{name}/?registry=absent").status_code == 404


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("one", ["one"]),
        ("One, two three\nfour", ["one", "two", "three", "four"]),
        (
            "one>=1,<2 ; python_version < '3'\ntwo[extra]==1 --hash=sha256:aa\n# three\nfour # five",
            ["one", "two", "four"],
        ),
        ("-r more.txt\n--pre\n./x\n<script>", []),
        ("one\none\nOne", ["one"]),
        ("a.b-c_d", ["a-b-c-d"]),
    ],
)
def test_names_that_are_pasted(text: str, expected: list[str]) -> None:
    assert project_names(text) == expected
