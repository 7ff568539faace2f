"""`httpcache import-history`: what was deleted before the mirror looked is there, and what was answered stays."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow.parquet import write_table

from httpcache.errors import MirrorError
from httpcache.store.layout import prepare
from httpcache.store.store import Store
from pypi_adapter.history.history import Entry, History, Observation
from pypi_adapter.history.project_log import ProjectLog, entries_log
from pypi_adapter.importing.importing import import_history
from pypi_adapter.importing.uploads import BadUpload, read_upload
from pypi_adapter.instants import read_instant, to_datetime
from pypi_adapter.simple.model import File, Page
from tests.support import http
from tests.support.command import run, told
from tests.support.engines import STORES
from tests.support.examples import examples
from tests.support.index import document, filenames, instant, shared_pypi
from tests.support.mirror import Mirror
from tests.support.packages import Dist, wheel
from tests.support.registries import PyPI, Release

AT = "2023-01-01 10:00:00.123456 UTC"
NOW = 1_800_000_000_000_000


def row(dist: Dist, at: str = AT, **more: object) -> dict[str, object]:
    """A row of the public dataset, with some of the columns that are not read."""
    release = Release(dist, at)
    return {
        "name": dist.name,
        "version": dist.version,
        "summary": 'A "summary",\nof two lines',
        "filename": dist.filename,
        "upload_time": at,
        "packagetype": "bdist_wheel",
        "python_version": "py3",
        "requires_python": dist.requires_python,
        "size": str(len(dist.data)),
        "sha256_digest": dist.sha256,
        "md5_digest": "0" * 32,
        "path": release.path.removeprefix("/packages/"),
        **more,
    }


def table(path: Path, *rows: Mapping[str, object]) -> Path:
    """A file with these rows, in the form that its name tells."""
    names = list(dict.fromkeys(name for each in rows for name in each))
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        typed = [{**each, "upload_time": _moment(each["upload_time"]), "size": int(str(each["size"]))} for each in rows]
        write_table(pyarrow.Table.from_pylist(typed), path)
    else:
        path.write_text("".join(f"{json.dumps(each)}\n" for each in rows))
    return path


def _moment(text: object) -> datetime:
    found = read_instant(str(text).replace(" UTC", "Z"))
    assert found is not None
    return to_datetime(found)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PyPI, Mirror]]:
    with shared_pypi(tmp_path_factory.mktemp("imported"), "--pypi-read-ahead", "off") as found:
        yield found


def import_table(place: tuple[PyPI, Mirror], path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command beside the server."""
    pypi, mirror = place
    where = ("--data", mirror.data, "--files", f"{pypi.files.url}/packages/")
    return run("import-history", path, *arguments, *where)


def deleted(pypi: PyPI, name: str, version: str) -> Dist:
    """A file that was deleted from the registry; its file host still has it."""
    dist = wheel(name, version, requires_python=">=3.8")
    pypi.files.pages[Release(dist, AT).path] = dist.data
    return dist


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_what_was_deleted_is_there_until_the_first_observation(
    ending: str, place: tuple[PyPI, Mirror], tmp_path: Path
) -> None:
    pypi, mirror = place
    name = f"lost{ending[1:]}"
    kept, lost = wheel(name, "2.0"), deleted(pypi, name, "1.0")
    pypi.upload(kept, "2023-02-01T00:00:00Z", yanked="broken")
    path = table(
        tmp_path / f"uploads{ending}", row(kept, "2023-02-01 00:00:00 UTC"), row(lost), row(wheel("other", "1"))
    )
    ran = import_table(place, path, name.upper())
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "imported 2 files of 1 projects; 0 had been imported before, 0 refused\n"
    assert import_table(place, path, name).stdout.startswith("imported 0 files of 0 projects; 1 had been imported")
    assert filenames(f"{mirror.at('2023-01-01')}{name}/") == []
    page = document(f"{mirror.at('2023-01-02')}{name}/")
    [file] = page["files"]
    assert (file["filename"], page["versions"], file["hashes"]) == (lost.filename, ["1.0"], {"sha256": lost.sha256})
    assert (file["requires-python"], file["size"]) == (">=3.8", len(lost.data))
    assert file["upload-time"] == "2023-01-01T10:00:00.123456Z"
    assert pypi.files.count(Release(lost, AT).path) == 0  # it is not rescued, but fetched when it is asked for
    assert http.get(mirror.same(file["url"])).content == lost.data
    assert http.get(f"{mirror.same(file['url'])}.metadata").content == lost.metadata
    both = document(f"{mirror.at('2023-03-01')}{name}/")["files"]
    assert [each["filename"] for each in both] == [lost.filename, kept.filename]
    assert both[1]["yanked"] == "broken"
    assert filenames(f"{mirror.at('live')}{name}/") == filenames(f"{mirror.at(instant())}{name}/") == [kept.filename]
    told = run("history", name, "--data", mirror.data).stdout
    assert "uploads imported: 2 files" in told
    assert f"{lost.filename}: gone" in told


