"""Advisories in OSV format: which count, what they block, and archives that are damaged or hostile."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.version import Version

from httpcache.errors import MirrorError
from pypi_adapter.policy.osv import read_advisories
from pypi_adapter.policy.rules import Rule, Rules
from tests.support.examples import examples

FIRST = [{"introduced": "0"}]


def ranges(*events: Mapping[str, str], kind: str = "ECOSYSTEM") -> list[dict[str, Any]]:
    return [{"type": kind, "events": list(events)}]


def affected(name: str = "evil", ecosystem: str = "PyPI", **rest: object) -> dict[str, Any]:
    return {"package": {"ecosystem": ecosystem, "name": name, "purl": f"pkg:pypi/{name}"}, **rest}


def advisory(*parts: Mapping[str, Any], **rest: object) -> dict[str, Any]:
    """An advisory as the databases write them, with all the fields that say nothing here."""
    return {
        "schema_version": "1.7.4",
        "id": "MAL-2024-1234",
        "modified": "2024-10-24T01:01:57Z",
        "published": "2024-06-25T13:32:02Z",
        "summary": "Malicious code in evil (PyPI)",
        "details": "\n---\n_-= Per source details =-_\n\n## Source: scanner\n\nIt sends the environment away: ünï\n",
        "affected": list(parts),
        "references": [{"type": "ARTICLE", "url": "https://blog.example.org/evil"}],
        "credits": [{"name": "A Scanner", "type": "FINDER", "contact": ["https://scanner.example.org"]}],
        "database_specific": {
            "malicious-packages-origins": [
                {"source": "scanner", "sha256": "f5" * 32, "versions": ["4.96"], "ranges": ranges(*FIRST)}
            ]
        },
    } | rest


def written(folder: Path, *documents: object) -> Path:
    for number, document in enumerate(documents):
        file = folder / "osv" / str(number) / f"{number}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    return folder / "osv"


def blocked(folder: Path, *documents: object) -> list[tuple[str | None, str | None]]:
    return [(rule.project, rule.versions) for rule in read_advisories(written(folder, *documents))]


# --- which count


def test_a_rule_says_who_and_why(tmp_path: Path) -> None:
    assert list(read_advisories(written(tmp_path, advisory(affected("Evil_Thing", versions=["1.0"]))))) == [
        Rule("evil-thing", "==1.0", None, "Malicious code in evil (PyPI)", "MAL-2024-1234")
    ]


@pytest.mark.parametrize(
    ("summary", "reason"),
    [
        (None, "named by MAL-2024-1234"),
        (" \n", "named by MAL-2024-1234"),
        ("two\r\nlines \x1b[31m\u202e", "two lines [31m"),
        ("x" * 1000, "x" * 300),
    ],
)
def test_a_reason_is_one_line(summary: str | None, reason: str, tmp_path: Path) -> None:
    assert [r.reason for r in read_advisories(written(tmp_path, advisory(affected(), summary=summary)))] == [reason]


@pytest.mark.parametrize(
    ("rest", "prefixes", "sources"),
    [
        ({}, ("MAL-",), ["MAL-2024-1234"]),
        ({}, ("PYSEC-",), []),
        ({}, (), []),
        ({"id": "PYSEC-2024-1"}, ("MAL-",), []),
        ({"id": "PYSEC-2024-1"}, ("MAL-", "PYSEC-"), ["PYSEC-2024-1"]),
        ({"id": "GHSA-1", "aliases": ["CVE-1", "MAL-2024-5"]}, ("MAL-",), ["MAL-2024-5"]),
        ({"aliases": None, "withdrawn": None}, ("MAL-",), ["MAL-2024-1234"]),
        ({"withdrawn": "2024-11-01T00:00:00Z"}, ("MAL-",), []),
        ({"id": "GHSA-1", "related": ["MAL-2024-5"]}, ("MAL-",), []),
        ({"affected": None}, ("MAL-",), []),
    ],
)
def test_which_advisories_count(
    rest: dict[str, object], prefixes: tuple[str, ...], sources: list[str], tmp_path: Path
) -> None:
    document = advisory(affected(), **rest)
    assert [rule.source for rule in read_advisories(written(tmp_path, document), prefixes)] == sources


def test_which_packages_count(tmp_path: Path) -> None:
    parts = [
        affected("a"),
        affected("b", ecosystem="PyPI:https://index.example.org"),
        affected("c", ecosystem="npm"),
        affected("d", ecosystem="Root:PyPI"),
        affected("e", ecosystem="PyPIx"),
        {"ranges": ranges(*FIRST, kind="GIT")},
    ]
    assert blocked(tmp_path, advisory(*parts)) == [("a", None), ("b", None)]


# --- what they block


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ({}, [None]),
        ({"versions": [], "ranges": []}, [None]),
        ({"versions": None, "ranges": None}, [None]),
        ({"versions": ["1.0", "1.0.0rc1", "v2"]}, ["==1.0", "==1.0.0rc1", "==2"]),
        ({"versions": ["1.0", "1.0"]}, ["==1.0"]),
        ({"versions": ["1.0+cu", "2004-final"]}, ["==1.0+cu", "===2004-final"]),
        ({"ranges": ranges(*FIRST)}, [None]),
        ({"versions": ["1.0"], "ranges": ranges(*FIRST)}, [None]),
        ({"ranges": ranges(*FIRST, kind="SEMVER")}, [None]),
        ({"ranges": ranges(*FIRST, kind="GIT")}, [None]),
        ({"versions": ["1.0"], "ranges": ranges({"introduced": "0"}, {"fixed": "deadbeef"}, kind="GIT")}, ["==1.0"]),
        ({"ranges": ranges({"introduced": "1.2"})}, [">=1.2"]),
        ({"ranges": ranges({"introduced": "0"}, {"fixed": "1.2"})}, ["<=1.2,!=1.2"]),
        ({"ranges": ranges({"introduced": "0"}, {"last_affected": "1.2"})}, ["<=1.2"]),
        ({"ranges": ranges({"introduced": "1"}, {"fixed": "1.2"}), "versions": ["3"]}, [">=1,<=1.2,!=1.2", "==3"]),
        (
            {"ranges": ranges({"introduced": "1"}, {"fixed": "1.2"}, {"introduced": "3"}, {"fixed": "3.1"})},
            [">=1,<=1.2,!=1.2", ">=3,<=3.1,!=3.1"],
        ),
        (
            {"ranges": ranges({"introduced": "1"}, {"fixed": "2"}) + ranges({"introduced": "5"})},
            [">=1,<=2,!=2", ">=5"],
        ),
        ({"ranges": ranges({"fixed": "2"}, {"introduced": "1"})}, [">=1,<=2,!=2"]),
        ({"ranges": ranges({"introduced": "0"}, {"limit": "2"})}, ["<=2,!=2"]),
        ({"ranges": ranges({"introduced": "0"}, {"limit": "2"}, {"limit": "3"})}, ["<=3,!=3"]),
        ({"ranges": ranges({"introduced": "0"}, {"limit": "2"}, {"limit": "*"})}, [None]),
        ({"ranges": ranges({"introduced": "1+a"}, {"fixed": "1.2+b"})}, [">=1,<=1.2"]),
    ],
)
def test_what_is_blocked(rest: dict[str, Any], expected: list[str | None], tmp_path: Path) -> None:
    assert blocked(tmp_path, advisory(affected(**rest))) == [("evil", versions) for versions in expected]


VERSIONS = [
    "0.dev0", "0", "0.9", "1.0.dev1", "1.0a1", "1.0rc1", "1.0", "1.0.post1.dev0", "1.0.post1", "1.0.1", "1.1",
    "2.0rc1", "2.0", "10", "1!0.5",
]  # fmt: skip
LOCAL = ["1.0+cu", "1.0+cu.2", "1.0.post1+z", "2.0+1"]


def is_vulnerable(version: str, part: Mapping[str, Any]) -> bool:
    """The schema's section "Evaluation", line by line."""
    v = Version(version)
    if any(v == Version(each) for each in part["versions"]):
        return True
    for each in part["ranges"]:
        limits = [event["limit"] for event in each["events"] if "limit" in event]
        if limits and not any(limit == "*" or v < Version(limit) for limit in limits):
            continue
        vulnerable = False
        events = [(kind, text) for event in each["events"] for kind, text in event.items() if kind != "limit"]
        for kind, text in sorted(events, key=lambda event: (event != ("introduced", "0"), Version(event[1]))):
            if kind == "introduced" and (text == "0" or v >= Version(text)):
                vulnerable = True
            elif (kind == "fixed" and v >= Version(text)) or (kind == "last_affected" and v > Version(text)):
                vulnerable = False
        if vulnerable:
            return True
    return False


