"""`httpcache export` and `import`: another mirror answers as the first one did, with no upstream at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from httpcache.archive import layout
from httpcache.store import keys
from httpcache.store.local import LocalStore
from tests.support import http
from tests.support.command import run, told
from tests.support.index import PIP, ask
from tests.support.inside import checked_records
from tests.support.mirror import COMMAND, Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.upstream import Upstream

BIG = bytes(range(256)) * 100
PIN = "a-2024-01-02"


@pytest.fixture
def source(upstream: Upstream, pypi: PyPI, mirror: Callable[..., Mirror]) -> Mirror:
    """A mirror that has frozen some files and observed a project."""
    upstream.pages |= {"/small": b"small", "/big": BIG, "/empty": b""}
    pypi.upload(wheel("demo", "1.0", padding=30_000), "2023-06-01T00:00:00Z")
    pypi.upload(wheel("demo", "2.0"), "2023-08-01T00:00:00Z")
    running = mirror(pypi)
    for name in ("small", "big", "empty"):
        http.get(running.pin(PIN, f"{upstream.url}/{name}"))
    return running


def page(running: Mirror, date: str) -> Any:
    got = ask(f"{running.at(date)}demo/", PIP)
    assert got.status_code == 200, got.text
    return got.json()


def fetched(running: Mirror, date: str) -> list[bytes]:
    """The files on a dated page."""
    found = [http.get(running.same(file["url"])) for file in page(running, date)["files"]]
    assert all(got.status_code == 200 for got in found)
    return [got.content for got in found]


@contextmanager
def offline(folder: Path, running: Mirror, data: Path) -> Iterator[Mirror]:
    """A mirror of a data folder, of the same registry, that asks nobody."""
    other = Mirror(folder / "offline", running.pypi_upstream)
    shutil.copytree(data, other.data)
    other.start("--offline")
    try:
        yield other
        other.stop()
    finally:
        other.kill()


def entries(data: Path) -> dict[str, bytes]:
    """Every entry of a data folder."""

    async def read() -> dict[str, bytes]:
        store = LocalStore(data)
        try:
            return {key: value async for key, value in store.entries("")}
        finally:
            store.close()

    return anyio.run(read)


def exported(running: Mirror, path: Path, *what: str) -> Path:
    ran = run("export", "--data", running.data, *what, path)
    assert ran.returncode == 0, ran.stderr
    return path


def imported(path: Path, data: Path, *options: str | Path) -> str:
    ran = run("import", "--data", data, *options, path)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


# Answers


def test_another_mirror_answers_the_same_without_upstreams(
    source: Mirror, upstream: Upstream, pypi: PyPI, tmp_path: Path
) -> None:
    """Bytes and dates; exported while the source serves."""
    dates = {date: (page(source, date), fetched(source, date)) for date in ("2023-07-01", "2023-09-01")}
    archive = exported(source, tmp_path / "archive", PIN, "pypi")
    source.stop()
    pypi.index.stop()
    pypi.files.stop()
    upstream.stop()
    said = imported(archive, tmp_path / "target")
    assert "imported" in said
    with offline(tmp_path, source, tmp_path / "target") as other:
        for name, body in (("small", b"small"), ("big", BIG), ("empty", b"")):
            assert http.get(other.pin(PIN, f"{upstream.url}/{name}")).content == body
        for date, (shown, files) in dates.items():
            assert (page(other, date), fetched(other, date)) == (shown, files)
    assert checked_records(tmp_path / "target")


def test_an_index_at_a_date_has_the_files_of_its_pages_then(source: Mirror, tmp_path: Path) -> None:
    first, both = fetched(source, "2023-07-01"), fetched(source, "2023-09-01")
    archive = exported(source, tmp_path / "archive", "2023-07-01")
    imported(archive, tmp_path / "target")
    digests = {record.digest for record in checked_records(tmp_path / "target") if record.url.endswith(".whl")}
    assert digests == {hashlib.sha256(body).hexdigest() for body in first}
    assert len(both) == 2
    with offline(tmp_path, source, tmp_path / "target") as other:
        assert fetched(other, "2023-07-01") == first
        assert page(other, "2023-09-01") == page(source, "2023-09-01")  # the history is whole


def test_what_the_target_writes_offline_does_not_stand_in_the_way(source: Mirror, pypi: PyPI, tmp_path: Path) -> None:
    """A date after the last observation is known from a capture, and is written down before the export."""
    page(source, "2023-07-01")
    time.sleep(1.1)  # until the next whole second
    between = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ran = run("capture", "--data", source.data, "--pypi-upstream", pypi.url, "--allow-network", "127.0.0.0/8")
    assert ran.returncode == 0, ran.stderr
    imported(exported(source, tmp_path / "one", "pypi"), tmp_path / "target")
    before = entries(tmp_path / "target")
    with offline(tmp_path, source, tmp_path / "target") as other:
        page(other, between)
        http.get(other.at(between))
        assert {key: value for key, value in entries(other.data).items() if not key.startswith("m/")} == before
    pypi.upload(wheel("demo", "3.0"), "2023-10-01T00:00:00Z")
    ask(f"{source.at('live')}demo/", PIP)
    imported(exported(source, tmp_path / "two", "pypi"), tmp_path / "target")
    assert entries(tmp_path / "target").keys() > before.keys()


def test_results_for_programs(source: Mirror, tmp_path: Path) -> None:
    """What `--json` prints of both commands."""
    path = tmp_path / "mirror.tar"
    said = json.loads(run("export", "--data", source.data, PIN, path, "--json").stdout)
    assert said == {"file": str(path), "records": 3, "logs": 0, "bodies": 3, "bytes": 25605, "private": 0}
    taken = json.loads(run("import", "--data", tmp_path / "data", path, "--json").stdout)
    header = json.loads(members(path)[layout.HEADER])
    assert taken == {
        "imported": 3, "bytes": 25605, "left": 0, "selected": [PIN], "made": header["made"], "signer": None
    }  # fmt: skip


def test_a_group_is_its_registries(source: Mirror, tmp_path: Path) -> None:
    page(source, "2023-07-01")
    (tmp_path / "settings.toml").write_text('[[group]]\nname = "all"\nregistries = ["pypi"]\n')
    archive = exported(source, tmp_path / "archive", "--config", f"{tmp_path}/settings.toml", "all@2023-07-01")
    assert json.loads(members(archive)["httpcache-export.json"])["logs"]


# The format


def members(archive: Path) -> dict[str, bytes]:
    """The members of an archive, read by another program's rules."""
    with tarfile.open(archive, "r|") as tar:
        return {member.name: found.read() for member in tar if (found := tar.extractfile(member))}