def test_a_project_that_is_gone_altogether(place: tuple[PyPI, Mirror], tmp_path: Path) -> None:
    pypi, mirror = place
    lost = deleted(pypi, "gone", "1.0")
    assert import_table(place, table(tmp_path / "uploads.jsonl", row(lost))).returncode == 0
    assert http.get(f"{mirror.url}/-/projects/gone/").status_code == 404  # not observed yet
    assert filenames(f"{mirror.at('2023-01-02')}gone/") == [lost.filename]
    assert http.get(f"{mirror.url}/-/projects/gone/").status_code == 200
    assert filenames(f"{mirror.at('2022-01-02')}gone/") == filenames(f"{mirror.at(instant())}gone/") == []


def test_no_file_without_an_observation(place: tuple[PyPI, Mirror], tmp_path: Path) -> None:
    """Until the registry was asked, nobody knows what is withheld: so it is asked first."""
    pypi, mirror = place
    bad = deleted(pypi, "bad", "1.0")
    pypi.upload(wheel("bad", "2.0"), "2023-01-01T00:00:00Z")
    pypi.set_status("bad", "quarantined")
    assert import_table(place, table(tmp_path / "uploads.jsonl", row(bad))).returncode == 0
    address = f"{mirror.url}/files/bad/{bad.sha256}/{bad.filename}"
    assert http.get(address).status_code == 403
    assert filenames(f"{mirror.at('2023-01-02')}bad/") == []
    assert pypi.files.count(Release(bad, AT).path) == 0


def test_rules_withhold_what_was_imported(place: tuple[PyPI, Mirror], tmp_path: Path) -> None:
    pypi, mirror = place
    fine, bad = deleted(pypi, "ruled", "1.0"), deleted(pypi, "ruled", "2.0")
    assert import_table(place, table(tmp_path / "uploads.jsonl", row(fine), row(bad))).returncode == 0
    assert run("block", "ruled==2.0", "--reason", "malware", "--data", mirror.data).returncode == 0
    assert filenames(f"{mirror.at('2023-01-02')}ruled/") == [fine.filename]
    assert http.get(f"{mirror.url}/files/ruled/{bad.sha256}/{bad.filename}").status_code == 403


def test_bytes_that_the_file_host_does_not_have_any_more(place: tuple[PyPI, Mirror], tmp_path: Path) -> None:
    _, mirror = place
    lost = wheel("nowhere", "1.0")
    assert import_table(place, table(tmp_path / "uploads.jsonl", row(lost))).returncode == 0
    [file] = document(f"{mirror.at('2023-01-02')}nowhere/")["files"]
    assert http.get(mirror.same(file["url"])).status_code == 404