@st.composite
def parts(draw: st.DrawFn, versions: list[str]) -> dict[str, Any]:
    """Something affected: `fixed` or `last_affected` in a range, never both, in any order."""
    some = st.sampled_from(versions)
    found = []
    for _ in range(draw(st.integers(0, 2))):
        closing = draw(st.sampled_from(["fixed", "last_affected"]))
        events = [{"introduced": text} for text in draw(st.lists(some, min_size=1, max_size=3))]
        events += [{closing: text} for text in draw(st.lists(some, max_size=3))]
        events += [{"limit": text} for text in draw(st.lists(some | st.just("*"), max_size=2))]
        found += ranges(*draw(st.permutations(events)))
    listed = draw(st.lists(some, min_size=0 if found else 1, max_size=3))
    return affected(versions=listed, ranges=found)


def rules_of(folder: Path, part: Mapping[str, Any]) -> Rules:
    return Rules(read_advisories(written(folder, advisory(part))), [])


many = settings(max_examples=examples(400), suppress_health_check=[HealthCheck.function_scoped_fixture])


@many
@given(part=parts(VERSIONS))
def test_what_the_schema_calls_affected_is_blocked_and_nothing_else(part: dict[str, Any], tmp_path: Path) -> None:
    both = rules_of(tmp_path, part)
    assert {v for v in VERSIONS if both.file("evil", v, None)} == {v for v in VERSIONS if is_vulnerable(v, part)}


