"""The snapshot of a history: it gives what the history gives, byte for byte, at every instant."""

from __future__ import annotations

import zlib
from hashlib import sha256

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from pypi_adapter.addresses import linked, token
from pypi_adapter.history.history import Entry, History, NotObserved, Observation, Showing, decode_entry, encode_entry
from pypi_adapter.history.snapshot import Snapshot, take_snapshot
from pypi_adapter.history.snapshot_cache import FORMAT, StoredSnapshot
from pypi_adapter.simple.html_page import to_html
from pypi_adapter.simple.json_page import to_json
from pypi_adapter.simple.model import File, Page, ProjectStatus, identity, map_files
from tests.history.test_history_model import Step, few_and_many_steps, instants, kinds, run
from tests.support.examples import examples as share

BASE = "/mirror/name"


def link(file: File) -> File:
    return linked(file, BASE, "p")


def varied(entry: Entry) -> Entry:
    """The entry with what the index of the model does not say of files: by their names and addresses."""
    return msgspec.structs.replace(entry, shown=tuple(Showing(vary(s.file), s.version) for s in entry.shown))


def vary(file: File) -> File:
    pick = zlib.crc32(f"{file.url}{file.requires_python}".encode())
    return msgspec.structs.replace(
        file,
        size=pick if pick % 7 and file.hashes else None,  # without a hash that would be another file
        provenance="https://example.org/provenance" if pick % 5 == 0 else None,
        gpg_sig=(None, True, False)[pick % 3],
        core_metadata=(None, True, {"sha256": "ab" * 32}, False)[pick % 4],
        hashes=file.hashes and file.hashes | {"md5": f"{pick:032x}"},
    )


def stepwise(entries: list[Entry]) -> Snapshot:
    """The form that is taken on from entry to entry where that can be, and else is made anew."""
    history, snapshot = History(entries[:1]), take_snapshot(History(entries[:1]), link)
    for entry in entries[1:]:
        history.extend(entry)
        snapshot = snapshot.followed_by(entry) or take_snapshot(history, link)
    return snapshot


def check_same(history: History, snapshot: Snapshot, instant: int) -> None:
    """The answer for an instant, in all forms."""
    try:
        page = history.as_of(instant)
    except NotObserved:
        with pytest.raises(NotObserved):
            snapshot.at(instant)
        return
    moment = snapshot.at(instant)
    assert (moment is None) == (page is None)
    if moment and page:
        served = map_files(page, link)
        assert moment.json() == to_json(served)
        assert moment.page() == served
        assert to_html(moment.page()) == to_html(served)
        assert moment.name == page.name
        assert {file.hashes["sha256"] for file in page.files if "sha256" in file.hashes} <= moment.contents()


def check_listings(entries: list[Entry], snapshot: Snapshot) -> None:
    """Each file that was ever shown is found as it was shown last, whether it is listed at any instant or not."""
    shown = {identity(showing.file): showing.file for entry in entries for showing in entry.shown}
    for file in shown.values():
        found = snapshot.listing(token(file), file.filename)
        assert found is not None
        assert to_fetch(found) == to_fetch(file)
        assert snapshot.listing(token(file), f"other-{file.filename}") is None
    assert snapshot.listing("0" * 64, "p-1.0.zip") is snapshot.listing(f"id-{'0' * 64}", "p-1.0.zip") is None


def to_fetch(file: File) -> File:
    """A file with all that the mirror looks at to fetch it, to check it, and to find its metadata."""
    metadata = (file.core_metadata or None) if file.filename.endswith(".whl") else None
    return msgspec.structs.replace(file, core_metadata=metadata, gpg_sig=None)


def facts(known: History | Snapshot) -> list[object]:
    return [known.instant, known.serial, known.numbered, known.etag, known.first, known.earliest, known.states]


@pytest.mark.parametrize("examples", [1000, pytest.param(30_000, marks=pytest.mark.soak)])
def test_it_gives_what_the_history_gives_at_every_instant(examples: int) -> None:
    @settings(max_examples=share(examples), deadline=None, suppress_health_check=list(HealthCheck))
    @given(kinds, few_and_many_steps)
    def check(kind: dict[str, bool], steps: list[Step]) -> None:
        index, model, entries = run(kind, steps)
        entries = [varied(entry) for entry in entries]
        history = History(entries)
        made = take_snapshot(history, link)
        form = StoredSnapshot("pypi/p", BASE, len(entries), b"", made)
        read = msgspec.msgpack.decode(msgspec.msgpack.encode(form), type=StoredSnapshot)
        assert read == form
        for snapshot in (made, read.snapshot, *([stepwise(entries)] if entries else [])):
            check_listings(entries, snapshot)
            assert facts(snapshot) == facts(history)
            assert (snapshot.status, snapshot.exists) == (history.status, history.exists)
        breaks = sorted({instant + near for instant in made.breaks for near in (-1, 0, 1)})
        for instant in (*instants(index, model), *breaks):
            check_same(history, read.snapshot, instant)
            if entries:
                check_same(history, stepwise(entries), instant)

    check()


@pytest.mark.parametrize("examples", [500, pytest.param(20_000, marks=pytest.mark.soak)])
def test_what_is_kept_of_a_moment_stays_right_when_the_history_grows(examples: int) -> None:
    """A rendered page is kept by the instant since which it is the same: it is that page in every later form."""

    @settings(max_examples=share(examples), deadline=None, suppress_health_check=list(HealthCheck))
    @given(kinds, few_and_many_steps)
    def check(kind: dict[str, bool], steps: list[Step]) -> None:
        index, model, entries = run(kind, steps)
        entries = [varied(entry) for entry in entries]
        every = instants(index, model)
        kept: dict[int | None, bytes] = {}
        for length in range(1, len(entries) + 1):
            snapshot = take_snapshot(History(entries[:length]), link)
            for instant in every:
                moment = snapshot.at(instant) if instant <= entries[length - 1].instant else None
                if moment:
                    assert kept.setdefault(moment.since, moment.json()) == moment.json()

    check()