def test_what_was_answered_stands(place: tuple[PyPI, Mirror], tmp_path: Path) -> None:
    """The others of the table are imported."""
    pypi, mirror = place
    seen, unseen = deleted(pypi, "seen", "1.0"), deleted(pypi, "unseen", "1.0")
    pypi.upload(wheel("seen", "2.0"), "2023-01-01T00:00:00Z")
    before = {at: filenames(f"{mirror.at(at)}seen/") for at in ("2022-12-31", "2023-01-02", "2024-01-01")}
    absent = filenames(f"{mirror.at('2024-01-01')}absent/")
    rows = [row(each) for each in (seen, unseen, wheel("absent", "1.0"))]
    path = table(tmp_path / "uploads.jsonl", *rows)
    ran = import_table(place, path)
    assert ran.returncode == 1
    first, second, total = ran.stdout.splitlines()
    assert first.startswith("absent: refused: it was observed first at 20")
    assert second.startswith("seen: refused: it was observed first at 20")
    assert total == "imported 1 files of 1 projects; 0 had been imported before, 2 refused"
    assert before == {at: filenames(f"{mirror.at(at)}seen/") for at in before}
    assert filenames(f"{mirror.at('2024-01-01')}absent/") == absent == []
    assert filenames(f"{mirror.at('2023-01-02')}unseen/") == [unseen.filename]
    ran = import_table(place, path, "nothing", "seen", "--json")
    assert [json.loads(line).get("project") for line in ran.stdout.splitlines()] == ["nothing", "seen", None]
    other = table(tmp_path / "other.jsonl", row(wheel("unseen", "3.0")))
    assert "unseen: refused: other uploads of it were imported at" in import_table(place, other).stdout


# --- what is wrong with a table