@many
@given(part=parts(VERSIONS + LOCAL))
def test_with_local_versions_rather_more_is_blocked(part: dict[str, Any], tmp_path: Path) -> None:
    both = rules_of(tmp_path, part)
    assert {v for v in VERSIONS + LOCAL if is_vulnerable(v, part)} <= {
        v for v in VERSIONS + LOCAL if both.file("evil", v, None)
    }


# --- folders and archives

NAMED = {
    "README.md": b"no advisory",
    "osv/evil/MAL-2024-1.json": json.dumps(advisory(affected("one"), id="MAL-2024-1")).encode(),
    "osv/evil/MAL-2024-2.json": json.dumps(advisory(affected("two", versions=["1", "2"]), id="MAL-2024-2")).encode(),
    "osv/npm/MAL-2024-3.json": json.dumps(advisory(affected("x", "npm"), id="MAL-2024-3")).encode(),
    "three.json": json.dumps(advisory(affected("three"), id="MAL-2024-4")).encode(),
}
EXPECTED = {("one", None), ("two", "==1"), ("two", "==2"), ("three", None)}


def folder_of(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (path / "f" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "f" / name).write_bytes(data)
    (path / "f" / "folder.json").mkdir()
    return path / "f"


def zip_of(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path / "all.zip", "w", method) as archive:
        archive.mkdir("folder.json")
        for name, data in files.items():
            archive.writestr(name, data)
    return path / "all.zip"


def tar_of(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path / "all.tar.gz", "w:gz") as archive:
        folder = tarfile.TarInfo("folder.json")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path / "all.tar.gz"


Maker = Callable[[Path, Mapping[str, bytes]], Path]
makers = pytest.mark.parametrize("make", [folder_of, zip_of, tar_of])


@makers
def test_forms(make: Maker, tmp_path: Path) -> None:
    assert {(rule.project, rule.versions) for rule in read_advisories(make(tmp_path, NAMED))} == EXPECTED


@makers
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"id": "MAL-1"',
        b'{"id": 1}',
        b'{"modified": "2024-10-24T01:01:57Z"}',
        b'{"id": "MAL-1", "affected": [{"package": {"name": "p"}}]}',
        b'{"id": "MAL-\xff1", "affected": []}',
        b'{"id": "MAL-1", "details": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        json.dumps(advisory(affected(ranges=ranges({"fixed": "1"})))).encode(),
        json.dumps(advisory(affected(ranges=ranges()))).encode(),
        json.dumps(advisory(affected(ranges=ranges({"introduced": "0", "fixed": "1"})))).encode(),
        json.dumps(advisory(affected(ranges=ranges({"introduced": "0"}, {"other": "1"})))).encode(),
        json.dumps(advisory(affected(ranges=ranges({"introduced": "one"})))).encode(),
        json.dumps(advisory(affected(ranges=ranges({"introduced": "0"}, {"fixed": "1" * 5000})))).encode(),
        json.dumps(advisory(affected(ranges=ranges({"introduced": "0"}, {"limit": "x"})))).encode(),
        json.dumps(advisory(affected(versions=["no version"]))).encode(),
        json.dumps(advisory(affected(versions="1.0"))).encode(),
        json.dumps(advisory(affected())).encode() + b" " * 10_000_000,
    ],
)
def test_what_is_no_advisory_is_named(make: Maker, data: bytes, tmp_path: Path) -> None:
    path = make(tmp_path, {"osv/fine.json": NAMED["three.json"], "osv/wrong.json": data})
    with pytest.raises(MirrorError) as caught:
        list(read_advisories(path))
    assert caught.value.text.startswith(str(path))
    assert "osv/wrong.json" in caught.value.text


