"""What was uploaded before the first observation, according to another source: when it is there, and what stays."""

from __future__ import annotations

from hashlib import sha256

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pypi_adapter.history.history import Entry, History, Observation, Project, Showing, StaleObservation
from pypi_adapter.history.snapshot import take_snapshot
from pypi_adapter.history.timeline import render, timeline
from pypi_adapter.instants import read_instant
from pypi_adapter.simple.model import File, Page, ProjectStatus, identity, map_files
from pypi_adapter.simple.versions import file_version
from tests.history.test_history import SECOND, answers, instants, make_file, make_page, names, observed, seen
from tests.history.test_snapshot import check_same, link
from tests.support.examples import examples

Key = tuple[str, str]

many = settings(max_examples=examples(100), suppress_health_check=[HealthCheck.too_slow])

uploads = st.lists(
    st.builds(make_file, st.sampled_from(["1.0", "1.1", "2.0"]), st.integers(1, 70), st.sampled_from(["aa", "bb"])).map(
        lambda file: msgspec.structs.replace(file, hashes={"sha256": file.url})
    ),  # as those that are observed
    min_size=1,
    max_size=6,
    unique_by=identity,
)


def imported(*files: File, instant: int = 0) -> Entry:
    """The entry with which a log begins."""
    project = Project("p", None, (), ())
    return Entry(
        instant,
        shown=tuple(Showing(file, file_version(file.filename)) for file in files),
        project=project,
        imported=True,
    )


def followed(entry: Entry | None, observations: list[Observation]) -> History:
    history = History([entry] if entry else [])
    for observation in observations:
        history.extend(history.observe(observation, believed=True))
    return history


def birth(file: File) -> int:
    return (read_instant(file.upload_time) or 0) + 1


def present(files: list[File], first: Observation, at: int) -> set[Key]:
    """The imported files that are there before the first observation, which did not show them, by the rule."""
    listed = first.page.files if first.page else ()
    shown = {
        identity(file): file for file in reversed(listed)
    }.values()  # of one that is listed twice, the first counts
    found = set()
    for file in files:
        later = [birth(other) for other in files if other.filename == file.filename and birth(other) > birth(file)]
        equal = [other for other in files if other.filename == file.filename and birth(other) == birth(file)]
        if file is not max(equal, key=identity):
            continue
        taken = [
            birth(other) if other.upload_time else first.instant for other in shown if other.filename == file.filename
        ]
        if birth(file) <= at < min([first.instant, *later, *taken]):
            found.add(identity(file))
    return found - {identity(file) for file in shown}


def hashed(file: File) -> File:
    """A file whose sha256 is one, if it has any."""
    digests = {name: sha256(value.encode()).hexdigest() for name, value in file.hashes.items() if name == "sha256"}
    return msgspec.structs.replace(file, hashes=file.hashes | digests)


def files_of(page: Page | None) -> dict[Key, File]:
    return {identity(file): file for file in page.files} if page else {}


@many
@given(uploads, observed())
def test_the_theorem_with_imported_uploads(files: list[File], observations: list[Observation]) -> None:
    history, given_before = History([imported(*files)]), dict[int, Page | None]()
    for observation in observations:
        assert not given_before or history.instant is not None
        history.extend(history.observe(observation, believed=True))
        now = answers(history)
        assert {instant: now[instant] for instant in given_before} == given_before
        given_before = now


@many
@given(uploads, observed())
def test_the_rule_of_presence(files: list[File], observations: list[Observation]) -> None:
    """Before the first observation there is what it tells, and what was imported and it misses; at each, its page."""
    first = observations[0]
    history, without = followed(imported(*files), observations), followed(None, observations)
    for instant in [each for each in instants if each < first.instant]:
        told = without.as_of(instant)
        answer = history.as_of(instant)
        missed = present(files, first, instant)
        expected = files_of(told) | {identity(file): file for file in files if identity(file) in missed}
        assert files_of(answer) == expected
        assert (answer is None) == (not expected)
        if answer and first.page:
            assert answer.status == first.page.status
    ended = {key for file in files for key in present(files, first, birth(file))}
    for observation in observations:
        now, alone = files_of(history.as_of(observation.instant)), files_of(without.as_of(observation.instant))
        assert {key: file for key, file in now.items() if key not in ended} == {
            key: file for key, file in alone.items() if key not in ended
        }
        assert now.keys() & ended == files_of(observation.page).keys() & ended