def test_the_format_is_the_documented_one(source: Mirror, upstream: Upstream, tmp_path: Path) -> None:
    """Read here as docs/export.md says, by nothing of the mirror's."""
    page(source, "2023-07-01")
    found = members(exported(source, tmp_path / "archive", PIN, "pypi"))
    names = list(found)
    assert names[:3] == ["httpcache-export.json", "manifest.jsonl", "manifest.sha256"]
    header = json.loads(found["httpcache-export.json"])
    assert (header["format"], header["selected"]) == (1, [PIN, "pypi"])
    pairs = [line.split() for line in found["manifest.sha256"].decode().splitlines()]
    assert pairs == [[hashlib.sha256(found[name]).hexdigest(), name] for name in names[:2]]
    lines = [json.loads(line) for line in found["manifest.jsonl"].splitlines()]
    by = {kind: [line for line in lines if line["line"] == kind] for kind in ("record", "log", "value", "body")}
    assert [len(by[kind]) for kind in by] == [header[name] for name in ("records", "logs", "values", "bodies")]
    here = entries(source.data)
    for line in by["record"]:
        assert here[line["key"]] == b64decode(line["value"])
    rest = iter(lines[len(by["record"]) :])
    for line in rest:
        if line["line"] == "log":
            for number in range(line["length"]):
                value = next(rest)
                assert here[keys.numbered(keys.log(line["name"]), number)] == b64decode(value["value"])
    digests = [line["digest"] for line in by["body"]]
    assert names[3:] == [f"bodies/{digest}" for digest in digests] == sorted(names[3:])
    assert all(hashlib.sha256(found[f"bodies/{digest}"]).hexdigest() == digest for digest in digests)
    assert sum(len(found[name]) for name in names[3:]) == header["bytes"]
    assert {hashlib.sha256(body).hexdigest() for body in (b"small", BIG, b"")} <= set(digests)
    if tar := shutil.which("tar"):
        told_ = subprocess.run([tar, "-tf", tmp_path / "archive"], capture_output=True, text=True, check=True)
        assert told_.stdout.split() == names


def test_private_copies_stay(upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror], tmp_path: Path) -> None:
    """Neither they, nor the notes of private pages."""
    closed, running = upstreams(auth=("user", "password")), mirror()
    link = f"{closed.url}/files/hidden-1.0.tar.gz"
    closed.pages |= {"/secret": b"secret", "/simple/hidden/": f'<a href="{link}#sha256={"0" * 64}">x</a>'.encode()}
    for path in ("secret", "simple/hidden/"):
        http.get(running.pin(PIN, f"{closed.url}/{path}", "user:password"))
    opened = upstreams()
    opened.pages["/open"] = b"open"
    http.get(running.pin(PIN, f"{opened.url}/open"))
    ran = run("export", "--data", running.data, PIN, tmp_path / "archive")
    assert "2 private copies stay here" in ran.stdout
    found = members(tmp_path / "archive")
    assert closed.url.encode() not in b"".join(found.values())
    header = json.loads(found["httpcache-export.json"])
    assert (header["records"], header["logs"], header["private"]) == (1, 0, 2)


