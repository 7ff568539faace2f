"""Wrong clocks: this machine's and a registry's, ahead and behind, and what was noted by them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypi_adapter.registry.clock import SECOND, TOLERANCE, WrongClock, shown_at
from tests.support.capture import Here
from tests.support.clients import Clients
from tests.support.clock import Clock
from tests.support.command import run
from tests.support.index import ago, ask, filenames, instant
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.upstream import Request, Response

YEAR, DAY = 365 * 86_400, 86_400
ONE, TWO = wheel("some-thing", "1.0"), wheel("some-thing", "2.0")
WRONG = {"a year ahead": YEAR, "two minutes ahead": 120, "two minutes behind": -120, "a day behind": -DAY}


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


def undo(mirror: Mirror) -> str:
    """Take back what is ahead of now, after a look at it that changes nothing."""
    looked = [run("undo-future", "--data", mirror.data).stdout.splitlines() for _ in range(2)]
    assert looked[0][:-1] == looked[1][:-1]
    assert "nothing was changed" in looked[0][-1]
    ran = run("undo-future", "--yes", "--data", mirror.data)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [line.replace("in the future", "removed") for line in looked[0][:-1]]
    return ran.stdout


# --- what an answer shows


BASE = 1_700_000_000 * SECOND


@pytest.mark.parametrize(
    ("date", "age", "asked", "expected"),
    [
        pytest.param(None, "", 0, 0, id="no date"),
        pytest.param("yesterday", "", 5, 5, id="a date that is none"),
        pytest.param("Thu, 99 Nov 2023 25:00:00 GMT", "", 5, 5, id="a date that there is not"),
        pytest.param(0, "", 0, 0, id="the same second"),
        pytest.param(0, "", SECOND - 1, SECOND - 1, id="the end of the same second"),
        pytest.param(0, "", 59 * SECOND, SECOND - 1, id="ahead, and never later than the registry"),
        pytest.param(0, "", -59 * SECOND, -59 * SECOND, id="behind"),
        pytest.param(0, "30", 0, -30 * SECOND, id="a cache with a date of its own"),
        pytest.param(0, "600", 600 * SECOND, SECOND - 1 - 600 * SECOND, id="a cache with the date of the registry"),
        pytest.param(0, "", 62 * SECOND, None, id="too far ahead"),
        pytest.param(0, "", -62 * SECOND, None, id="too far behind"),
        pytest.param(0, "600", 662 * SECOND, None, id="too far ahead of a cache"),
        pytest.param(0, "600", -62 * SECOND, None, id="too far behind a cache"),
        pytest.param(-YEAR, "", 0, None, id="the registry is a year behind"),
        pytest.param(YEAR, "", 0, None, id="the registry is a year ahead"),
    ],
)
def test_which_instant_an_answer_shows(date: str | int | None, age: str, asked: int, expected: int | None) -> None:
    headers = {"age": age} if age else {}
    if date is not None:
        headers["date"] = date if isinstance(date, str) else formatdate(BASE // SECOND + date, usegmt=True)
    if expected is None:
        with pytest.raises(WrongClock, match="set the one that is wrong"):
            shown_at(headers, BASE + asked, BASE + asked)
    else:
        assert shown_at(headers, BASE + asked, BASE + asked) == BASE + expected


@given(
    ahead=st.integers(-2 * TOLERANCE, 2 * TOLERANCE),
    now=st.integers(0, 10 * SECOND),
    took=st.integers(0, 100 * SECOND),
    cached=st.integers(0, 1000),
    own_date=st.booleans(),
)
def test_an_answer_never_shows_what_the_registry_had_later(
    ahead: int, now: int, took: int, cached: int, own_date: bool
) -> None:
    """`now` is the registry's time when it made the page, which a cache gives later, with the one `Date` or the other.

    An answer can claim a second more than that, since `Date` has no more than seconds.
    """
    made = BASE + now
    given_at = made + cached * SECOND
    date = (given_at if own_date else made) // SECOND
    headers = {"date": formatdate(date, usegmt=True), "age": str(cached)}
    try:
        shown = shown_at(headers, given_at + ahead, given_at + ahead + took)
    except WrongClock:
        assert abs(ahead) > TOLERANCE - SECOND
    else:
        assert shown < made + SECOND


# --- a clock that the registry's does not agree with


@pytest.mark.parametrize("ahead", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("whose", ["this machine's", "the registry's"])
def test_nothing_is_noted_by_a_clock_that_does_not_agree(
    whose: str, ahead: float, pypi: PyPI, clock: Clock, tmp_path: Path
) -> None:
    pypi.upload(ONE, ago(days=3))
    mirror = Mirror(tmp_path / "mirror", pypi.url, environment=clock.environment).start()
    try:
        if whose == "this machine's":
            clock.set(ahead)
        else:
            pypi.index.clock = lambda: time.time() + ahead
        for address in (mirror.at("live") + "some-thing/", mirror.at("2024-01-02") + "some-thing/", mirror.at("live")):
            answer = ask(address)
            assert answer.status_code == 503
            assert "set the one that is wrong" in answer.text
        clock.set(0)
        pypi.index.clock = time.time
        pypi.upload(TWO, ago())
        before = instant()
        assert filenames(mirror.at(before) + "some-thing/") == sorted([ONE.filename, TWO.filename])
    finally:
        mirror.kill()


@pytest.mark.parametrize("ahead", [59, -59])
def test_a_clock_that_is_a_little_wrong_claims_nothing_of_what_is_to_come(
    ahead: float, pypi: PyPI, clock: Clock, tmp_path: Path
) -> None:
    pypi.upload(ONE, ago(days=3))
    mirror = Mirror(tmp_path / "mirror", pypi.url, environment=clock.environment).start()
    try:
        clock.set(ahead)
        assert filenames(mirror.at("live") + "some-thing/") == [ONE.filename]
        clock.set(0)
        time.sleep(1.1)  # a `Date` has no more than seconds
        pypi.upload(TWO, ago())
        assert filenames(mirror.at(instant()) + "some-thing/") == sorted([ONE.filename, TWO.filename])
    finally:
        mirror.kill()


@pytest.mark.parametrize("ahead", WRONG.values(), ids=WRONG)
def test_no_capture_is_made_by_a_clock_that_does_not_agree(ahead: float, here: Here, clock: Clock) -> None:
    here.environment = clock.environment
    clock.set(ahead)
    made = here.try_capture()
    assert made.returncode == 1
    assert "set the one that is wrong" in made.stderr
    assert here.passes() == []
    clock.set(0)
    assert "3 of 3 projects had changed" in here.capture()


@pytest.mark.parametrize("more", [0, 20], ids=["after the last request", "before others"])
def test_a_clock_that_is_put_ahead_in_the_middle_of_a_capture(more: int, here: Here, clock: Clock) -> None:
    for number in range(more):
        here.pypi.upload(wheel(f"another{number}", "1.0"), ago(days=3))
    here.environment = clock.environment
    inner = here.pypi.index.otherwise

    all_asked = threading.Barrier(3)

    def put_ahead(request: Request) -> Response:
        if request.path != "/simple/":
            if not more:
                all_asked.wait(30)
            clock.set(YEAR)
        return inner(request)

    here.pypi.index.otherwise = put_ahead
    made = here.try_capture()
    if more:
        assert made.returncode == 1
        assert "set the one that is wrong" in made.stderr
        assert here.passes() == []
    else:
        (done,) = here.passes()
        assert done.started <= done.finished < time.time() * SECOND


# --- what was noted ahead of now


def poisoned(here: Here, clock: Clock, ahead: float) -> None:
    """Make a capture while the clock is ahead, of a registry that sends no `Date`, and put the clock right again."""
    here.environment = clock.environment
    here.pypi.index.clock = None
    clock.set(ahead)
    here.capture()
    clock.set(0)


@pytest.mark.parametrize("ahead", [YEAR, 120], ids=["a year", "two minutes"])
def test_what_was_noted_ahead_of_now_says_nothing_until_it_is_taken_back(
    ahead: float, here: Here, clock: Clock, clients: Clients
) -> None:
    here.pypi.upload(ONE, ago(days=3))
    poisoned(here, clock, ahead)
    listed = run("captures", "--data", here.mirror.data)
    assert "ignored: made while the clock was ahead" in listed.stdout
    mirror = here.mirror.start()
    here.pypi.upload(TWO, ago())
    after = instant()
    for address in (mirror.at(after) + "some-thing/", mirror.at("live") + "some-thing/", mirror.at(after)):
        answer = ask(address)
        assert answer.status_code == 503, answer.text
        assert "httpcache undo-future --registry pypi" in answer.text
    assert "which is in the future" in mirror.log()
    refused = run("undo-future", "--yes", "--data", mirror.data)
    assert refused.returncode == 1
    assert "stop it, run this command" in refused.stderr
    mirror.stop()
    done = undo(mirror)
    assert "1 of 1 observations of some-thing" in done
    assert "1 of 1 captures" in done
    again = run("undo-future", "--data", mirror.data)
    assert again.returncode == 1
    assert "nothing about pypi was recorded later" in again.stderr
    mirror.start()
    assert filenames(mirror.at(after) + "some-thing/") == sorted([ONE.filename, TWO.filename])
    assert clients.install("pip", mirror.at(after), ["some-thing"])["some-thing"].version == "2.0"


def test_only_what_is_ahead_is_taken_back(here: Here, clock: Clock) -> None:
    here.pypi.upload(ONE, ago(days=3))
    mirror = here.mirror.start()
    before = instant()
    early = ask(mirror.at(before) + "some-thing/").content
    mirror.stop()
    here.capture()
    here.pypi.upload(TWO, ago())
    poisoned(here, clock, YEAR)
    undo(mirror)
    assert len(here.passes()) == 1
    mirror.start()
    assert ask(mirror.at(before) + "some-thing/").content == early
    assert filenames(mirror.at("live") + "some-thing/") == sorted([ONE.filename, TWO.filename])


def test_a_capture_ahead_says_nothing_when_its_time_has_come(here: Here, clock: Clock) -> None:
    """It stands in the log before one that was completed earlier: so the clock was put back between them."""
    here.pypi.upload(ONE, ago(days=3))
    here.capture()
    here.environment, here.pypi.index.clock = clock.environment, None
    clock.set(8)  # less than is told from a clock that is a little wrong
    here.capture()
    clock.set(0)
    here.capture()
    ahead = here.passes()[1]
    here.pypi.upload(TWO, ago())
    after = instant()
    mirror = here.mirror.start()
    while time.time() * SECOND < ahead.finished:
        time.sleep(0.1)
    assert "ignored: made while the clock was ahead" in run("captures", "--data", mirror.data).stdout.splitlines()[1]
    assert filenames(mirror.at(after) + "some-thing/") == sorted([ONE.filename, TWO.filename])


def test_each_of_two_workers_refuses_what_is_ahead(here: Here, clock: Clock, pypi: PyPI) -> None:
    poisoned(here, clock, YEAR)
    mirror = here.mirror.start("--workers", "2")
    answers = [ask(mirror.at("live") + "one/") for _ in range(20)]
    assert {answer.status_code for answer in answers} == {503}


def test_two_repairs_or_a_repair_beside_a_server_are_refused(mirror: Callable[..., Mirror], pypi: PyPI) -> None:
    server = mirror(pypi)
    refused = run("undo-future", "--data", server.data)
    assert refused.returncode == 1
    assert "stop it, run this command" in refused.stderr
    server.stop()
    assert "nothing about pypi was recorded later" in run("undo-future", "--data", server.data).stderr
