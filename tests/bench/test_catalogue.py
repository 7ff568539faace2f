"""The generated catalogue of the benchmarks: its shape, its days of change, and what its server answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import urljoin, urlsplit

import httpx
import msgspec
import pytest
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

from benchmarks.catalogue import CORE_METADATA, DAY, FIRST_SERIAL, JSON, SECOND, START, Catalogue, Day, Running, State
from pypi_adapter.history.history import History, Observation, StaleObservation
from pypi_adapter.instants import read_instant
from pypi_adapter.simple.model import File, Page, ProjectList
from pypi_adapter.simple.parser import parse
from tests.support.mirror import Mirror

ORIGIN = "http://127.0.0.1:1"


def list_of(catalogue: Catalogue) -> dict[str, int]:
    """The serials in the list of projects by normalised name; checks that it is one for the parser too."""
    body = catalogue.project_list()
    document = msgspec.json.decode(body)
    parsed = parse(body, JSON, f"{ORIGIN}/simple/")
    assert isinstance(parsed, ProjectList)
    assert parsed.serial == document["meta"]["_last-serial"] == catalogue.serial
    assert list(parsed.names) == [project["name"] for project in document["projects"]]
    return {canonicalize_name(project["name"]): project["_last-serial"] for project in document["projects"]}


def page_of(catalogue: Catalogue, name: str, *, stale: bool = False) -> Page | None:
    state = catalogue.state(name, stale=stale)
    return None if state is None else read(catalogue.page(state, ORIGIN), name)


def read(body: bytes, name: str) -> Page:
    page = parse(body, JSON, f"{ORIGIN}/simple/{name}/")
    assert isinstance(page, Page)
    return page


def pages_of(catalogue: Catalogue) -> dict[str, Page]:
    return {name: page for name in list_of(catalogue) if (page := page_of(catalogue, name)) is not None}


def states(catalogue: Catalogue) -> Iterator[State]:
    return (state for name in list_of(catalogue) if (state := catalogue.state(name)) is not None)


def instant(file: File) -> int:
    found = read_instant(file.upload_time)
    assert found is not None
    return found


def version(filename: str) -> Version:
    parsed = parse_wheel_filename(filename)[1] if filename.endswith(".whl") else parse_sdist_filename(filename)[1]
    assert isinstance(parsed, Version)
    return parsed


# --- the shape


def test_all_follows_from_size_and_seed() -> None:
    one, same, other = Catalogue(200, 1), Catalogue(200, 1), Catalogue(200, 2)
    for day in range(3):
        assert one.project_list() == same.project_list() != other.project_list()
        assert pages_of(one) == pages_of(same)
        assert one.change(day, 50) == same.change(day, 50)
    assert one.change(1, 50).changed != same.change(2, 50).changed


def test_files_are_as_unevenly_spread_as_on_pypi() -> None:
    counts = sorted(len(list(state.slots())) for state in states(Catalogue(6000, 0)))
    median, ninety, ninety_nine = counts[3000], counts[5400], counts[5940]
    assert counts[0] == 0
    assert 4 <= median <= 5
    assert 35 <= ninety <= 45
    assert 220 <= ninety_nine <= 400
    assert counts[-1] > 1000


def test_the_list_is_ordered_by_normalised_name_and_spelled_by_the_owners() -> None:
    catalogue = Catalogue(2000, 0)
    names = list(list_of(catalogue))
    assert len(names) == 2000
    assert names == sorted(set(names))
    assert all(3 <= len(name) <= 40 for name in names)
    spelled = [project["name"] for project in msgspec.json.decode(catalogue.project_list())["projects"]]
    assert 1000 < sum(one == other for one, other in zip(names, spelled, strict=True)) < 2000


def test_pages_are_what_pypis_are() -> None:
    files: list[File] = []
    for name, page in pages_of(Catalogue(300, 3)).items():
        assert page.name == name
        assert page.versions is not None
        assert list(page.versions) == sorted(page.versions, key=Version)
        assert list(dict.fromkeys(version(file.filename) for file in page.files)) == list(map(Version, page.versions))
        assert len({file.filename for file in page.files}) == len(page.files)
        assert all(canonicalize_name(file.filename[: len(name)]) == name for file in page.files)
        files += page.files
    assert all(START - 15 * 366 * DAY < instant(file) < START for file in files)
    assert min(map(instant, files)) < START - 8 * 365 * DAY
    assert len({file.hashes["sha256"] for file in files}) == len({file.url for file in files}) == len(files)
    for file in files:
        announced = isinstance(file.core_metadata, dict)
        assert announced is (file.filename.endswith(".whl") and instant(file) >= CORE_METADATA)
    wheels, yanked, asking = (
        sum(map(has, files)) / len(files)
        for has in (
            lambda file: file.filename.endswith(".whl"),
            lambda file: bool(file.yanked),
            lambda file: file.requires_python is not None,
        )
    )
    assert 0.3 < wheels < 0.9
    assert 0 < yanked < 0.03
    assert 0.3 < asking < 0.95


# --- a day of change


def test_what_does_not_change_keeps_its_serial_and_its_page() -> None:
    catalogue = Catalogue(500, 0)
    assert catalogue.serial == FIRST_SERIAL >= max(list_of(catalogue).values())
    for seed in range(3):
        serials, pages, before = list_of(catalogue), pages_of(catalogue), catalogue.serial
        day = catalogue.change(seed, 150)
        assert (day.now, day.serial) == (catalogue.now, catalogue.serial) == (START + (seed + 1) * DAY, before + 150)
        changed = [name for names in day.changed.values() for name in names]
        assert len(changed) == len(set(changed)) == 150
        serials_after, pages_after = list_of(catalogue), pages_of(catalogue)
        for name in serials.keys() - set(changed):
            assert serials_after[name] == serials[name]
            assert pages_after[name] == pages[name]
        newer = [serials_after[name] for name in changed if name in serials_after]
        assert len(newer) == len(set(newer))
        assert all(before < serial <= catalogue.serial for serial in newer)
        assert all(page.serial == serials_after[name] for name, page in pages_after.items())
        assert serials_after.keys() - serials.keys() == set(day.changed["new"] + day.changed["restore"])
        assert serials.keys() - serials_after.keys() == set(day.changed["delete project"] + day.changed["quarantine"])


def test_each_kind_of_change_does_what_it_says() -> None:
    catalogue = Catalogue(3000, 0)
    seen: set[str] = set()
    deleted: dict[str, Page | None] = {}
    for seed in range(4):
        begin = catalogue.now
        day = catalogue.change(seed, 1000)
        for kind, names in day.changed.items():
            for name in names[:50]:
                before = deleted[name] if kind == "restore" else page_of(catalogue, name, stale=True)
                check(kind, before, page_of(catalogue, name), begin)
                seen.add(kind)
                if kind == "delete project":
                    deleted[name] = before
        assert len(day.changed["upload"]) > 700
    assert seen == set(day.changed)


def check(kind: str, before: Page | None, after: Page | None, begin: int) -> None:
    """Check one change of a project."""
    if kind == "delete project":
        assert after is None
        return
    assert after is not None
    if kind == "new":
        assert before is None
    old = {file.filename: file for file in before.files} if before else {}
    new = {file.filename: file for file in after.files}
    came, went = new.keys() - old.keys(), old.keys() - new.keys()
    turned = {name for name in new.keys() & old.keys() if bool(new[name].yanked) != bool(old[name].yanked)}
    match kind:
        case "upload" | "new":
            assert came
            assert not went
            assert all(begin < instant(new[name]) < begin + DAY for name in came)
        case "yank" | "unyank":
            assert turned
            assert not came | went
            assert len({version(name) for name in turned}) == 1
            assert all(bool(new[name].yanked) is (kind == "yank") for name in turned)
        case "delete file":
            assert len(went) == 1
        case "delete release":
            assert len({version(name) for name in went}) == 1
        case "restore":
            assert old == new
        case "quarantine":
            assert not after.files
            assert after.status is not None
            assert after.status.status == "quarantined"
        case _:
            raise AssertionError(kind)


def test_more_changes_than_projects_are_new_projects() -> None:
    catalogue = Catalogue(0, 0)
    assert list_of(catalogue) == {}
    assert set(catalogue.change(0, 5).changed["new"]) == list_of(catalogue).keys()
    assert len(catalogue.change(0, 20).changed["new"]) >= 15


def test_the_dated_index_takes_the_days_in_and_gives_them_back() -> None:
    catalogue = Catalogue(200, 5)
    histories: dict[str, History] = {}
    kept: dict[int, dict[str, set[str] | None]] = {}
    for seed in range(4):
        for name in [*pages_of(catalogue), *histories]:
            history = histories.setdefault(name, History())
            if history.instant != catalogue.now:
                history.extend(history.observe(Observation(catalogue.now, page_of(catalogue, name)), believed=True))
        kept[catalogue.now] = {name: filenames(page_of(catalogue, name)) for name in histories}
        catalogue.change(seed, 80)
    for observed, expected in kept.items():
        for name, names in expected.items():
            assert filenames(histories[name].as_of(observed)) == names


def filenames(page: Page | None) -> set[str] | None:
    return None if page is None else {file.filename for file in page.files}


# --- the server


@pytest.fixture
def running() -> Iterator[Running]:
    with Running(300, seed=7) as started:
        yield started


@pytest.fixture
def twin() -> Catalogue:
    """The catalogue that `running` serves."""
    return Catalogue(300, 7)


@pytest.fixture
def client(running: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, trust_env=False) as started:
        yield started


def origin_of(running: Running) -> str:
    return running.url.removesuffix("/simple/")


def first(day: Day, kind: str) -> str:
    return day.changed[kind][0]


def test_it_serves_the_catalogue_uncompressed(running: Running, client: httpx.Client, twin: Catalogue) -> None:
    answer = client.get("", headers={"Accept-Encoding": "gzip"})
    assert answer.content == twin.project_list()
    assert answer.headers["content-type"] == JSON
    assert answer.headers["x-pypi-last-serial"] == str(FIRST_SERIAL)
    assert "content-encoding" not in answer.headers
    origin = origin_of(running)
    for name in itertools.islice(list_of(twin), 20):
        state = twin.state(name)
        assert state is not None
        answer = client.get(f"{name}/", headers={"Accept-Encoding": "gzip"})
        assert answer.content == twin.page(state, origin)
        assert answer.headers["x-pypi-last-serial"] == str(state.serial)
        assert "content-encoding" not in answer.headers
    assert client.get("no-such-project/").status_code == 404
    moved = client.get(f"{name.upper()}")
    assert (moved.status_code, moved.headers["location"]) == (301, f"/simple/{name}/")
    assert client.post(f"{name}/").status_code == 405
    assert running.counts() == {"list": 1, "page": 20, "page 404": 1, "page 301": 1, "page 405": 1}


def test_what_the_client_has_is_not_sent_again_until_it_changes(running: Running, client: httpx.Client) -> None:
    day = running.change(50, seed=1)
    changing = first(running.change(100, seed=2), "upload")
    assert day.serial == FIRST_SERIAL + 50
    for path in ("", f"{changing}/"):
        tag = client.get(path).headers["etag"]
        again = client.get(path, headers={"If-None-Match": f'"0", W/{tag}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert client.get(path, headers={"If-None-Match": '"0"'}).status_code == 200
    for seed in itertools.count(3):
        if changing in running.change(200, seed).changed["upload"]:
            break
    for path in ("", f"{changing}/"):
        assert client.get(path, headers={"If-None-Match": tag}).status_code == 200
    assert running.counts() == {"list": 3, "page": 3, "list 304": 1, "page 304": 1}


def test_files_are_as_announced_and_gone_when_deleted(running: Running, client: httpx.Client) -> None:
    names = itertools.islice(list_of(Catalogue(300, 7)), 60)
    listed = {name: read(client.get(f"{name}/").content, name) for name in names}
    files = {name: file for name, page in listed.items() for file in page.files[-3:]}
    for file in files.values():
        body = client.get(file.url).content
        assert (len(body), sha256(body).hexdigest()) == (file.size, file.hashes["sha256"])
        metadata = client.get(file.url + ".metadata")
        if isinstance(file.core_metadata, dict):
            assert sha256(metadata.content).hexdigest() == file.core_metadata["sha256"]
        else:
            assert metadata.status_code == 404
    assert any(file.core_metadata for file in files.values())
    elsewhere = next(iter(files.values())).url.replace("/files/", "/files/x")
    assert client.get(elsewhere).status_code == 404
    assert client.get(origin_of(running) + "/files/").status_code == 404
    gone = set()
    for seed in range(100):
        gone = set(running.change(100, seed).changed["delete project"]) & files.keys()
        if gone:
            break
    for name in gone:
        assert client.get(f"{name}/").status_code == client.get(files[name].url).status_code == 404
    assert gone


@pytest.mark.parametrize("status", [429, 503])
def test_it_can_ask_to_come_back_later(running: Running, client: httpx.Client, twin: Catalogue, status: int) -> None:
    name, other = itertools.islice(list_of(twin), 2)
    running.fault(str(status), 2)
    answers = [client.get(f"{name}/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [status, status, 200]
    assert answers[0].headers["retry-after"] == "1"
    running.fault(str(status), 1, project=name)
    assert [client.get(path).status_code for path in ("", f"{other}/", f"{name}/")] == [200, 200, status]
    assert running.counts() == {"page": 2, "list": 1, f"page {status}": 3}


def test_a_stale_page_is_that_before_the_last_change(running: Running, client: httpx.Client, twin: Catalogue) -> None:
    day = running.change(100, seed=1)
    changed = set(itertools.chain(*day.changed.values()))
    untouched = next(name for name in list_of(twin) if name not in changed)
    origin = origin_of(running)
    running.fault("stale", 1, project=first(day, "new"))
    assert client.get(f"{first(day, 'new')}/").status_code == 404
    for name in (first(day, "upload"), untouched):
        fresh = client.get(f"{name}/")
        history = History()
        history.extend(history.observe(Observation(day.now, read(fresh.content, name))))
        running.fault("stale", 1, project=name)
        stale = client.get(f"{name}/")
        assert int(stale.headers["x-pypi-last-serial"]) < int(fresh.headers["x-pypi-last-serial"])
        state = twin.state(name, stale=name == untouched)
        assert state is not None
        assert stale.content == twin.page(state, origin)
        with pytest.raises(StaleObservation):
            history.observe(Observation(day.now + 1, read(stale.content, name)))
        assert client.get(f"{name}/").content == fresh.content
    assert running.counts() == {"page": 4, "page stale": 2, "page stale 404": 1}


def test_a_control_request_that_is_wrong_is_refused(running: Running, client: httpx.Client) -> None:
    with pytest.raises(httpx.HTTPStatusError):
        running.fault("earthquake", 1)
    wrong = [("POST", "count=many&seed=1"), ("POST", "count=1"), ("GET", "count=1&seed=1")]
    for method, query in wrong:
        assert client.request(method, f"{origin_of(running)}/-/change?{query}").status_code == 400
    assert running.change(1, seed=1).serial == FIRST_SERIAL + 1


def test_its_addresses_are_its_own(running: Running, client: httpx.Client, twin: Catalogue) -> None:
    name = next(name for name, page in pages_of(twin).items() if page.files)
    address = urlsplit(running.url)
    assert address.hostname == "127.0.0.1"
    assert urlsplit(read(client.get(f"{name}/").content, name).files[0].url).netloc == address.netloc


def test_the_mirror_copies_it(mirror: Callable[..., Mirror], running: Running, twin: Catalogue) -> None:
    name, page = next((name, page) for name, page in pages_of(twin).items() if len(page.files) > 5)
    times = sorted(map(instant, page.files))
    url = mirror(pypi_upstream=running.url).url
    for at in (times[2], times[-1], START):
        date = datetime.fromtimestamp(at // DAY * DAY // SECOND, UTC)
        answer = httpx.get(f"{url}/{date:%Y-%m-%d}/{name}/", headers={"Accept": JSON}, trust_env=False)
        expected = {file.filename for file in page.files if instant(file) < at // DAY * DAY}
        assert answer.status_code == (200 if expected else 404)
        files = msgspec.json.decode(answer.content)["files"] if expected else []
        assert {file["filename"] for file in files} == expected
    assert len(files) == len(page.files)
    copy = httpx.get(urljoin(url, files[0]["url"]), trust_env=False)
    assert sha256(copy.content).hexdigest() == files[0]["hashes"]["sha256"]