GOOD = row(wheel("good", "1.0"))
WRONG: dict[str, tuple[dict[str, object], str]] = {
    "no name": ({"name": None}, "name is empty"),
    "a name of another type": ({"name": 7}, "name 7 is not a text"),
    "no project's name": ({"name": "a b"}, "name 'a b' is not the name of a project"),
    "no file name": ({"filename": ""}, "filename is empty"),
    "a path": ({"filename": "../a.whl"}, "filename '../a.whl' is not the name of a file"),
    "a control character": ({"filename": "a\n.whl"}, "is not the name of a file"),
    "no time": ({"upload_time": ""}, "upload_time is empty"),
    "a date": ({"upload_time": "2023-01-01"}, "upload_time '2023-01-01' is not a time"),
    "no time of day": ({"upload_time": "2023-01-01 25:00:00 UTC"}, "is not a time"),
    "the future": ({"upload_time": "2999-01-01 00:00:00 UTC"}, "is in the future"),
    "a short digest": ({"sha256_digest": "ab"}, "sha256_digest 'ab' is not a sha256"),
    "letters that are no digits": ({"sha256_digest": "x" * 64}, "is not a sha256"),
    "no digest": ({"sha256_digest": None}, "sha256_digest is empty"),
    "a negative size": ({"size": "-1"}, "size '-1' is not a number of bytes"),
    "a size with a fraction": ({"size": 1.5}, "size 1.5 is not a number of bytes"),
    "truth as a size": ({"size": True}, "size True is not a number"),
    "no address": ({"path": None}, "it has neither a path nor a url"),
    "a path that leads away": ({"path": "../../a.whl"}, "does not stay below"),
    "another scheme": ({"url": "file:///etc/passwd"}, "is not the address of a file"),
    "a login": ({"url": "http://user:secret@host/a.whl"}, "is not the address of a file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_row(case: str) -> None:
    change, wanted = WRONG[case]
    with pytest.raises(BadUpload) as caught:
        read_upload(GOOD | change, "http://files.test/packages/", NOW)
    assert wanted in str(caught.value)
    assert "secret" not in str(caught.value)


TIMES = [
    "2023-01-01 10:00:00.5 UTC",
    "2023-01-01T10:00:00.500000Z",
    "2023-01-01T12:00:00.5+02:00",
    "2023-01-01 10:00:00.5",
]


@pytest.mark.parametrize("at", TIMES)
def test_times(at: str) -> None:
    assert read_upload(GOOD | {"upload_time": at}, "http://h/", NOW).instant == read_instant("2023-01-01T10:00:00.5Z")


def test_addresses() -> None:
    read = partial(read_upload, base="http://h/packages/", now=NOW)
    assert read(GOOD | {"path": "a/b c+d#e?.whl"}).file.url == "http://h/packages/a/b%20c+d%23e%3F.whl"
    assert read(GOOD | {"url": "https://other/x.whl"}).file.url == "https://other/x.whl"
    with pytest.raises(BadUpload, match="--files"):
        read_upload(GOOD, "", NOW)


def text(*rows: Mapping[str, object]) -> bytes:
    return "".join(f"{json.dumps(each)}\n" for each in rows).encode()


HEAD = b"name,filename,upload_time,sha256_digest,url\n"
LINE = f"a,a-1.zip,2023-01-01 00:00:00 UTC,{'0' * 64},http://h/a\n".encode()
DAMAGED: dict[str, tuple[str, bytes, str]] = {
    "not JSON": ("t.jsonl", text(GOOD, GOOD) + b'{"name":\n', "line 3: it is not JSON"),
    "not an object": ("t.jsonl", text(GOOD) + b"[]\n", "line 2: it is not an object"),
    "cut off": ("t.jsonl", text(GOOD, GOOD)[:-9], "line 2: it is not JSON"),
    "a column is missing": ("t.jsonl", text(GOOD, {"name": "a"}), "line 2: it has no column filename"),
    "a wrong row after an empty line": (
        "t.ndjson",
        text(GOOD) + b"\n" + text(GOOD | {"size": "x"}),
        "line 3: size 'x'",
    ),
    "no such column": ("t.csv", HEAD.replace(b"sha256", b"sha") + LINE, "line 1: it has no column sha256_digest"),
    "an empty table": ("t.csv", b"", "line 1: it has no column name"),
    "too many fields": ("t.csv", HEAD + LINE + LINE.strip() + b",x\n", "line 3: it has more fields"),
    "too few fields": ("t.csv", HEAD + LINE + b"a,a-1.zip\n", "line 3: upload_time is empty"),
    "an open quote": ("t.csv", HEAD + LINE + b'"a', "line 3: it is not CSV"),
    "not UTF-8": ("t.csv", HEAD + LINE + b"\xff\xfe,\n", "it is not CSV in UTF-8"),
    "no Parquet": ("t.parquet", b"PAR1", "cannot be read as Parquet"),
    "another kind": ("t.xlsx", b"", "t.xlsx is not a table: its name must end in one of .jsonl"),
}


def given_for(path: Path, *projects: str) -> dict[str, Any]:
    return {"file": str(path), "projects": projects, "registry": None, "files": "http://files.test/packages"}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_table_changes_nothing(case: str, tmp_path: Path) -> None:
    name, body, wanted = DAMAGED[case]
    (tmp_path / name).write_bytes(body)

    async def check() -> None:
        prepare(tmp_path / "store")
        async with STORES["local"](tmp_path) as store:
            with pytest.raises(MirrorError, match=r".") as caught:
                await import_history(store, given_for(tmp_path / name))
            assert wanted in caught.value.text
            for project in ("good", "a"):
                assert await entries_log(store, "pypi", project).all() == []

    anyio.run(check)


def test_the_command_names_the_line(tmp_path: Path) -> None:
    prepare(tmp_path / "data")
    path = table(tmp_path / "t.jsonl", GOOD, GOOD | {"name": "\x1b[31m"})
    ran = run("import-history", path, "--data", tmp_path / "data", "--files", "http://h/")
    assert f"{path}, line 2: name '\\x1b[31m' is not the name of a project (PEP 508); nothing was changed" in told(ran)
    assert "cannot be read" in told(run("import-history", tmp_path / "none.csv", "--data", tmp_path / "data"))
    assert "--files" in told(run("import-history", path, "--data", tmp_path / "data", "--files", "ftp://h/"))
    login = ("--files", "http://user:secret@h/")
    assert "secret" not in told(run("import-history", path, "--data", tmp_path / "data", *login))


# --- random histories

PROJECTS = ["a", "b", "c"]
versions = st.lists(st.sampled_from(["1.0", "1.1", "2.0", "3.0"]), unique=True)


def a_file(project: str, version: str, day: int) -> File:
    filename = f"{project}-{version}.zip"
    digest = sha256(f"{filename} {day}".encode()).hexdigest()
    return File(filename, f"http://h/{filename}", {"sha256": digest}, upload_time=f"2023-01-{day:02}T00:00:00.000000Z")


def at_day(day: int) -> int:
    found = read_instant(f"2023-01-{day:02}T12:00:00Z")
    assert found is not None
    return found


worlds = st.fixed_dictionaries(
    {name: st.lists(st.none() | versions, max_size=3) for name in PROJECTS}  # the pages that were observed
)
tables = st.lists(st.tuples(st.sampled_from(PROJECTS), st.sampled_from(["1.0", "1.1", "9.0"]), st.integers(1, 9)))


@pytest.mark.parametrize("engine", STORES)
def test_nothing_of_what_was_answered_changes(engine: str, tmp_path: Path) -> None:
    """Of random histories, of which some have begun, and random tables: the second import changes nothing either."""

    async def check(world: Mapping[str, Sequence[Sequence[str] | None]], uploads: list[Any], number: int) -> None:
        registry = f"r{number}"
        async with STORES[engine](tmp_path) as store:
            for name, pages in world.items():
                await _observe(store, registry, name, pages, 10)
            before = {name: await _answers(store, registry, name) for name in PROJECTS}
            rows = [
                {
                    "name": name, "filename": file.filename, "upload_time": file.upload_time, "url": file.url,
                    "sha256_digest": file.hashes["sha256"],
                }
                for name, version, day in uploads
                for file in [a_file(name, version, day)]
            ]  # fmt: skip
            path = table(tmp_path / "random.jsonl", *rows)
            found = await import_history(store, given_for(path) | {"registry": registry})
            named = {name for name, _, _ in uploads}
            observed = {name for name, pages in world.items() if pages}
            assert {each.values["project"] for each in found if each.failed} == named & observed
            assert before == {name: await _answers(store, registry, name) for name in PROJECTS}
            for name in PROJECTS:
                await _observe(store, registry, name, [["1.0"]], 20)
            after = {name: await _answers(store, registry, name) for name in PROJECTS}
            for name, answers in before.items():
                assert {day: after[name][day] for day in answers} == answers
            for name in named - observed:
                latest = {version: day for _, version, day in sorted(uploads, key=lambda each: each[2]) if _ == name}
                there = {f"{name}-{version}.zip" for version in latest}
                assert set(after[name][19] or ()) == there | {f"{name}-1.0.zip"}

    number = iter(range(10_000))

    @settings(
        max_examples=examples(40 if engine == "local" else 4),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    @given(worlds, tables)
    def search(world: Mapping[str, Sequence[Sequence[str] | None]], uploads: list[Any]) -> None:
        anyio.run(check, world, uploads, next(number))

    prepare(tmp_path / "store")
    search()


async def _observe(store: Store, registry: str, name: str, pages: Sequence[Sequence[str] | None], begin: int) -> None:
    project_log = ProjectLog(store, registry, name)
    await project_log.read_log()
    for day, listed in enumerate(pages, begin):
        page = None if listed is None else Page(name, tuple(a_file(name, version, 1) for version in listed))
        await project_log.append(at_day(day), partial(_seen, observation=Observation(at_day(day), page)))


def _seen(history: History, observation: Observation) -> Entry:
    return history.observe(observation, believed=True)


async def _answers(store: Store, registry: str, name: str) -> dict[int, list[str] | None]:
    """What is answered for each day that can be answered."""
    history = History(await entries_log(store, registry, name).all())
    pages = {day: history.as_of(at_day(day)) for day in range(1, 25) if at_day(day) <= (history.instant or 0)}
    return {day: [file.filename for file in page.files] if page else None for day, page in pages.items()}