# --- one by one


def file(number: int, **rest: object) -> File:
    digest = sha256(str(number).encode()).hexdigest()
    made = File(
        filename=f"p-1.{number}-py3-none-any.whl",
        url=f"https://files.example.org/{digest}/p-1.{number}-py3-none-any.whl",
        hashes={"sha256": digest},
        size=number,
        upload_time="2024-01-02T03:04:05Z",
    )
    return msgspec.structs.replace(made, **rest)


def seen(*pages: Page | None) -> History:
    """The history of pages that were observed at the instants 100, 200, ... of a later year."""
    history = History()
    for number, page in enumerate(pages, 1):
        entry = history.observe(Observation(2_000_000_000_000_000 + 100 * number, page), believed=True)
        history.extend(decode_entry(encode_entry(entry)))
    return history


def test_a_change_that_is_not_served_makes_no_row() -> None:
    """An index whose addresses are signed moves all of its files at each look."""
    pages = [Page("p", tuple(file(n, url=f"https://host/{look}/{n}") for n in range(5))) for look in range(20)]
    snapshot = take_snapshot(seen(*pages), link)
    assert len(snapshot.rows.files) == 5
    assert len(snapshot.breaks) == 2  # the birth of all, and the first look


def moved(number: int, look: int) -> File:
    return file(number, url=f"https://host/{look}/{number}")


DIGEST = "ab" * 32  # repeats itself, so its bytes are found at places between two keys, too
SAME = [file(number, hashes={"sha256": DIGEST}) for number in range(3)]  # one content under three names
NAMELESS = file(4, hashes={"md5": "cd" * 16})
LOOKALIKE = file(4, hashes={"sha256": token(NAMELESS).removeprefix("id-")})  # the digits of the token of the other
YANKED = msgspec.structs.replace(moved(1, 2), yanked=True)
SIGNED = msgspec.structs.replace(moved(1, 1), gpg_sig=True)
UNBORN = file(1, upload_time="2100-01-01T00:00:00Z")
LISTED: dict[str, tuple[list[list[File]], File]] = {
    "the only one": ([[file(1)]], file(1)),
    "the first of many": ([[file(n) for n in range(9)]], file(0)),
    "the last of many": ([[file(n) for n in range(9)]], file(8)),
    "one content under three names, the first": ([SAME], SAME[0]),
    "one content under three names, the second": ([SAME], SAME[1]),
    "one content under three names, the last": ([SAME], SAME[2]),
    "two contents under one name": ([[file(1), file(1, hashes={"sha256": DIGEST})]], file(1)),
    "no sha256": ([[NAMELESS, LOOKALIKE]], NAMELESS),
    "a sha256 like the token of another": ([[NAMELESS, LOOKALIKE]], LOOKALIKE),
    "no digest": ([[file(4, hashes={})]], file(4, hashes={})),
    "neither digest nor size": ([[file(4, hashes={}, size=None)]], file(4, hashes={}, size=None)),
    "no longer listed": ([[file(1), file(2)], [file(2)]], file(1)),
    "listed again, with another address": ([[moved(1, 1), file(2)], [file(2)], [moved(1, 3), file(2)]], moved(1, 3)),
    "yanked, with another address": ([[moved(1, 1)], [YANKED]], YANKED),
    "changed in what is not served": ([[SIGNED], [moved(1, 2)]], moved(1, 2)),
    "metadata that the registry has lost": ([[file(1, core_metadata=True)], [file(1, core_metadata=None)]], file(1)),
    "metadata that the registry has now": ([[file(1)], [file(1, core_metadata=True)]], file(1, core_metadata=True)),
    "born after it had gone": ([[UNBORN, file(2)], [file(2)]], UNBORN),
}  # fmt: skip


@pytest.mark.parametrize("which", LISTED)
def test_a_file_is_found_as_it_was_listed_last(which: str) -> None:
    looks, last = LISTED[which]
    snapshot = take_snapshot(seen(*(Page("p", tuple(files)) for files in looks)), link)
    found = snapshot.listing(token(last), last.filename)
    assert found is not None
    assert to_fetch(found) == to_fetch(last)


@pytest.mark.parametrize(
    "content", ["", "id-", "00", "zz" * 32, "AB" * 32, f"id-{DIGEST}", f"{DIGEST}00", f"id-id-{DIGEST}"]
)
def test_what_is_no_token_names_no_file(content: str) -> None:
    snapshot = take_snapshot(seen(Page("p", (*SAME, NAMELESS))), link)
    assert snapshot.listing(content, SAME[0].filename) is None


def test_a_form_is_what_it_was_when_its_format_got_its_number() -> None:
    """Forms on disks outlive programs: raise FORMAT with whatever changes one, and put the new digest here."""
    one, two = file(1), file(2, provenance="https://example.org/x", yanked="broken")
    pages = (
        Page("p", (one, two), ("1.1", "1.2"), 7, tracks=("https://example.org/p/",)),
        None,
        Page("p", (file(1, size=None), two), None, 9, ProjectStatus("archived", "old")),
    )
    form = StoredSnapshot("pypi/p", BASE, 3, b"last", take_snapshot(seen(*pages), link))
    digest = sha256(msgspec.msgpack.encode(form)).hexdigest()
    assert (FORMAT, digest[:16]) == (4, "fabe4e524d554be5")