def test_nothing_to_export(source: Mirror, tmp_path: Path) -> None:
    assert "there is nothing of 'nowhere'" in told(run("export", "--data", source.data, "nowhere", tmp_path / "x"))
    assert "is not a date" in told(run("export", "--data", source.data, "pypi@live", tmp_path / "x"))
    assert "is not a date" in told(run("export", "--data", source.data, "pypi@2024-02-30", tmp_path / "x"))
    assert "neither a date" in told(run("export", "--data", source.data, PIN, "--since", "x", tmp_path / "x"))
    assert "cannot be read" in told(run("import", "--data", tmp_path / "data", tmp_path / "none"))
    assert not (tmp_path / "x").exists()


# Less than all


def test_only_what_the_target_lacks(source: Mirror, upstream: Upstream, tmp_path: Path) -> None:
    """By its own manifest, by an earlier archive, and by a date; and refused by a mirror that has not the rest."""
    page(source, "2023-07-01")
    first = exported(source, tmp_path / "first", PIN, "pypi")
    target = tmp_path / "target"
    imported(first, target)
    manifest = tmp_path / "manifest"
    assert run("export", "--data", target, PIN, "pypi", "--manifest-only", manifest).returncode == 0
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    new = b"new" * 10_000
    upstream.pages["/new"] = new
    http.get(source.pin(PIN, f"{upstream.url}/new"))
    whole = exported(source, tmp_path / "whole", PIN, "pypi")
    for number, options in enumerate([["--have", f"{manifest}"], ["--have", f"{first}"], ["--since", now]]):
        less = exported(source, tmp_path / f"less-{number}", PIN, "pypi", *options)
        assert [name for name in members(less) if name.startswith("bodies/")] == [
            f"bodies/{hashlib.sha256(new).hexdigest()}"
        ]
        empty = tmp_path / f"empty-{number}"
        assert "leaves out" in told(run("import", "--data", empty, less))
        assert not entries(empty)
        other = tmp_path / f"target-{number}"
        shutil.copytree(target, other)
        imported(less, other)
        imported(whole, tmp_path / f"whole-{number}")
        assert entries(other) == entries(tmp_path / f"whole-{number}")
    assert len(checked_records(target)) + 1 == len(checked_records(other))


# Signatures


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two keys, and a file that trusts one of them."""
    folder = tmp_path_factory.mktemp("keys")
    if not shutil.which("ssh-keygen"):
        pytest.skip("there is no ssh-keygen")
    for name in ("good", "other"):
        made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name]
        subprocess.run(made, check=True)
    (folder / "trusted").write_text(f"builds@example.com {(folder / 'good.pub').read_text()}")
    (folder / "nobody").write_text("# nobody\n")
    return folder


@pytest.mark.parametrize(
    ("key", "trust", "said"),
    [
        ("good", "trusted", "signed by builds@example.com"),
        ("good", "", "imported"),
        ("other", "", "imported"),
        ("", "", "imported"),
        ("other", "trusted", "is not signed by anyone in"),
        ("", "trusted", "is not signed: ask for one"),
        ("good", "nobody", "is not signed by anyone in"),
        ("good", "none", "is not a file"),
    ],
)
def test_signatures(key: str, trust: str, said: str, signers: Path, source: Mirror, tmp_path: Path) -> None:
    archive = exported(source, tmp_path / "archive", PIN, *(["--sign", f"{signers / key}"] if key else []))
    ran = run("import", "--data", tmp_path / "data", archive, *(["--trust", f"{signers / trust}"] if trust else []))
    assert said in ran.stdout + ran.stderr
    assert ran.returncode == (0 if "imported" in said or "signed by b" in said else 1)
    assert bool(entries(tmp_path / "data")) == (ran.returncode == 0)


def test_a_signature_is_of_these_bytes(signers: Path, source: Mirror, upstream: Upstream, tmp_path: Path) -> None:
    """That of another archive does not count."""
    sign = ["--sign", f"{signers / 'good'}"]
    one = members(exported(source, tmp_path / "one", PIN, *sign))
    http.get(source.pin("b", f"{upstream.url}/small"))
    two = members(exported(source, tmp_path / "two", "b", *sign))
    path = built(tmp_path / "mixed", two | {"manifest.sig": one["manifest.sig"]})
    said = told(run("import", "--data", tmp_path / "data", path, "--trust", signers / "trusted"))
    assert "is not signed by anyone" in said
    assert not entries(tmp_path / "data")


def built(path: Path, found: Mapping[str, bytes]) -> Path:
    """An archive of these members."""
    with path.open("wb") as file:
        for name, body in found.items():
            file.write(layout.member(name, len(body)) + body + layout.padding(len(body)))
        file.write(layout.END)
    return path


# From a pipe


def test_an_archive_from_a_pipe(source: Mirror, tmp_path: Path) -> None:
    archive = exported(source, tmp_path / "archive", PIN)
    ran = subprocess.run(
        ["sh", "-c", 'cat "$0" | "$1" import --data "$2" -', archive, COMMAND, tmp_path / "data"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "imported" in ran.stdout, ran.stderr
    assert not list((tmp_path / "data/spool").iterdir())
    assert len(checked_records(tmp_path / "data")) == 3
