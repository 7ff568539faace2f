"""`History` against a simulated index, whose truth is known, and a model that keeps a whole copy of every page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pypi_adapter.history.history import (
    DAY,
    Entry,
    History,
    NotObserved,
    Observation,
    Serials,
    StaleObservation,
    decode_entry,
    encode_entry,
)
from pypi_adapter.simple.model import File, Page, ProjectStatus
from tests.support.examples import examples as share

START = 1_600_000_000_000_000

# Each file with its version: as a page spells it that lists versions, and as its name alone tells it.
VERSIONS: dict[str, tuple[str, str | None]] = {
    "p-1.0.tar.gz": ("1.0", "1.0"),
    "p-1.0-py3-none-any.whl": ("1.0", "1.0"),
    "p-1.9-cp311-cp311-linux_x86_64.whl": ("1.9.0", "1.9"),
    "p-1.10.zip": ("1.10", "1.10"),
    "p-2.0rc1.tar.gz": ("2.0rc1", "2.0rc1"),
    "p-final.zip": ("final", None),
}
IN_ORDER = ["1.0", "1.9", "1.9.0", "1.10", "2.0rc1", "final"]

UPLOADS = ["upload"] * 4 + ["replace"]
OTHER_CHANGES = ["yank", "yank", "unyank", "delete", "restore", "release gone", "drop project", "restore project"]
OTHER_CHANGES += ["status", "status", "requires-python", "move", "tracks"]
LOOKS = ["look"] * 4 + ["look live"] * 2
LOOKS += ["look at a cache", "look at a failure", "look without serial", "look at a muddle"]


# --- the truth


class Step(NamedTuple):
    """What happens `gap` microseconds after the step before; `pick` says to which file, or with which reason."""

    gap: int
    action: str
    pick: int
    clock: str = "exact"


class Index:
    """An index of one project, and what it showed from when on."""

    def __init__(self, *, serials: bool, listed: bool, hashed: bool, proved: bool = True) -> None:
        self.times: dict[str, int] = {}
        """What the upload times mean that can be read."""
        self.pages: list[Page | None] = [None]
        self.since: list[int] = []
        """When each page but the first replaced the one before."""
        self._serials, self._listed, self._hashed = serials, listed, hashed
        self._exists = False
        self._files: dict[str, File] = {}
        self._deleted: dict[str, File] = {}
        self._status: ProjectStatus | None = None
        self._tracks: tuple[str, ...] = ()
        self._contents = 0

    def at(self, instant: int) -> Page | None:
        """The page just before an instant: what happens at it is not there yet."""
        return self.pages[sum(since < instant for since in self.since)]

    def change(self, step: Step, instant: int) -> bool:
        """Let a step befall the index. Whether it could."""
        changed = self._change(step, instant)
        if changed:
            self.pages.append(self._page())
            self.since.append(instant)
        return changed

    def _change(self, step: Step, instant: int) -> bool:
        files, pick = self._files, step.pick
        there = sorted(files) if self._exists else []
        name = there[pick % len(there)] if there else ""
        reason = [True, "broken", "broken\nbadly", "see 2.0"][pick % 4]
        match step.action:
            case "upload":
                unused = [other for other in VERSIONS if other not in there and other not in self._deleted]
                if not unused:
                    return False
                name = unused[pick % len(unused)]
                if not self._exists:
                    self._exists, self._files = True, {}
                self._files[name] = self._new(name, step, instant)
            case "replace" if there:
                files[name] = self._new(name, step, instant)
            case "yank" if there:
                files[name] = msgspec.structs.replace(files[name], yanked=reason)
            case "unyank" if any(file.yanked for file in files.values()) and there:
                name = next(name for name in there if files[name].yanked)
                files[name] = msgspec.structs.replace(files[name], yanked=False)
            case "delete" if there:
                self._deleted[name] = files.pop(name)
            case "restore" if self._exists and self._deleted:
                name = sorted(self._deleted)[pick % len(self._deleted)]
                files[name] = self._deleted.pop(name)
            case "release gone" if there:
                for other in [other for other in there if VERSIONS[other] == VERSIONS[name]]:
                    self._deleted[other] = files.pop(other)
            case "drop project" if self._exists:
                self._exists = False
            case "restore project" if files and not self._exists:
                self._exists = True
            case "status" if self._exists:
                self._status = [None, ProjectStatus("quarantined"), ProjectStatus("archived", "why")][pick % 3]
            case "tracks" if self._exists:
                self._tracks = () if self._tracks else ("https://example.org/p/",)
            case "requires-python" if there:
                files[name] = msgspec.structs.replace(files[name], requires_python=f">=3.{pick}")
            case "move" if there:
                files[name] = msgspec.structs.replace(files[name], url=f"{files[name].url}?{instant}")
            case _:
                return False
        return True

    def _new(self, name: str, step: Step, instant: int) -> File:
        self._contents += 1
        text: str | None = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant)).isoformat()
        if step.clock == "none":
            text = None
        elif step.clock == "broken":
            text = "yesterday"
        elif step.clock == "seconds":
            text = datetime.fromtimestamp(instant // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            self.times[text] = instant // 1_000_000 * 1_000_000
        elif step.clock == "wrong":
            self.times[text := "2020-09-13T12:26:40.000040Z"] = START + 40
        elif step.clock == "ahead":
            text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant + DAY)).isoformat()
            self.times[text] = instant + DAY
        elif text:
            self.times[text] = instant
        content = f"{self._contents:064x}"
        return File(
            filename=name,
            url=f"https://files.example.org/{content}/{name}",
            hashes={"sha256": content} if self._hashed else {},
            upload_time=text,
        )

    def _page(self) -> Page | None:
        if not self._exists:
            return None
        hidden = self._status is not None and self._status.status == "quarantined"
        files = {} if hidden else self._files
        return Page(
            name="p",
            files=tuple(files[name] for name in sorted(files)),
            versions=tuple({VERSIONS[name][0] for name in sorted(files)}) if self._listed else None,
            serial=len(self.pages) if self._serials else None,
            status=self._status,
            tracks=self._tracks,
        )

    def version(self, filename: str) -> str | None:
        return VERSIONS[filename][0 if self._listed else 1]


# --- the model


def key(file: File) -> tuple[str, str]:
    return file.filename, file.hashes.get("sha256", file.url.partition("?")[0])


def unaddressed(page: Page | None) -> Page | None:
    """A page without the addresses of its files: another one is no change."""
    return page and msgspec.structs.replace(
        page, files=tuple(msgspec.structs.replace(file, url="") for file in page.files)
    )


class Copy(NamedTuple):
    """A page as it was observed at an instant; None where there was no project."""

    at: int
    page: Page | None

    def files(self) -> dict[tuple[str, str], File]:
        return {key(file): file for file in self.page.files} if self.page else {}

    def listings(self) -> dict[tuple[str, str], File]:
        """What it says of its files, but for their addresses."""
        return {key: msgspec.structs.replace(file, url="") for key, file in self.files().items()}


class Model:
    """The documented rules word for word, over copies of all pages."""

    def __init__(self, index: Index) -> None:
        self.copies: list[Copy] = []
        self._index = index

    def refuses(self, copy: Copy, *, proved: bool, believed: bool) -> bool:
        """Not later than the last one; its serial is lower than the last one seen, or missing after that (believed
        only where serials are not proved); or it is a loss that is not believed and for which neither a newer, proved
        serial nor a quarantine speaks.
        """
        last = self.copies[-1] if self.copies else Copy(START - 1, None)
        if copy.at <= last.at:
            return True
        if copy.page is None:
            return last.page is not None and not believed
        pages = [old.page for old in self.copies if old.page]
        seen = pages[-1].serial if pages else None
        serial = copy.page.serial
        if seen is not None and (serial is None or serial < seen) and (proved or not believed):
            return True
        newer = proved and seen is not None and serial is not None and serial > seen
        quarantined = copy.page.status is not None and copy.page.status.status == "quarantined"
        return bool(last.files()) and not copy.page.files and not (newer or quarantined or believed)

    def differs(self, copy: Copy) -> bool:
        """Whether a copy shows anything else than the last one, the serial aside."""
        last = self.copies[-1] if self.copies else Copy(0, None)
        if copy.page is None or last.page is None:
            return copy.page is not last.page
        states = [(page.status, page.tracks) for page in (copy.page, last.page)]
        return states[0] != states[1] or copy.listings() != last.listings()

    def as_of(self, instant: int) -> Page | None:
        keys = [key for key in self._first_shown() if self._is_there(key, instant)]
        past = [copy for copy in self.copies if copy.at <= instant]
        state = past[-1].page if past else None
        if state is None and keys:  # files were uploaded before the project was (again) seen
            state = next(copy.page for copy in self.copies if copy.at > instant and copy.page)
        return state and self._page(state, [self._listing(key, instant) for key in keys])

    def latest(self, born_by: int | None = None) -> Page | None:
        last = self.copies[-1]
        keys = [key for key in self._first_shown() if key in last.files()]
        keys = [key for key in keys if born_by is None or self.birth(key) <= born_by]
        return last.page and self._page(last.page, [last.files()[key] for key in keys])

    def earliest(self) -> int | None:
        """The first observation, where it had a file without a time that can be read."""
        shown = self.copies[0].files().values() if self.copies else ()
        untimed = [file for file in shown if (file.upload_time or "") not in self._index.times]
        return self.copies[0].at if untimed else None

    def birth(self, key: tuple[str, str]) -> int:
        """Just after the upload time; but when first shown if an earlier observation should have shown it."""
        first = next(copy for copy in self.copies if key in copy.files())
        uploaded = self._index.times.get(first.files()[key].upload_time or "")
        if uploaded is None or any(uploaded <= copy.at < first.at for copy in self.copies):
            return first.at
        return uploaded + 1

    def _first_shown(self) -> dict[tuple[str, str], int]:
        """When each file was first shown, in this order."""
        shown: dict[tuple[str, str], int] = {}
        for copy in self.copies:
            for key in copy.files():
                shown.setdefault(key, copy.at)
        return shown

    def _is_there(self, key: tuple[str, str], instant: int) -> bool:
        past = [copy for copy in self.copies if copy.at <= instant]
        if instant < self.birth(key):
            return False
        if not any(key in copy.files() for copy in past):
            return True
        return key in past[-1].files() and not self._is_replaced(key, instant)

    def _is_replaced(self, key: tuple[str, str], instant: int) -> bool:
        """Whether the next observation misses it and has content first shown under its name, born by now."""
        following = next((copy for copy in self.copies if copy.at > instant), None)
        if following is None or key in following.files():
            return False
        first_shown = self._first_shown()
        others = [other for other in following.files() if other[0] == key[0] and first_shown[other] == following.at]
        return any(self.birth(other) <= instant for other in others)

    def _listing(self, key: tuple[str, str], instant: int) -> File:
        """As of the last observation at or before the instant that had it; if there is none, as of the first."""
        having = [copy for copy in self.copies if key in copy.files()]
        past = [copy for copy in having if copy.at <= instant]
        return (past[-1] if past else having[0]).files()[key]

    def _page(self, state: Page, files: list[File]) -> Page:
        versions = {self._index.version(file.filename) for file in files}
        ordered = tuple(version for version in IN_ORDER if version in versions)
        return msgspec.structs.replace(state, files=tuple(files), versions=ordered, serial=None)


# --- random steps


gaps = st.sampled_from([0, 1, 1, 2, 3, 1_000, 700_000, DAY // 2, DAY])
kinds = st.fixed_dictionaries(
    {"serials": st.booleans(), "listed": st.booleans(), "hashed": st.booleans(), "proved": st.booleans()}
)
clocks = st.sampled_from(["exact", "exact", "exact", "none", "seconds", "wrong", "ahead", "broken"])
steps = st.builds(Step, gaps, st.sampled_from(UPLOADS + OTHER_CHANGES + LOOKS * 2), st.integers(0, 11), clocks)
few_and_many_steps = st.lists(steps, max_size=10) | st.lists(steps, min_size=12, max_size=30)


def run(
    kind: dict[str, bool], steps: list[Step], grown: Callable[[History], None] = lambda _: None
) -> tuple[Index, Model, list[Entry]]:
    """Let the steps befall an index that is observed now and then; `grown` sees the history after each observation.

    Holds what the history refuses, and what it says has changed, to what the model says.
    """
    serials = Serials(proved=kind["proved"])
    index = Index(**kind)
    model, history, entries, instant = Model(index), History(), list[Entry](), START
    for step in steps:
        instant += step.gap
        if step.action not in LOOKS:
            index.change(step, instant)
            continue
        seen = look(index, step)
        copy, observation = Copy(instant, seen), Observation(instant, seen)
        believed = step.pick % 3 == 0
        if model.refuses(copy, proved=serials.proved, believed=believed):
            with pytest.raises(StaleObservation):
                history.observe(observation, serials, believed=believed)
            continue
        entry = history.observe(observation, serials, believed=believed)
        assert entry.changed == model.differs(copy)
        if step.action == "look live" and not entry.changed and not newer(seen, history):
            continue
        history.extend(entry)
        model.copies.append(copy)
        entries.append(entry)
        grown(history)
    return index, model, entries


def look(index: Index, step: Step) -> Page | None:
    """What an observer is given: the page, an older one, or one with something wrong."""
    page = index.pages[-1]
    match step.action:
        case "look at a cache":
            return index.pages[max(-1 - step.pick, -len(index.pages))]
        case "look at a failure" if page:
            return msgspec.structs.replace(page, files=())
        case "look without serial" if page:
            return msgspec.structs.replace(page, serial=None)
        case "look at a muddle" if page and index.times:
            time = sorted(index.times)[step.pick % len(index.times)]
            return msgspec.structs.replace(
                page, files=(*page.files, *(other_content(file, time) for file in page.files))
            )
    return page


def other_content(file: File, time: str) -> File:
    hashes = {name: digest[::-1] for name, digest in file.hashes.items()}
    url = f"{file.url.partition('?')[0]}/{file.filename}"
    return msgspec.structs.replace(file, url=url, hashes=hashes, upload_time=time)


def newer(page: Page | None, history: History) -> bool:
    return page is not None and (page.serial or 0) > max(history.serial or 0, 0)


def instants(index: Index, model: Model) -> list[int]:
    """Every instant at which something happens, the microseconds before and after, and one in between."""
    times = {*index.since, *index.times.values(), *(copy.at for copy in model.copies), START}
    near = sorted({time + offset for time in times for offset in (-1, 0, 1, 2)})
    between = [(earlier + later) // 2 for earlier, later in pairwise(near)]
    return sorted({near[0] - DAY, *near, *between, near[-1] + DAY})


def answer(history: History, instant: int) -> Page | str | None:
    try:
        return unaddressed(history.as_of(instant))
    except NotObserved:
        return "not observed"


def check_model(kind: dict[str, bool], steps: list[Step]) -> None:
    index, model, entries = run(kind, steps)
    histories = History(entries), History([decode_entry(encode_entry(entry)) for entry in entries])
    had = False
    for instant in instants(index, model):
        known = bool(model.copies) and instant <= model.copies[-1].at
        expected = unaddressed(model.as_of(instant)) if known else "not observed"
        had = had or isinstance(expected, Page)
        for history in histories:
            assert answer(history, instant) == expected
            assert (history.first is not None and history.first <= instant) == had
        if model.copies:
            for days in (0, 1, 2):
                cooled = histories[0].cooled(instant, days)
                assert unaddressed(cooled) == unaddressed(model.latest(born_by=instant - days * DAY))
    for history in histories:
        assert unaddressed(history.latest()) == (unaddressed(model.latest()) if model.copies else None)
        assert history.earliest == model.earliest()
        assert history.exists == (bool(model.copies) and model.copies[-1].page is not None)


def check_growth(kind: dict[str, bool], steps: list[Step]) -> None:
    index, model, entries = run(kind, steps)
    all_instants = instants(index, model)
    before: dict[int, Page | str | None] = {}

    def grown(history: History) -> None:
        now = {instant: answer(history, instant) for instant in all_instants}
        for instant, page in before.items():
            assert now[instant] == page
        before.update((instant, page) for instant, page in now.items() if page != "not observed")

    run(kind, steps, grown)
    assert set(before) == {instant for instant in all_instants if entries and instant <= entries[-1].instant}


# --- what is seen at once, and once a day

known_clocks = st.sampled_from(["exact", "exact", "none"])
changes = st.builds(
    Step,
    st.sampled_from([1, 2, 3, 1_000, 700_000, DAY // 3, DAY]),
    st.sampled_from(UPLOADS + OTHER_CHANGES),
    st.integers(0, 11),
    known_clocks,
)
with_serials = st.fixed_dictionaries({"serials": st.just(value=True), "listed": st.booleans(), "hashed": st.booleans()})


def plain(page: Page | None) -> Page | None:
    """A page without what `as_of` has its own order or rules for."""
    page = unaddressed(page and msgspec.structs.replace(page, files=tuple(sorted(page.files, key=key))))
    files = page.files if page else ()
    return page and msgspec.structs.replace(page, files=tuple(files), versions=None, serial=None)


def check_seen_at_once(kind: dict[str, bool], steps: list[Step]) -> None:
    """Where every change is followed by a look, the answer is the truth from the first look on."""
    index, history, instant = Index(**kind), History(), START
    model = Model(index)
    for step in steps:
        instant += step.gap
        if index.change(step, instant):
            model.copies.append(Copy(instant + 1, index.at(instant + 1)))
            history.extend(history.observe(Observation(*model.copies[-1]), believed=True))
    for at in instants(index, model):
        if model.copies and model.copies[0].at <= at <= model.copies[-1].at:
            assert plain(history.as_of(at)) == plain(index.at(at))


def check_seen_daily(kind: dict[str, bool], steps: list[Step]) -> None:
    """The answer is the truth at every look, and between two of them if all that happened was uploads that stayed."""
    index, instant = Index(**kind), START
    for step in steps:
        instant += step.gap
        index.change(step, instant)
    looks = list(range(START + DAY, instant + 2 * DAY, DAY))
    model, history = Model(index), History()
    for look in looks:
        model.copies.append(Copy(look, index.at(look)))
        history.extend(history.observe(Observation(*model.copies[-1]), believed=True))
    for before, look in pairwise([0, *looks]):
        assert plain(history.as_of(look)) == plain(index.at(look))
        if uploads_only(index, before, look):
            for at in instants(index, model):
                if before <= at <= look:
                    assert plain(history.as_of(at)) == plain(index.at(at))


def uploads_only(index: Index, begin: int, end: int) -> bool:
    """Whether each change of an interval put a file there, with its upload time, that is still there at the end.

    Not if one was at the very begin: an observation counts as one that should have shown what was uploaded at it.
    """
    page = index.at(end)
    files = page.files if page else ()
    uploaded = {index.times.get(file.upload_time or "") for file in files}
    return all(since in uploaded and since != begin for since in index.since if begin <= since < end)


# --- the tests


def examine(check: Callable[[dict[str, bool], list[Step]], None], examples: int, *strategies: Any) -> None:
    """Hold a check to so many random examples."""
    bounds = settings(max_examples=share(examples), deadline=None, suppress_health_check=list(HealthCheck))
    checks: Any = given
    test: Any = bounds(checks(*strategies)(check))
    test()


few_and_many_changes = st.lists(changes, max_size=6) | st.lists(changes, min_size=8, max_size=24)
some_and_many = pytest.mark.parametrize("examples", [1500, pytest.param(30_000, marks=pytest.mark.soak)])


@some_and_many
def test_the_answers_are_those_of_the_rules_at_every_instant(examples: int) -> None:
    examine(check_model, examples, kinds, few_and_many_steps)


@some_and_many
def test_an_answer_stays_when_the_history_grows(examples: int) -> None:
    examine(check_growth, examples, kinds, few_and_many_steps)


@some_and_many
def test_what_is_seen_at_once_is_answered_as_it_was(examples: int) -> None:
    examine(check_seen_at_once, examples, with_serials, few_and_many_changes)


@some_and_many
def test_what_is_seen_daily_is_answered_as_it_was_at_every_look(examples: int) -> None:
    examine(check_seen_daily, examples, with_serials, few_and_many_changes)
