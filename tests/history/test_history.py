"""The dated index: its rules one by one, a slow model that keeps everything, and the theorem."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from httpcache import zstd
from pypi_adapter.history.history import (
    DAY,
    LONG,
    UNPROVED,
    ZSTD_LEVEL,
    Doubtful,
    Entry,
    History,
    NotObserved,
    Observation,
    Serials,
    StaleObservation,
    decode_entry,
    encode_entry,
)
from pypi_adapter.instants import read_instant
from pypi_adapter.simple.model import File, Page, ProjectStatus, identity
from tests.support.examples import examples

SECOND = 1_000_000
PROVED = Serials(proved=True)


def time_text(second: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)).isoformat().replace("+00:00", "Z")


def make_file(name: str, uploaded: int | None = None, content: str = "aa", **rest: object) -> File:
    """A file born at a second: uploaded in the microsecond before it."""
    uploaded_at = None
    if uploaded is not None:
        uploaded_at = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=uploaded, microseconds=-1)).isoformat()
    file = File(
        filename=f"p-{name}.tar.gz",
        url=f"https://files.example.org/{content}/p-{name}.tar.gz",
        hashes={"sha256": content},
        upload_time=uploaded_at,
    )
    return msgspec.structs.replace(file, **rest)


def make_page(*files: File, **rest: object) -> Page:
    return msgspec.structs.replace(Page("p", files), **rest)


def seen(observations: dict[int, Page | None]) -> History:
    """The history of pages observed at seconds."""
    history = History()
    for second, page in observations.items():
        history.extend(history.observe(Observation(second * SECOND, page), believed=True))
    return history


def names(page: Page | None) -> list[str] | None:
    return None if page is None else [file.filename.removeprefix("p-").split(".tar")[0] for file in page.files]


def held(history: History, *seconds: int) -> list[list[str] | None]:
    return [names(history.as_of(second * SECOND)) for second in seconds]


# --- the rules, one by one


def test_the_status_of_a_project_outlives_it() -> None:
    """What was quarantined and then removed is still withheld, unless the name is taken by something else."""
    quarantined = ProjectStatus("quarantined", "a worm")
    pages = {100: make_page(make_file("1")), 200: make_page(status=quarantined), 300: None}
    assert seen(pages).status == quarantined
    assert seen(pages | {400: make_page(make_file("2"))}).status is None


def test_a_file_is_born_at_its_upload_time() -> None:
    history = seen({100: make_page(make_file("1", 10), make_file("2", 20))})
    assert held(history, 9, 10, 19, 20, 100) == [None, ["1"], ["1"], ["1", "2"], ["1", "2"]]


def test_a_file_that_an_observation_after_its_upload_time_missed_is_born_when_shown() -> None:
    one, two = make_file("1", 10), make_file("2", 50)
    assert held(seen({100: make_page(one), 200: make_page(one, two)}), 100, 199, 200) == [["1"], ["1"], ["1", "2"]]
    at_the_same_instant = make_file("2", 100)
    assert held(seen({100: make_page(one), 200: make_page(one, at_the_same_instant)}), 199, 200) == [["1"], ["1", "2"]]
    just_after = make_file("2", 101)
    assert held(seen({100: make_page(one), 200: make_page(one, just_after)}), 100, 101) == [["1"], ["1", "2"]]


def test_a_404_before_is_an_observation_that_missed_the_file() -> None:
    history = seen({100: None, 200: make_page(make_file("1", 50), make_file("2", 150))})
    assert held(history, 50, 100, 149, 150, 199, 200) == [None, None, None, ["2"], ["2"], ["1", "2"]]


@pytest.mark.parametrize("upload_time", [None, "", "yesterday"])
def test_a_file_without_a_readable_upload_time_is_born_when_shown(upload_time: str | None) -> None:
    history = seen({100: make_page(make_file("1", upload_time=upload_time))})
    assert held(history, 99, 100) == [None, ["1"]]


def test_a_file_is_gone_until_it_is_back() -> None:
    one, two = make_file("1", 10), make_file("2", 10)
    history = seen({100: make_page(one, two), 200: make_page(one), 300: make_page(one, two)})
    assert held(history, 50, 199, 200, 299, 300) == [["1", "2"], ["1", "2"], ["1"], ["1"], ["1", "2"]]


def test_a_deleted_project_is_gone_until_it_is_back() -> None:
    one = make_file("1", 10)
    history = seen({100: make_page(one), 200: None, 250: None, 300: make_page(one)})
    assert held(history, 199, 200, 299, 300) == [["1"], None, None, ["1"]]


def test_yanks_are_as_of_the_last_observation_that_had_the_file() -> None:
    def state(second: int) -> bool | str:
        page = history.as_of(second * SECOND)
        assert page is not None
        return page.files[0].yanked

    one, other = make_file("1", 10), make_file("2", 10)
    yanked, reason = (msgspec.structs.replace(one, yanked=yanked) for yanked in (True, "why"))
    pages = [make_page(yanked, other), make_page(reason, other), make_page(one, other), make_page(yanked, other)]
    history = seen(dict(zip((100, 200, 300, 400), pages, strict=True)))
    assert [state(second) for second in (10, 100, 199, 200, 299, 300, 399, 400)] == (
        [True, True, True, "why", "why", False, False, True]
    )


def test_changed_content_is_another_file_and_the_old_one_is_gone() -> None:
    def hashes(second: int) -> list[str]:
        page = history.as_of(second * SECOND)
        return [file.hashes["sha256"] for file in page.files] if page else []

    old, new, untimed = make_file("1", 10), make_file("1", 150, "bb"), make_file("1", None, "cc")
    history = seen({100: make_page(old), 200: make_page(new), 300: make_page(untimed), 400: make_page(old)})
    assert [hashes(second) for second in (10, 149, 150, 200, 299, 300, 399, 400)] == (
        [["aa"], ["aa"], ["bb"], ["bb"], ["bb"], ["cc"], ["cc"], ["aa"]]
    )


def test_identity() -> None:
    file = File("f", "https://example.org/f", {"md5": "1", "sha256": "2"})
    assert identity(file) == ("f", "2")
    assert identity(msgspec.structs.replace(file, hashes={"sha1": "3", "md5": "1"})) == ("f", "md5=1,sha1=3")
    hashless = msgspec.structs.replace(file, hashes={})
    assert identity(hashless) == identity(msgspec.structs.replace(hashless, url="https://cdn.example/f?Expires=9"))
    assert identity(hashless) != identity(msgspec.structs.replace(hashless, url="https://example.org/other/f"))
    sized = msgspec.structs.replace(hashless, size=3)
    assert identity(sized) == identity(msgspec.structs.replace(sized, url="https://example.org/token/f"))
    assert identity(sized) != identity(msgspec.structs.replace(sized, size=4))


def test_project_state_is_as_of_the_last_observation_else_the_first() -> None:
    one = make_file("1", 10)
    active, archived = make_page(one, tracks=("a",)), make_page(one, status=ProjectStatus("archived", "why"))
    history = seen({100: active, 200: archived, 300: None, 400: make_page(make_file("2", 350), tracks=("b",))})

    def state(second: int) -> tuple[ProjectStatus | None, tuple[str, ...]] | None:
        page = history.as_of(second * SECOND)
        return None if page is None else (page.status, page.tracks)

    assert [state(second) for second in (10, 199, 200, 300, 349, 350)] == [
        (None, ("a",)),
        (None, ("a",)),
        (ProjectStatus("archived", "why"), ()),
        None,
        None,
        (None, ("b",)),
    ]


def test_a_project_without_files_exists_from_when_it_was_observed() -> None:
    history = seen({100: make_page(), 200: make_page(make_file("1", 150))})
    assert held(history, 99, 100, 149, 150) == [None, [], [], ["1"]]


def test_what_was_not_observed_is_not_answered() -> None:
    with pytest.raises(NotObserved):
        History().as_of(0)
    with pytest.raises(NotObserved):
        seen({100: None}).as_of(100 * SECOND + 1)


@pytest.mark.parametrize(
    "observation",
    [
        Observation(99, make_page(make_file("1"), serial=8)),
        Observation(100, make_page(make_file("1"), serial=8)),
        Observation(100, None),
        Observation(101, make_page(make_file("1"), serial=6)),
        Observation(101, make_page(make_file("1"))),
    ],
)
def test_stale_observations(observation: Observation) -> None:
    """Whatever is believed: it is not later, or its serial is older or missing, and serials are proved."""
    history = History([History().observe(Observation(100, make_page(make_file("1"), serial=7)))])
    with pytest.raises(StaleObservation) as raised:
        history.observe(observation, PROVED, believed=True)
    assert not isinstance(raised.value, Doubtful)
    assert history.instant == 100


MANY_FILES = [make_file(f"1.{number}") for number in range(20)]
SERIALS = [PROVED, UNPROVED]


@pytest.mark.parametrize(
    ("page", "doubtful"),
    [
        (None, SERIALS),
        (make_page(), SERIALS),
        (make_page(serial=7), SERIALS),
        (make_page(serial=8), [UNPROVED]),
        (make_page(MANY_FILES[0], serial=7), SERIALS),
        (make_page(*MANY_FILES[:2], serial=7), SERIALS),
        (make_page(MANY_FILES[0], make_file("new"), serial=7), SERIALS),
        (make_page(MANY_FILES[0], serial=8), [UNPROVED]),
        (make_page(*MANY_FILES[:3], serial=7), []),
        (make_page(*(make_file(f"1.{number}", content="bb") for number in range(20)), serial=7), []),
        (make_page(serial=7, status=ProjectStatus("quarantined")), []),
        (make_page(*MANY_FILES, serial=6), [UNPROVED]),
        (make_page(*MANY_FILES), [UNPROVED]),
        (make_page(*MANY_FILES, serial=7), []),
    ],
)
def test_losses_are_doubtful(page: Page | None, doubtful: list[Serials]) -> None:
    """Until they are believed, unless a serial that is proved speaks for them, or against them."""
    for serials in SERIALS:
        history = History([History().observe(Observation(100, make_page(*MANY_FILES, serial=7)))])
        older = serials.proved and page is not None and (page.serial or 0) < 7
        if older:
            continue
        if serials in doubtful:
            with pytest.raises(Doubtful):
                history.observe(Observation(101, page), serials)
        else:
            assert history.observe(Observation(101, page), serials).instant == 101
        history.extend(history.observe(Observation(101, page), serials, believed=True))
        assert history.instant == 101


def test_a_registry_that_has_stopped_to_give_serials_is_believed_once() -> None:
    """Where they were proved, by telling of it: then those of before do not count."""
    page = make_page(*MANY_FILES)
    for serials, believed in ((UNPROVED, True), (Serials(since=100, proved=True), False)):
        history = History([History().observe(Observation(100, make_page(*MANY_FILES, serial=7)))])
        history.extend(history.observe(Observation(101, page), serials, believed=believed))
        history.extend(history.observe(Observation(102, page), serials))
        assert history.serial_since(serials.since) == -1


def test_few_files_need_not_be_looked_at_again() -> None:
    """Of less than ten, those that stay can be one."""
    files = [make_file(f"1.{number}") for number in range(9)]
    history = History([History().observe(Observation(100, make_page(*files)))])
    assert history.observe(Observation(101, make_page(files[0]))).changed


def test_an_empty_page_is_no_surprise_after_an_empty_page_or_a_404() -> None:
    assert held(seen({1: None, 2: make_page(), 3: make_page()}), 1, 2, 3) == [None, [], []]


def test_entries_out_of_order_are_refused() -> None:
    with pytest.raises(StaleObservation):
        History([Entry(2), Entry(2)])


def test_latest_and_cooled() -> None:
    history = History()
    assert history.latest() is None
    assert history.cooled(0, 1) is None
    one, two, back = make_file("1", 10), make_file("2", 90_000), make_file("3", 10)
    history = seen({100_000: make_page(one, two), 200_000: make_page(two, back, one)})
    now = 250_000 * SECOND
    assert names(history.latest()) == ["1", "2", "3"]
    assert names(history.cooled(now, 0)) == ["1", "2", "3"]
    assert names(history.cooled(now, 1)) == ["1", "2"]
    assert names(history.cooled(now, 2)) == ["1"]
    assert names(history.cooled(now, 3)) == []
    assert names(history.cooled(90_000 * SECOND + DAY, 1)) == ["1", "2"]
    assert names(history.cooled(90_000 * SECOND + DAY - 1, 1)) == ["1"]
    history.extend(history.observe(Observation(now, None), believed=True))
    assert history.latest() is history.cooled(now, 0) is None


def test_a_file_listed_twice_counts_once_and_one_name_may_have_two_contents() -> None:
    one, other = make_file("1", 10), make_file("1", 20, "bb")
    history = seen({100: make_page(one, other, msgspec.structs.replace(one, yanked=True))})
    page = history.as_of(100 * SECOND)
    assert page is not None
    assert page.files == (one, other)


# --- versions


@pytest.mark.parametrize(
    ("filename", "version"),
    [
        ("torch-2.1.0+cu121-cp311-cp311-linux_x86_64.whl", "2.1.0+cu121"),
        ("p-1.0_1-py3-none-any.whl", "1.0.post1"),
        ("p-1.0-1-py3-none-any.whl", "1.0"),
        ("p-1.0.whl", None),
        ("p-1.0.tar.gz", "1.0"),
        ("p-2-1.0.zip", "1.0"),
        ("p-1.0-1.zip", "1.0.post1"),
        ("p-1.0rc1.tar.bz2", "1.0rc1"),
        ("P-1.0.TAR.GZ", "1.0"),
        ("p-1.0-py2.7.egg", "1.0"),
        ("p-1.0.dev3-py2.7-linux-x86_64.egg", "1.0.dev3"),
        ("p-1.0.win32-py2.7.exe", "1.0"),
        ("p-1.0.win-amd64.msi", "1.0"),
        ("p-1.0.linux-x86_64.tar.gz", "1.0"),
        ("p-q-1.0a1.tgz", "1.0a1"),
        ("p-latest.zip", None),
        ("p", None),
        ("p-" + "1" * 5000 + ".zip", None),
    ],
)
def test_versions_from_names(filename: str, version: str | None) -> None:
    page = seen({1: make_page(make_file("", filename=filename))}).as_of(SECOND)
    assert page is not None
    assert page.versions == (() if version is None else (version,))


@pytest.mark.parametrize(
    ("filename", "listed", "version"),
    [
        ("p-1.0-py3-none-any.whl", ["1", "1.0.0", "2"], "1.0.0"),
        ("p-1.tar.gz", ["1.0.0"], "1.0.0"),
        ("p-1.0-1.tar.gz", ["1.0", "1.0-1"], "1.0-1"),
        ("p-1.0-1.tar.gz", ["1.0.post1"], "1.0.post1"),
        ("p-1.0-1.noarch.rpm", ["1.0"], "1.0"),
        ("p-3-q-1.0.tar.gz", ["3", "1.0"], "1.0"),
        ("p-2004-final.tar.gz", ["2004", "2004-final"], "2004-final"),
        ("p-2004_final-py2.4.egg", ["2004", "2004-final"], "2004-final"),
        ("p-1.0x.win32.exe", ["1.0", "1.0x"], "1.0x"),
        ("p-2.1.0-py3-none-any.whl", ["2", "2.0", "x"], "2.1.0"),
        ("p-2.1.0.tar.gz", ["2", "2.0", ""], "2.1.0"),
    ],
)
def test_versions_as_the_page_spells_them(filename: str, listed: list[str], version: str) -> None:
    page = make_page(make_file("", filename=filename), versions=(*listed, "9"))
    answer = seen({1: page}).as_of(SECOND)
    assert answer is not None
    assert answer.versions == (version,)


def test_versions_are_those_of_the_files_in_order() -> None:
    files = [make_file(version, second) for second, version in enumerate(["1.10", "1.9", "1.10", "final", "1.10rc1"])]
    history = seen({100: make_page(*files, versions=("1.9", "1.10", "1.10rc1", "final", "7"))})
    assert [page and page.versions for page in (history.as_of(SECOND * s) for s in (0, 1, 100))] == [
        ("1.10",),
        ("1.9", "1.10"),
        ("1.9", "1.10rc1", "1.10", "final"),
    ]


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:01Z", SECOND),
        ("1970-01-01T00:00:01.5Z", SECOND * 3 // 2),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1970-01-01T00:00:00.0000019Z", 1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:01", SECOND),
        ("1969-12-31", -DAY),
        ("0001-01-01T00:00:00+23:59", -62135683140 * SECOND),
        ("now", None),
        ("", None),
        (None, None),
    ],
)
def test_upload_instant(text: str | None, instant: int | None) -> None:
    assert read_instant(text) == instant


# --- random histories

files = st.builds(
    make_file,
    st.sampled_from(["1.0", "1.1", "2.0rc1", "x"]),
    st.none() | st.integers(0, 70),
    st.sampled_from(["aa", "bb"]),
    yanked=st.sampled_from([False, True, "why", "why else"]),
    hashes=st.sampled_from([None, {}, {"md5": "1"}]),
).map(lambda file: file if file.hashes is not None else msgspec.structs.replace(file, hashes={"sha256": file.url}))
pages = st.builds(
    Page,
    name=st.just("p"),
    files=st.lists(files, max_size=5).map(tuple),
    versions=st.sampled_from([None, ("1.0", "1.1.0", "2.0rc1", "x"), ("1", "1.1")]),
    serial=st.none(),
    status=st.none() | st.sampled_from([ProjectStatus("active"), ProjectStatus("archived", "why")]),
    tracks=st.sampled_from([(), ("https://example.org/",)]),
)
second = st.integers(-5, 75)


@st.composite
def observed(draw: st.DrawFn) -> list[Observation]:
    """Observations one after the other. Some pages are the one before with little changed, as real ones are."""
    observations: list[Observation] = []
    page: Page | None = None
    for instant in sorted(draw(st.sets(st.integers(0, 70), min_size=1, max_size=8))):
        change = draw(st.sampled_from(["new", "new", "same", "add", "drop", "restore", "404"]))
        before = [old.page for old in observations if old.page]
        if change == "404":
            page = None
        elif change == "restore" and before:
            page = draw(st.sampled_from(before))
        elif change == "add" and page:
            page = msgspec.structs.replace(page, files=(*page.files, draw(files)))
        elif change == "drop" and page:
            page = msgspec.structs.replace(page, files=page.files[1:])
        elif change != "same":
            page = draw(pages)
        # A serial of its own for each: an empty page is then no stale observation.
        numbered = page and msgspec.structs.replace(page, serial=instant)
        observations.append(Observation(instant * SECOND, numbered))
    return observations


def history_of(observations: Iterable[Observation]) -> History:
    history = History()
    for observation in observations:
        history.extend(history.observe(observation, believed=True))
    return history


def model(observations: list[Observation], instant: int) -> Page | None:
    """The rules word for word, over full copies of all observations. Versions are left out."""
    copies = []
    for observation in observations:
        files: dict[tuple[str, str], File] = {}
        for file in observation.page.files if observation.page else ():
            files.setdefault(identity(file), file)
        copies.append((observation.instant, files, observation.page))

    def birth(key: tuple[str, str]) -> int:
        shown, first = next((at, files[key]) for at, files, _ in copies if key in files)
        uploaded = read_instant(first.upload_time)
        if uploaded is None or any(uploaded <= at < shown for at, _, _ in copies):
            return shown
        return uploaded + 1

    def is_replaced(key: tuple[str, str]) -> bool:
        """Whether the observation that next missed the file showed new content under its name, born by now."""
        last = [at for at, files, _ in copies if at <= instant and key in files][-1]
        following = next((files for at, files, _ in copies if at > last), {})
        earlier = {other for at, files, _ in copies if at <= last for other in files}
        names = {other for other in following if other[0] == key[0] and other not in earlier}
        return key not in following and any(birth(other) <= instant for other in names)

    keys: list[tuple[str, str]] = []
    for _, files, _ in copies:
        keys += [key for key in files if key not in keys]
    past = [copy for copy in copies if copy[0] <= instant]
    listed = []
    for key in keys:
        having = [files[key] for _, files, _ in past if key in files]
        if birth(key) > instant or (having and (key not in past[-1][1] or is_replaced(key))):
            continue
        listed.append(having[-1] if having else next(files[key] for _, files, _ in copies if key in files))
    state = past[-1][2] if past else None
    if state is None and listed:
        state = next(page for at, _, page in copies if at > instant and page)
    return state and msgspec.structs.replace(state, files=tuple(listed), versions=None, serial=None)


many = settings(max_examples=examples(300), suppress_health_check=[HealthCheck.too_slow])
instants = [tenth * SECOND // 2 for tenth in range(-10, 145)]


def answers(history: History) -> dict[int, Page | None]:
    return {instant: history.as_of(instant) for instant in instants if instant <= (history.instant or -1)}


@many
@given(observed())
def test_the_theorem_no_later_observation_changes_an_answer(observations: list[Observation]) -> None:
    history, given_before = History(), dict[int, Page | None]()
    for observation in observations:
        history.extend(history.observe(observation, believed=True))
        now = answers(history)
        assert {instant: now[instant] for instant in given_before} == given_before
        given_before = now


@many
@given(observed())
def test_the_model_agrees(observations: list[Observation]) -> None:
    for instant, answer in answers(history_of(observations)).items():
        expected = model(observations, instant)
        assert without_addresses(answer and msgspec.structs.replace(answer, versions=None)) == without_addresses(
            expected
        )


def unaddressed(file: File) -> File:
    """A file without its address: another one is no change."""
    return msgspec.structs.replace(file, url="")


def without_addresses(page: Page | None) -> Page | None:
    return page and msgspec.structs.replace(page, files=tuple(map(unaddressed, page.files)))


@many
@given(observed())
def test_entries_survive_the_store(observations: list[Observation]) -> None:
    history, entries = History(), []
    for observation in observations:
        entry = history.observe(observation, believed=True)
        assert history.observe(observation, believed=True) == entry, "observe is pure"
        entries.append(decode_entry(encode_entry(entry)))
        assert entries[-1] == entry
        history.extend(entry)
    replayed = History(entries)
    assert vars(replayed) == vars(history)
    assert answers(replayed) == answers(history)


@pytest.mark.parametrize("files", [0, 1, 30, 300])
def test_entries_in_zlib_can_be_read_whatever_their_size(files: int) -> None:
    """Long ones are in zstd since; all are in stores."""
    listed = tuple(File(f"a-{number}.tar.gz", f"https://h/{number}", {}) for number in range(files))
    entry = History().observe(Observation(1, Page("a", listed)))
    plain = msgspec.msgpack.encode(entry)
    assert decode_entry(zlib.compress(plain)) == entry
    encoded = encode_entry(entry)
    assert decode_entry(encoded) == entry
    assert encoded == (zlib.compress(plain) if len(plain) < LONG else zstd.compress(plain, ZSTD_LEVEL))
    for damaged in (encoded[:-1], encoded[:5], encoded[::-1], b""):
        with pytest.raises((ValueError, zlib.error)):
            decode_entry(damaged)


@many
@given(observed())
def test_an_observation_of_the_same_is_small_and_changes_nothing(observations: list[Observation]) -> None:
    history = history_of(observations)
    last = observations[-1]
    entry = history.observe(Observation(last.instant + 1, last.page))
    assert not entry.changed
    assert len(encode_entry(entry)) < 100
    latest = history.latest()
    history.extend(entry)
    assert history.latest() == latest


@many
@given(observed())
def test_the_latest_page_is_the_last_observed(observations: list[Observation]) -> None:
    latest, page = history_of(observations).latest(), observations[-1].page
    if latest is None or page is None:
        assert latest is page
        return
    listed = [{identity(file): file.yanked for file in reversed(each.files)} for each in (page, latest)]
    assert listed[0] == listed[1]
    assert (latest.status, latest.tracks) == (page.status, page.tracks)
    assert msgspec.structs.replace(latest, serial=None) == latest


def test_what_was_uploaded_at_the_very_instant_is_not_there_yet() -> None:
    file = msgspec.structs.replace(make_file("1"), upload_time="1970-01-01T00:00:10.000001Z")
    history = seen({100: make_page(file)})
    assert history.as_of(10 * SECOND + 1) is None
    assert history.as_of(10 * SECOND + 2) is not None
