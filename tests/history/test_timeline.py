"""The timeline of a project: what each entry tells, its lines, and that no event is lost."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from pypi_adapter.history.history import Entry, History, Observation, Showing
from pypi_adapter.history.rescue_log import GONE, RESCUED, WITHHELD, RescueOutcome
from pypi_adapter.history.timeline import HOUR, Event, Kind, render, timeline
from pypi_adapter.simple.model import File, Identity, Page, ProjectStatus, identity
from tests.history.test_history import observed
from tests.support.examples import examples

SECOND = 1_000_000


def make_file(name: str, uploaded: str | None = None, content: str = "aa", **rest: object) -> File:
    file = File(f"p-{name}", f"https://files.example.org/{content}/{name}", {"sha256": content}, upload_time=uploaded)
    return msgspec.structs.replace(file, **rest)


def log(observations: Mapping[int, Page | None]) -> list[Entry]:
    """The entries of pages observed at seconds."""
    history, entries = History(), []
    for second, page in observations.items():
        entries.append(history.observe(Observation(second * SECOND, page), believed=True))
        history.extend(entries[-1])
    return entries


def lines(observations: Mapping[int, Page | None]) -> list[str]:
    """What is printed, the times shortened to seconds since 1970-01-01 00:00, where they are of its first minutes."""
    times = re.compile(r"(^|until )1970-01-01T00:0(\d):(\d\d)Z")
    rendered = render(timeline(log(observations)))
    return [times.sub(lambda m: f"{m[1]}{int(m[2]) * 60 + int(m[3])}", line) for line in rendered]


def page(*files: File, **rest: object) -> Page:
    return msgspec.structs.replace(Page("p", files), **rest)


# --- what each entry tells


def test_a_file_is_uploaded_when_its_upload_time_says_so() -> None:
    assert lines({100: page(make_file("1.0.zip", "1970-01-01T00:00:10Z"))}) == [
        "10  p-1.0.zip: uploaded",
        "100  first observation",
    ]


def test_a_file_without_an_upload_time_that_counts_is_first_seen() -> None:
    untimed, late = make_file("1.0.zip"), make_file("2.0.zip", "1970-01-01T00:01:40Z")
    unreadable = make_file("3.0.zip", "yesterday")
    assert lines({100: page(untimed), 200: page(untimed, late, unreadable)}) == [
        "100  first observation",
        "100  p-1.0.zip: first seen",
        "200  p-2.0.zip: first seen, though its upload time is '1970-01-01T00:01:40Z'",
        "200  p-3.0.zip: first seen, though its upload time is 'yesterday'",
    ]


def test_gone_and_back() -> None:
    one, two = make_file("1.0.zip"), make_file("2.0.zip")
    assert lines({1: page(one, two), 2: page(one), 3: page(one, msgspec.structs.replace(two, yanked=True))})[2:] == [
        "1  p-2.0.zip: first seen",
        "2  p-2.0.zip: gone",
        "3  p-2.0.zip: back",
        "3  p-2.0.zip: yanked",
    ]


def test_what_became_of_missing_files_stands_among_the_observations() -> None:
    one, two, three = make_file("1.0.zip"), make_file("1.0.whl"), make_file("2.0.zip")
    entries = log({1: page(one, two, three), 2: page(serial=2), 5: page(make_file("3.0.zip"))})
    outcomes = [
        RescueOutcome(4 * SECOND, "p-1.0.zip", "aa", 2 * SECOND, RESCUED, size=12_345),
        RescueOutcome(3 * SECOND, "p-1.0.whl", "aa", 2 * SECOND, GONE, "its address answers 404"),
        RescueOutcome(
            3 * SECOND, "p-2.0.zip", "aa", 2 * SECOND, WITHHELD, "by this mirror: a\x1b[31m worm\n" + "m" * 10_000
        ),
    ]
    rendered = [line[len("1970-01-01T00:00:0") :] for line in render(timeline(entries, outcomes))]
    assert rendered[-5] == "2Z  p-2.0.zip: gone"
    assert rendered[-4] == "3Z  p-1.0.whl: already gone: its address answers 404"
    assert rendered[-3].startswith("3Z  p-2.0.zip: not rescued, withheld by this mirror: a\\x1b[31m worm\\nmmm")
    assert len(rendered[-3]) < 300
    assert rendered[-2:] == ["4Z  p-1.0.zip: rescued (12345 bytes)", "5Z  p-3.0.zip: first seen"]


def test_yanked_and_not_any_more() -> None:
    pages = [page(make_file("1.0.zip", yanked=yanked)) for yanked in (True, "bad", "very bad", False, "bad")]
    assert lines(dict(enumerate(pages)))[2:] == [
        "0  p-1.0.zip: already yanked",
        "1  p-1.0.zip: yanked: 'bad'",
        "2  p-1.0.zip: yanked: 'very bad'",
        "3  p-1.0.zip: no longer yanked",
        "4  p-1.0.zip: yanked: 'bad'",
    ]
    assert lines({1: page(make_file("1.0.zip", yanked="why"))})[2:] == ["1  p-1.0.zip: already yanked: 'why'"]


def test_other_content_under_the_same_name() -> None:
    old, new = make_file("1.0.zip"), make_file("1.0.zip", "1970-01-01T00:01:30Z", "bb")
    untimed = make_file("1.0.zip", content="cc")
    assert lines({60: page(old), 100: page(new), 110: page(untimed), 120: page(old)})[2:] == [
        "90  p-1.0.zip: other content uploaded: 'bb' (was 'aa')",
        "110  p-1.0.zip: other content first seen: 'cc' (was 'bb')",
        "120  p-1.0.zip: earlier content back: 'aa' (was 'cc')",
    ]


def test_requires_python_and_the_rest_of_a_file() -> None:
    old = make_file("1.0.zip")
    new = msgspec.structs.replace(old, requires_python=">=3.8", url="https://example.org/", core_metadata=True)
    assert lines({1: page(old), 2: page(new)})[2:] == [
        "2  p-1.0.zip: with requires-python '>=3.8' (was none)",
        "2  p-1.0.zip: with changed url, core-metadata",
    ]


def test_the_project_itself() -> None:
    one = make_file("1.0.zip")
    archived, tracks = page(one, status=ProjectStatus("archived", "old")), page(one, tracks=("https://example.org/",))
    observations = {1: None, 2: None, 3: page(one), 4: archived, 5: None, 6: archived, 7: tracks}
    assert lines(observations) == [
        "1  first observation: no such project",
        "2  1 observation without a change",
        "3  project appeared",
        "3  p-1.0.zip: first seen",
        "4  status 'archived: old' (was none)",
        "5  project gone",
        "6  project back",
        "6  p-1.0.zip: back",
        "7  status none (was 'archived: old')",
        "7  project with changed tracks",
    ]
    assert lines({1: page(status=ProjectStatus("quarantined"))})[1:] == ["1  status 'quarantined' (was none)"]


# --- lines


def test_files_of_one_version_that_came_together_are_one_line() -> None:
    early = [make_file(f"1.4-{part}-none-any.whl", f"1970-01-01T00:00:1{part}Z") for part in range(7)]
    other, late = make_file("1.3.zip", "1970-01-01T00:00:12Z"), make_file("1.4.zip", "1970-01-01T01:00:11Z")
    observations = {
        7200: page(*early, other, late),
        7201: page(*(msgspec.structs.replace(file, yanked="bad") for file in [*early, late]), other),
        7202: page(other),
    }
    assert lines(observations) == [
        "10  1.4: 7 files uploaded",
        "12  p-1.3.zip: uploaded",
        "1970-01-01T01:00:11Z  p-1.4.zip: uploaded",
        "1970-01-01T02:00:00Z  first observation",
        "1970-01-01T02:00:01Z  1.4: 8 files yanked: 'bad'",
        "1970-01-01T02:00:02Z  1.4: 8 files gone",
    ]


def test_files_of_no_version_and_the_same_at_two_observations_stay_apart() -> None:
    assert lines({1: page(make_file("x.zip"), make_file("y.zip"))})[1:] == [
        "1  p-x.zip: first seen",
        "1  p-y.zip: first seen",
    ]
    one = make_file("1.0.zip")
    assert lines({1: page(one), 2: page(one, serial=1), 3: page(serial=2), 4: page(one), 5: page(serial=3)})[2:] == [
        "2  1 observation without a change",
        "3  p-1.0.zip: gone",
        "4  p-1.0.zip: back",
        "5  p-1.0.zip: gone",
    ]


def test_observations_without_a_change_are_summed_up() -> None:
    one, two = page(make_file("1.0.zip")), page(make_file("1.0.zip", yanked=True))
    assert lines({1: one} | dict.fromkeys(range(2, 14), one) | {20: two, 21: two})[2:] == [
        "2  12 observations without a change, until 13",
        "20  p-1.0.zip: yanked",
        "21  1 observation without a change",
    ]


def test_nothing_hostile_stands_unescaped() -> None:
    hostile = "\x1b[2J\r\n\u202e\x9b\u2028\udc80'\"\\" + "z" * 10_000
    file = make_file(hostile, yanked=hostile, requires_python=hostile, content=hostile, upload_time=hostile)
    status = ProjectStatus(hostile, hostile)
    entries = [
        *log({1: page(status=status), 2: page(file, status=ProjectStatus("x")), 3: page(make_file(hostile))}),
        Entry(4 * SECOND, shown=tuple(Showing(make_file(name, url=hostile), hostile) for name in "ab")),
        Entry(5 * SECOND, shown=(Showing(make_file("a", yanked=hostile), hostile),)),
    ]
    rendered = render(timeline(entries))
    assert len(rendered) >= 8
    for line in rendered:
        assert line.isprintable()
        assert len(line) < 2000
    assert rendered[0].endswith("first observation")
    assert rendered[1].startswith("1970-01-01T00:00:01Z  status '\\x1b[2J\\r\\n\\u202e\\x9b\\u2028\\udc80\\'\"\\\\zz")


@pytest.mark.parametrize(
    ("uploaded", "shown"),
    [
        ("0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00Z"),
        ("0900-01-01T00:00:00.999999Z", "0900-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59Z"),
        ("2024-01-02T03:04:05+01:00", "2024-01-02T02:04:05Z"),
    ],
)
def test_times_are_shown_in_utc_and_never_fail(uploaded: str, shown: str) -> None:
    assert f"{shown}  p-1.0.zip: uploaded" in lines({1: page(make_file("1.0.zip", uploaded))})


def test_nothing_observed_is_no_line() -> None:
    assert render(timeline([])) == []


def test_an_entry_that_misses_what_was_never_shown_is_refused() -> None:
    with pytest.raises(KeyError):
        timeline([Entry(1, missed=(("p-1.0.zip", "aa"),))])


# --- random histories

many = settings(max_examples=examples(300), suppress_health_check=[HealthCheck.too_slow])
ARRIVALS = {Kind.UPLOADED, Kind.SEEN, Kind.OTHER_UPLOADED, Kind.OTHER_SEEN, Kind.OTHER_BACK, Kind.BACK}
CHANGES = {Kind.YANKED, Kind.UNYANKED, Kind.REQUIRES_PYTHON, Kind.CHANGED}
UPLOADS = {Kind.UPLOADED, Kind.OTHER_UPLOADED}
OTHER = {Kind.OTHER_UPLOADED, Kind.OTHER_SEEN, Kind.OTHER_BACK}
PROJECT = {Kind.FIRST_OBSERVED, Kind.PROJECT_APPEARED, Kind.PROJECT_BACK, Kind.PROJECT_CHANGED, Kind.STATUS}


def entries_of(observations: list[Observation]) -> list[Entry]:
    history, entries = History(), []
    for observation in observations:
        entries.append(history.observe(observation, believed=True))
        history.extend(entries[-1])
    return entries


@many
@given(observed())
def test_no_event_is_lost(observations: list[Observation]) -> None:
    events = timeline(entries_of(observations))
    assert [(event.instant, event.observed) for event in events] == sorted(
        (event.instant, event.observed) for event in events
    )
    for entry in entries_of(observations):
        told = [event for event in events if event.observed == entry.instant]
        check_told(entry, told)
    assert {event.observed for event in events} == {observation.instant for observation in observations}


def check_told(entry: Entry, told: list[Event]) -> None:
    """Count what the events of an entry tell against what the entry holds."""
    kinds = [event.kind for event in told]
    first = Kind.FIRST_OBSERVED in kinds or Kind.FIRST_ABSENT in kinds
    assert (kinds == [Kind.UNCHANGED]) == (not entry.changed and not first)
    assert (Kind.PROJECT_GONE in kinds) == entry.gone
    assert bool(PROJECT & set(kinds)) == (entry.project is not None)
    for showing in entry.shown:
        of_file = [event for event in told if event.filename == showing.file.filename]
        assert {event.kind for event in of_file} & (ARRIVALS | CHANGES)
        assert {event.version for event in of_file if event.kind is not Kind.GONE} == {showing.version}
    shown, replaced = [identity(showing.file) for showing in entry.shown], {e.filename for e in told if e.kind in OTHER}
    assert sum(event.kind in ARRIVALS for event in told) <= len(set(shown))
    assert kinds.count(Kind.GONE) == sum(name not in replaced for name, _ in entry.missed)
    assert {event.now for event in told if event.kind in OTHER} <= {content for _, content in shown}


@many
@given(observed())
def test_files_come_and_go_in_the_answers_when_the_timeline_says(observations: list[Observation]) -> None:
    entries = entries_of(observations)
    history = History(entries)

    def there(instant: int, filename: str | None) -> set[Identity]:
        found = history.as_of(instant)
        return {identity(file) for file in found.files if file.filename == filename} if found else set()

    events = timeline(entries)
    ahead = {event.filename for event in events if event.instant >= event.observed and event.kind in UPLOADS}
    for event in events:
        born = event.instant + (event.kind is Kind.UPLOADED)  # just after the upload time
        if event.kind in (Kind.UPLOADED, Kind.SEEN, Kind.BACK) and event.filename not in ahead:
            assert there(born, event.filename) - there(born - 1, event.filename)
        if event.kind is Kind.PROJECT_GONE:
            assert history.as_of(event.instant) is None
            assert history.as_of(event.instant - 1) is not None


@many
@given(observed())
def test_each_event_is_in_one_line(observations: list[Observation]) -> None:
    events = timeline(entries_of(observations))
    rendered = render(events)
    times = [line.split("  ")[0] for line in rendered]
    assert times == sorted(times)
    counts = (re.search(r"Z  (?:\S+: )?(\d+) (?:files|observations?) ", line) for line in rendered)
    assert sum(int(count[1]) if count else 1 for count in counts) == len(events)


def test_what_is_grouped_lies_within_an_hour_of_the_first() -> None:
    events = [Event(minute * HOUR // 60, 9 * HOUR, Kind.UPLOADED, f"p-{minute}", "1.0") for minute in range(0, 150, 30)]
    assert [line.partition("  ")[2] for line in render(events)] == ["1.0: 3 files uploaded", "1.0: 2 files uploaded"]
