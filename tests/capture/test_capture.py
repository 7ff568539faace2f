"""The capture, by the command and beside a server: what it asks, what it keeps, and what can be answered from it."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpcache.command.scheduler import is_due, upcoming
from pypi_adapter.registry.scope import ALL, LISTED, REQUESTED, Scope
from tests.support.capture import Here
from tests.support.command import run, told
from tests.support.index import ago, ask, document, filenames, instant
from tests.support.inside import until
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.upstream import NOT_FOUND, Request, Response, Upstream

LIST = "/simple/"


# --- what is asked, and what is kept


def test_a_pass_over_everything(here: Here) -> None:
    assert "3 of 3 projects had changed, requests: 4," in here.capture()
    assert here.asked() == ["", "one", "three", "two"]


def test_a_pass_names_what_it_changed(here: Here) -> None:
    """By name, and no more than what is noted; without --changes nobody has to read it."""

    def changes(*more: str) -> list[Any]:
        ran = run("captures", "--json", *more, "--data", here.mirror.data)
        return [json.loads(line)["changed_projects"] for line in ran.stdout.splitlines()]

    here.capture()
    here.pypi.upload(wheel("one", "9.0"), "2024-01-02T00:00:00Z")
    here.capture()
    assert changes("--changes") == [["one", "three", "two"], ["one"]]
    assert changes() == [None, None]
    text = run("captures", "--changes", "--data", here.mirror.data).stdout.splitlines()
    assert text[1:4] == ["    one", "    three", "    two"]


def test_the_next_pass_asks_for_what_changed(here: Here) -> None:
    here.capture()
    here.asked()
    here.pypi.upload(wheel("two", "2.0"), ago(hours=1))
    here.pypi.upload(wheel("four", "1.0"), ago(hours=1))
    here.pypi.delete(wheel("three", "1.0"))
    here.capture()
    asked = here.asked()
    assert sorted(set(asked)) == ["", "four", "three", "two"]
    assert asked.count("three") == 2, "a project that was there and is not any more is looked at twice"
    here.capture()
    assert here.asked() == [""]


def test_what_a_pass_has_seen_is_answered_without_the_registry(here: Here) -> None:
    here.capture()
    here.pypi.upload(wheel("two", "2.0"), ago(minutes=1))
    here.capture()
    at = instant()
    here.capture()  # nothing has changed by now
    here.pypi.index.stop()
    here.mirror.start("--offline")
    assert filenames(here.mirror.at(at) + "one/") == [wheel("one", "1.0").filename]
    assert filenames(here.mirror.at(at) + "two/") == [wheel("two", version).filename for version in ("1.0", "2.0")]
    assert ask(here.mirror.at(instant()) + "one/").status_code == 504, "no pass has seen that"


def test_what_was_answered_from_a_pass_stays(here: Here) -> None:
    """The registry lies about when a file came: it was not there when the pass was made."""
    here.capture()
    at = instant()
    here.capture()
    here.mirror.start()
    before = document(here.mirror.at(at) + "one/")
    here.pypi.upload(wheel("one", "0.5"), ago(days=2))
    assert len(filenames(here.mirror.at("live") + "one/")) == 2
    assert document(here.mirror.at(at) + "one/") == before


def test_the_file_of_a_deleted_project_is_in_the_past_alone(here: Here) -> None:
    here.capture()
    at = instant()
    here.pypi.delete(wheel("one", "1.0"))
    here.capture()
    here.mirror.start()
    assert filenames(here.mirror.at(at) + "one/") == [wheel("one", "1.0").filename]
    assert ask(here.mirror.at("live") + "one/").status_code == 404


def test_a_quarantine_comes_and_goes_without_a_newer_serial(here: Here) -> None:
    """The project leaves the list and comes back; its serial stays."""
    here.capture()
    files, serial = here.pypi.projects["one"], here.pypi.serials["one"]
    page = here.pypi.index.otherwise

    def quarantined(request: Request) -> Response:
        if request.path == "/simple/one/":
            body = (
                b'{"meta": {"api-version": "1.4", "_last-serial": %d}, "name": "one", "files": [], "versions": [],'
                b' "project-status": {"status": "quarantined"}}' % serial
            )
            return Response(body, 200, {"Content-Type": "application/vnd.pypi.simple.v1+json"})
        return page(request)

    here.pypi.index.otherwise = quarantined
    del here.pypi.projects["one"]
    here.capture()
    here.mirror.start()
    status = document(here.mirror.at(ago(days=1)) + "one/")["project-status"]["status"]
    assert status == "quarantined"
    here.mirror.stop()
    here.pypi.projects["one"] = files
    here.pypi.index.otherwise = page
    here.capture()
    here.mirror.start("--offline")
    assert len(filenames(here.mirror.at(ago(days=1)) + "one/")) == 1


# --- scopes


def test_the_usual_scope_is_what_was_requested(here: Here) -> None:
    here.prove_serials()
    here.mirror.start()
    filenames(here.mirror.at("live") + "two/")
    ask(here.mirror.at("live") + "none-such/")
    here.asked()
    made = run("capture", "--data", here.mirror.data, "--pypi-upstream", here.pypi.url)
    assert made.returncode == 0, made.stderr
    assert here.asked() == [""], "the log of two has the serial of the list"
    here.pypi.upload(wheel("one", "2.0"), ago(hours=1))
    here.pypi.upload(wheel("two", "2.0"), ago(hours=1))
    here.capture(REQUESTED)
    assert here.asked() == ["", "two"]


def test_what_a_wider_pass_has_stored_is_not_known_to_a_narrow_one(here: Here) -> None:
    """A pass over what was requested did not look at one, though there is a log of it: it must not speak for it."""
    here.capture(ALL)
    here.pypi.upload(wheel("one", "2.0"), instant())
    at = instant()
    here.capture(REQUESTED)
    here.mirror.start()
    assert len(filenames(here.mirror.at(at) + "one/")) == 2


def test_what_is_requested_after_a_narrow_pass_is_looked_at_by_the_next(here: Here) -> None:
    """The log of one is from the wide pass, and the narrow one did not look at it: what changed between them counts."""
    here.capture(ALL)
    early = instant()
    here.capture(ALL)
    here.pypi.upload(wheel("one", "2.0"), instant())
    here.pypi.serial += 10_000
    here.pypi.upload(wheel("two", "2.0"), instant())
    here.capture(REQUESTED)
    here.mirror.start()
    assert len(filenames(here.mirror.at(early) + "one/")) == 1
    at = instant()
    here.capture(REQUESTED)
    assert len(filenames(here.mirror.at(at) + "one/")) == 2


def test_a_list_of_names(here: Here, tmp_path: Path) -> None:
    here.prove_serials()
    names = tmp_path / "names.txt"
    names.write_text("Two  # as its owner writes it\n\nthree\n")
    here.capture(names)
    assert here.asked() == ["", "three", "two"]
    names.write_text("one\ntwo\n")
    here.capture(names)
    assert here.asked() == ["", "one"], "of two the log is as new as the list"


@pytest.mark.parametrize(
    ("text", "says"), [("everything", "requested, all, or the name of a file"), ("bad", "PEP 508|name")]
)
def test_a_scope_that_is_none(here: Here, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "bad").write_text("one\n!!\n")
    ran = here.try_capture(tmp_path / text)
    assert ran.returncode == 2, ran
    assert re.search(says, ran.stderr)


@given(
    kinds=st.tuples(*[st.sampled_from((REQUESTED, ALL, LISTED))] * 2),
    names=st.tuples(*[st.frozensets(st.sampled_from("abc"), min_size=1)] * 2),
)
def test_a_scope_includes_what_it_surely_covers(
    kinds: tuple[str, str], names: tuple[frozenset[str], frozenset[str]]
) -> None:
    one, other = (
        Scope(kind, tuple(sorted(given)) if kind == LISTED else ()) for kind, given in zip(kinds, names, strict=True)
    )
    covered = {ALL: set("abc"), REQUESTED: {"r"}, LISTED: names[0]}[one.kind] | ({"r"} if one.kind == ALL else set())
    wanted = {ALL: set("abcr"), REQUESTED: {"r"}, LISTED: names[1]}[other.kind]
    assert one.includes(other) == (wanted <= covered)


# --- registries without serials, without a list


def test_without_serials_each_page_is_asked_for_by_its_tag(tmp_path: Path, pypi: PyPI) -> None:
    answers: list[int] = []
    body = {
        name: f'<!DOCTYPE html><a href="{name}-1.0-py3-none-any.whl#sha256={"0" * 64}">x</a>' for name in ("a", "b")
    }

    def page(request: Request) -> Response:
        name = request.path.removeprefix("/simple/").rstrip("/")
        if not name:
            links = "".join(f'<a href="{name}/">{name}</a>' for name in body)
            return Response(f"<!DOCTYPE html>{links}".encode(), 200, {"Content-Type": "text/html"})
        if name not in body:
            return NOT_FOUND
        tag = f'"{hash(body[name])}"'
        status = 304 if request.headers.get("if-none-match") == tag else 200
        answers.append(status)
        return Response(
            b"" if status == 304 else body[name].encode(), status, {"Content-Type": "text/html", "ETag": tag}
        )

    pypi.index.otherwise = page
    here = Here(tmp_path / "mirror", pypi)
    here.capture()
    here.capture()
    assert answers == [200, 200, 304, 304]
    body["b"] += '<a href="b-2.0-py3-none-any.whl">y</a>'
    assert "1 of 2 projects had changed" in here.capture()
    assert sorted(answers[4:]) == [200, 304]


def test_a_registry_without_a_list(here: Here) -> None:
    here.mirror.start()
    filenames(here.mirror.at("live") + "two/")
    page = here.pypi.index.otherwise
    here.pypi.index.otherwise = lambda request: NOT_FOUND if request.path == LIST else page(request)
    assert "no list of its projects" in told(here.try_capture(ALL))
    here.asked()
    here.capture(REQUESTED)
    assert here.asked() == ["", "two"]


# --- a registry in trouble


@pytest.mark.parametrize(("status", "headers"), [(429, {"Retry-After": "1"}), (503, {"Retry-After": "1"}), (500, {})])
def test_a_registry_that_asks_for_a_rest_gets_it(here: Here, status: int, headers: dict[str, str]) -> None:
    page = here.pypi.index.otherwise
    refused: list[Request] = []

    def tired(request: Request) -> Response:
        if request.path != LIST and len(refused) < 4:
            refused.append(request)
            return Response(b"", status, headers)
        return page(request)

    here.pypi.index.otherwise = tired
    assert "3 of 3 projects had changed" in here.capture()
    assert len(refused) == 4


def test_a_project_that_fails_is_the_next_pass_s(here: Here) -> None:
    here.prove_serials()
    page = here.pypi.index.otherwise
    here.pypi.index.otherwise = lambda request: Response(b"", 403) if request.path == "/simple/two/" else page(request)
    assert "1 failed and will be tried again by the next pass (two)" in here.capture()
    assert here.passes()[-1].failed == ("two",)
    here.pypi.index.otherwise = page
    here.asked()
    here.capture()
    assert here.asked() == ["", "two"]
    assert here.passes()[-1].failed == ()


def test_a_registry_that_is_away(here: Here) -> None:
    here.capture()
    here.pypi.index.stop()
    assert "cannot be reached" in told(here.try_capture())
    assert len(here.passes()) == 1, "no mark is set"


def test_a_stale_page_is_refused(here: Here) -> None:
    """A cache on the way has an older page than the list speaks of."""
    here.capture()
    page, old = here.pypi.index.otherwise, here.pypi.serials["two"]
    here.pypi.upload(wheel("two", "2.0"), ago(hours=1))
    stale = [0]

    def cached(request: Request) -> Response:
        answer = page(request)
        if request.path == "/simple/two/" and stale[0] < 2:
            stale[0] += 1
            assert isinstance(answer.body, bytes)
            return Response(
                answer.body.replace(b"2.0", b"1.0"), 200, {**answer.headers, "X-PyPI-Last-Serial": str(old)}
            )
        return answer

    here.pypi.index.otherwise = cached
    assert "1 of 3 projects had changed" in here.capture()
    assert stale == [2]
    here.mirror.start()
    assert len(filenames(here.mirror.at("live") + "two/")) == 2


def test_a_list_that_is_empty_all_at_once_changes_nothing(here: Here) -> None:
    here.capture()
    here.pypi.index.otherwise = lambda _: Response(
        b'{"meta": {"api-version": "1.0"}, "projects": []}',
        200,
        {"Content-Type": "application/vnd.pypi.simple.v1+json"},
    )
    assert "was not accepted" in told(here.try_capture(ALL, "--pypi-second-look", "15"))
    assert len(here.passes()) == 1


def test_a_second_one_says_that_there_is_a_first(here: Here) -> None:
    page = here.pypi.index.otherwise
    seconds: list[str] = []

    def meanwhile(request: Request) -> Response:
        if request.path == LIST and not seconds:
            seconds.append(told(here.try_capture()))
        return page(request)

    here.pypi.index.otherwise = meanwhile
    here.capture()
    assert "is already running (process " in seconds[0]


def test_another_registry_does_not_end_what_is_known_of_the_first(
    here: Here, upstreams: Callable[..., Upstream]
) -> None:
    """Forgotten or mistyped, an address must not make everything count as deleted."""
    here.capture()
    right, other = here.pypi, PyPI(upstreams(), upstreams())
    other.upload(wheel("one", "9.0"), ago(days=3))
    here.pypi = other
    assert "whatever is missing there would count as deleted" in told(here.try_capture())
    assert other.index.requests == []
    here.pypi = right
    assert "0 of 3 projects had changed" in here.capture()
    assert run("moved", "pypi", other.url, "--data", here.mirror.data).returncode == 0
    here.pypi = other
    other.serial += 10_000
    other.upload(wheel("two", "9.0"), ago(days=3))
    assert "projects had changed" in here.capture()


def test_a_registry_that_refuses_its_list(here: Here, tmp_path: Path) -> None:
    page = here.pypi.index.otherwise
    here.pypi.index.otherwise = lambda request: Response(b"", 403) if request.path == LIST else page(request)
    (tmp_path / "names.txt").write_text("two\n")
    assert "1 of 1 projects had changed" in here.capture(tmp_path / "names.txt")
    assert "no list of its projects" in told(here.try_capture(ALL))


def test_one_registry_that_fails_keeps_no_other_busy(here: Here, tmp_path: Path) -> None:
    """What was done is told, and what failed alone is due again."""
    config = tmp_path / "mirror.toml"
    config.write_text('[[registry]]\nname = "away"\nindex = "http://127.0.0.1:9/simple/"\n')
    made = here.try_capture(ALL, "--config", config)
    assert "pypi: 3 of 3 projects had changed" in made.stdout
    assert told(made).startswith("httpcache: away: ")
    here.mirror.start("--capture", "--pypi-capture", "all", "--config", str(config))
    until(lambda: "the capture failed: away: " in here.mirror.log(), "the pass that fails")
    assert len(here.passes()) == 1


def test_what_makes_no_sense_together(here: Here) -> None:
    made = run("serve", "--data", here.mirror.data, "--offline", "--capture")
    assert "remove one of them" in told(made)


def test_pages_are_asked_for_in_few_bytes(here: Here) -> None:
    page = here.pypi.index.otherwise

    def packed(request: Request) -> Response:
        assert request.headers["accept-encoding"] == "gzip"
        answer = page(request)
        assert isinstance(answer.body, bytes)
        return Response(gzip.compress(answer.body), answer.status, {**answer.headers, "Content-Encoding": "gzip"})

    here.pypi.index.otherwise = packed
    assert "3 of 3 projects had changed" in here.capture()


def test_it_says_who_it_is(here: Here) -> None:
    here.capture()
    agents = {request.headers["user-agent"] for request in here.pypi.index.requests}
    assert len(agents) == 1
    assert re.fullmatch(r"httpcache/[\d.]+ \(capture\) pip/[\d.]+", agents.pop())


# --- beside a server


def test_a_server_makes_the_pass_that_was_missed_and_the_next_ones(here: Here) -> None:
    here.mirror.start("--capture", "--capture-every", "0.02", "--pypi-capture", "all")
    until(lambda: len(here.passes()) >= 1, "the first pass")
    here.pypi.upload(wheel("two", "2.0"), ago(hours=1))
    made = len(here.passes())
    until(lambda: len(here.passes()) >= made + 2, "later passes")
    here.pypi.index.stop()
    at = here.passes()[-1].instant
    found = httpx.get(f"{here.mirror.url}/{_address(at)}/two/", trust_env=False)
    assert "two-2.0" in found.text
    here.mirror.stop()
    assert "2 of" not in here.mirror.log()


def test_a_server_without_it_makes_none(here: Here) -> None:
    here.mirror.start()
    filenames(here.mirror.at("live") + "two/")
    assert here.passes() == []


def _address(at: int) -> str:
    from datetime import UTC, datetime, timedelta

    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


MOMENTS = st.floats(min_value=0, max_value=4e9)


@given(
    started=MOMENTS, took=st.floats(min_value=0, max_value=2e5), every=st.none() | st.floats(min_value=1, max_value=1e6)
)
def test_a_pass_is_due_at_the_next_look_and_not_before(started: float, took: float, every: float | None) -> None:
    ended = started + took
    assert is_due(ended, None, every)
    assert not is_due(started, started, every)
    following = upcoming(started, ended, every)
    assert is_due(max(following, ended) + 0.001, started, every)
    assert following <= started + 86_400


@given(now=MOMENTS, ago_=st.floats(min_value=0, max_value=1e6))
def test_one_pass_a_day_is_made(now: float, ago_: float) -> None:
    last = now - ago_
    assert is_due(now, last, None) == (now // 86_400 != last // 86_400)