@makers
def test_advisories_may_be_large(make: Maker, tmp_path: Path) -> None:
    """The bound is for each, not for all together."""
    data = {name: json.dumps(advisory(affected(name))).encode() for name in ("one", "two")}
    path = make(tmp_path, {f"{name}.json": each + b" " * (10_000_000 - len(each)) for name, each in data.items()})
    assert {rule.project for rule in read_advisories(path)} == {"one", "two"}


@makers
def test_nothing_to_read_is_an_error(make: Maker, tmp_path: Path) -> None:
    with pytest.raises(MirrorError, match=r"contains no \.json file"):
        list(read_advisories(make(tmp_path, {"README.md": b""})))


@pytest.mark.parametrize("name", ["missing", "missing.zip", "missing.tar.gz", "file.json"])
def test_what_is_no_archive(name: str, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_bytes(NAMED["three.json"])
    with pytest.raises(MirrorError, match=name):
        list(read_advisories(tmp_path / name))


def test_links_in_a_tar_are_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "all.tgz", "w:gz") as archive:
        link = tarfile.TarInfo("link.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    with pytest.raises(MirrorError, match=r"link\.json is a link"):
        list(read_advisories(tmp_path / "all.tgz"))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_is_packed_with_deflate(method: int, tmp_path: Path) -> None:
    with pytest.raises(MirrorError, match="use deflate"):
        list(read_advisories(zip_of(tmp_path, NAMED, method)))


# --- damage


@given(cut=st.integers(0, 10_000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_a_cut_archive_is_never_taken_for_whole(make: Maker, cut: int, tmp_path: Path) -> None:
    path = make(tmp_path, NAMED)
    data = path.read_bytes()
    path.write_bytes(data[: cut % len(data)])
    with pytest.raises(MirrorError, match="all"):
        list(read_advisories(path))


@given(place=st.integers(0, 10_000), flip=st.integers(1, 255))
@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_a_changed_byte_is_an_error_or_changes_nothing(make: Maker, place: int, flip: int, tmp_path: Path) -> None:
    """In a zip the names have no sum: one can turn into something that is no .json."""
    path = make(tmp_path, NAMED)
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= flip
    path.write_bytes(data)
    try:
        found = {(rule.project, rule.versions) for rule in read_advisories(path)}
    except MirrorError:
        return
    assert found == EXPECTED if make is tar_of else found <= EXPECTED


@pytest.mark.parametrize("at", range(6))
def test_a_damaged_header_in_a_tar_is_not_its_end(at: int, tmp_path: Path) -> None:
    path = tar_of(tmp_path, NAMED)
    with tarfile.open(path) as archive:
        offset = archive.getmembers()[at].offset
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[offset] ^= 1
    path.write_bytes(gzip.compress(data))
    with pytest.raises(MirrorError, match=r"header|bad checksum"):
        list(read_advisories(path))


# --- bombs


def zip_bomb(path: Path) -> Path:
    """An entry of 300 MB."""
    with zipfile.ZipFile(path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("b.json", "w") as entry:
        for _ in range(300):
            entry.write(bytes(1_000_000))
    return path / "all.zip"


def tar_with(path: Path, kind: bytes, name: str, size: int = 300_000_000) -> Path:
    """An entry of so many bytes, or a header in front of an entry."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    with gzip.open(path / "all.tar.gz", "wb", compresslevel=1) as packed:
        packed.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(size // 1_000_000):
            packed.write(b"1\n" * 500_000)
        packed.write(bytes(10_240))
    return path / "all.tar.gz"


@pytest.mark.parametrize(
    "bomb",
    [
        zip_bomb,
        lambda path: tar_with(path, tarfile.REGTYPE, "b.json"),
        lambda path: tar_with(path, tarfile.GNUTYPE_LONGNAME, "././@LongLink"),
        lambda path: tar_with(path, tarfile.XHDTYPE, "./PaxHeaders/b.json"),
    ],
    ids=["zip", "tar", "long name", "pax header"],
)
def test_bombs(bomb: Callable[[Path], Path], tmp_path: Path) -> None:
    path = bomb(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(MirrorError, match="more than 10 MB"):
            list(read_advisories(path))
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


def test_what_is_no_advisory_may_be_large_in_a_tar(tmp_path: Path) -> None:
    path = tar_with(tmp_path, tarfile.REGTYPE, "b.bin", 30_000_000)
    with pytest.raises(MirrorError, match=r"contains no \.json file"):
        list(read_advisories(path))