@many
@given(uploads, observed())
def test_the_snapshot_tells_the_same(files: list[File], observations: list[Observation]) -> None:
    entry = imported(*map(hashed, files))
    looks = [Observation(each.instant, each.page and map_files(each.page, hashed)) for each in observations]
    for number in range(min(len(looks), 3) + 1):
        history = followed(entry, looks[:number])
        snapshot = take_snapshot(history, link)
        for instant in {birth(file) for file in files} | {each.instant - 1 for each in looks}:
            check_same(history, snapshot, instant)
        assert (snapshot.instant, snapshot.first, snapshot.states) == (history.instant, history.first, history.states)
        if not number:
            assert snapshot.listing("aa" * 32, files[0].filename) is None


@many
@given(observed(), uploads)
def test_nothing_is_imported_after_an_observation(observations: list[Observation], files: list[File]) -> None:
    history = followed(None, observations)
    before = answers(history)
    with pytest.raises(StaleObservation):
        history.extend(imported(*files))
    assert answers(history) == before


def test_nothing_is_answered_from_what_was_imported_alone() -> None:
    history = History([imported(make_file("1.0", 3))])
    assert (history.instant, history.exists, history.latest(), history.missing()) == (None, False, None, [])
    assert history.first == 3 * SECOND
    with pytest.raises(LookupError):
        history.as_of(-1)
    with pytest.raises(StaleObservation):
        history.extend(imported(make_file("1.1", 3)))


def test_what_an_observation_shows_is_as_if_it_had_not_been_imported() -> None:
    known = make_file("1.0", 3, yanked="why", requires_python=">=3.9")
    history = followed(imported(make_file("1.0", 5), make_file("1.1", 6)), [Observation(9 * SECOND, make_page(known))])
    page = history.as_of(4 * SECOND)
    assert page == make_page(known, versions=("1.0",))
    assert names(history.as_of(8 * SECOND)) == ["1.0", "1.1"]
    assert names(history.as_of(9 * SECOND)) == ["1.0"]


def test_a_project_that_is_gone() -> None:
    """It was there from its first upload on, and stays what it was when another project takes its name."""
    gone = imported(make_file("1.0", 3), make_file("1.1", 6))
    taken = make_page(make_file("9.0", 20), status=ProjectStatus("archived"))
    for observations in ([], [Observation(30 * SECOND, taken)]):
        history = followed(gone, [Observation(9 * SECOND, None), *observations])
        assert history.as_of(2 * SECOND) is None
        assert names(history.as_of(3 * SECOND)) == ["1.0"]
        page = history.as_of(8 * SECOND)
        assert page
        assert (names(page), page.status) == (["1.0", "1.1"], None)
        assert history.as_of(9 * SECOND) is None
        assert history.first == 3 * SECOND


def test_a_first_page_without_what_was_imported_is_no_doubtful_loss() -> None:
    """And none of it is rescued, since it can be any amount; what was observed since is."""
    many = [make_file(f"{number}.0", 1) for number in range(1, 40)]
    history = History([imported(*many)])
    history.extend(history.observe(Observation(5 * SECOND, make_page(many[0]))))
    assert set(names(history.as_of(4 * SECOND)) or ()) == {f"{number}.0" for number in range(1, 40)}
    assert history.missing() == []
    history.extend(history.observe(Observation(6 * SECOND, make_page(*many[:2]))))
    history.extend(history.observe(Observation(7 * SECOND, make_page(many[0]))))
    assert [missing.file.filename for missing in history.missing()] == ["p-2.0.tar.gz"]


def test_two_contents_of_one_name() -> None:
    """The later one has the name from its upload on."""
    old, new = make_file("1.0", 3, "aa"), make_file("1.0", 6, "bb")
    for files in ((old, new), (new, old)):
        history = followed(imported(*files), [Observation(9 * SECOND, make_page())])
        pages = [history.as_of(second * SECOND) for second in (3, 5, 6, 8)]
        assert [[file.hashes["sha256"] for file in page.files] for page in pages if page] == [["aa"]] * 2 + [["bb"]] * 2


def test_the_time_line() -> None:
    entry = imported(make_file("1.0", 3), make_file("1.1", 6), instant=7 * SECOND)
    history, page = History([entry]), make_page(make_file("1.0", 3, url="https://files.example.org/x/p-1.0.tar.gz"))
    entries = [entry, history.observe(Observation(9 * SECOND, page))]
    assert render(timeline(entries)) == [
        "1970-01-01T00:00:02Z  p-1.0.tar.gz: uploaded",
        "1970-01-01T00:00:05Z  p-1.1.tar.gz: uploaded",
        "1970-01-01T00:00:07Z  uploads imported: 2 files",
        "1970-01-01T00:00:09Z  first observation",
        "1970-01-01T00:00:09Z  p-1.1.tar.gz: gone",
    ]
    assert render(timeline(entries[:1]))[-1].endswith("uploads imported: 2 files")
    assert msgspec.structs.replace(entry, imported=False) != entry
    assert seen({1: None}).first is None
