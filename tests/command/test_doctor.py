"""The doctor: each thing is really broken, and its finding says so. It changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from httpcache.command.folder_check import check_folder
from httpcache.store.local import LocalStore
from tests.support.command import run
from tests.support.mirror import COMMAND
from tests.support.upstream import Response, Upstream


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a store."""
    LocalStore(tmp_path / "data").close()
    return tmp_path / "data"


def findings(folder: Path, *arguments: str, code: int = 0, **environment: str) -> dict[str, list[dict[str, Any]]]:
    """What the doctor finds, by what it looked at."""
    ran = run("doctor", "--json", "--data", folder, *arguments, environment=environment)
    assert ran.returncode == code, ran
    found: dict[str, list[dict[str, Any]]] = {}
    for line in ran.stdout.splitlines():
        row = json.loads(line)
        assert list(row) == ["check", "level", "finding", "advice"]
        found.setdefault(row["check"], []).append(row)
    return found


def everything(folder: Path) -> dict[str, tuple[float, int]]:
    """What is in a folder, and when it was changed, but for what every reader makes beside a database."""
    found = (path for path in folder.rglob("*") if path.name != "index" and not path.name.endswith(("-shm", "-wal")))
    return {str(path): (path.stat().st_mtime, path.stat().st_mode) for path in found}


def test_nothing_is_wrong_and_nothing_is_changed(folder: Path) -> None:
    (folder / "reserve").unlink()
    before = everything(folder)
    found = findings(folder, "--offline")
    assert {row["level"] for rows in found.values() for row in rows} == {"ok"}
    assert {"versions", "settings", "file handles", "data folder", "disk", "filesystem", "index"} <= found.keys()
    assert everything(folder) == before
    assert run("doctor", "--offline", "--data", folder).stdout.startswith("ok       versions: httpcache ")


def no_version(folder: Path) -> None:
    (folder / "VERSION").unlink()


def other_version(folder: Path) -> None:
    (folder / "VERSION").write_text("9\n")


def no_index(folder: Path) -> None:
    shutil.rmtree(folder / "index")


def index_without_tables(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "index/index.db")) as database:
        database.execute("DROP TABLE pins")


def index_of_garbage(folder: Path) -> None:
    (folder / "index/index.db").write_bytes(b"garbage" * 1000)


def unreadable_version(folder: Path) -> None:
    (folder / "VERSION").unlink()
    (folder / "VERSION").mkdir()


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (no_version, "not the data folder"),
        (other_version, "'9'"),
        (no_index, "missing or empty"),
        (index_without_tables, "pins"),
        (index_of_garbage, "not a database"),
        (unreadable_version, "VERSION"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_folder_is_a_problem(damage: Callable[[Path], None], text: str, folder: Path) -> None:
    damage(folder)
    found = findings(folder, "--offline", code=1)
    (row,) = (row for rows in found.values() for row in rows if row["level"] == "problem")
    assert text in row["finding"]
    assert row["advice"]


def test_no_folder_is_none_yet(tmp_path: Path) -> None:
    (row,) = findings(tmp_path / "data", "--offline")["data folder"]
    assert row["level"] == "warning"
    assert not (tmp_path / "data").exists()


def test_what_others_can_read(folder: Path) -> None:
    folder.chmod(0o755)
    assert "chmod 700" in findings(folder, "--offline")["data folder"][0]["advice"]


def test_what_a_broken_off_download_has_left(folder: Path) -> None:
    left = folder / "spool/x.part"
    left.write_bytes(b"12345")
    assert "spool" not in findings(folder, "--offline")
    os.utime(left, (time.time() - 7200,) * 2)
    assert "5 B" in findings(folder, "--offline")["spool"][0]["finding"]


def test_a_disk_that_is_nearly_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system is asked, so another answer of the system has to stand for a full disk."""
    for free, level in ((1 << 20, "problem"), (1 << 30, "warning"), (1 << 39, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: shutil._ntuple_diskusage(1 << 40, 0, free))
        (found,) = (each for each in check_folder(folder, offline=True) if each.check == "disk")
        assert found.level == level


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--allow-network", "0.0.0.0/0"], "SSRF"),
        (["--workers", "4000"], "cores"),
        (["--share", "team"], "--share"),
        (["--proxy", "http://u:S3CRET@127.0.0.1:1"], "--proxy"),
    ],
)
def test_settings_that_are_risky(arguments: list[str], text: str, folder: Path) -> None:
    (row,) = findings(folder, "--offline", *arguments)["settings"]
    assert (row["level"], text in row["finding"]) == ("warning", True)
    assert "S3CRET" not in json.dumps(row)


def test_settings_that_contradict_each_other(folder: Path) -> None:
    (row,) = findings(folder, "--offline", "--capture", code=1)["settings"]
    assert "--capture" in row["finding"]


def test_a_variable_that_is_nearly_one(folder: Path) -> None:
    assert "HTTPCACHE_WORKERS" in findings(folder, "--offline", HTTPCACHE_WORKER="2")["settings"][0]["finding"]


def test_more_clients_than_open_files(folder: Path) -> None:
    doctor = f"ulimit -n 500; exec {COMMAND} doctor --offline --data {folder}"
    ran = subprocess.run(["sh", "-c", doctor], capture_output=True, text=True, check=True)
    assert "warning  file handles: a process may open 500 files" in ran.stdout


@pytest.mark.parametrize(("off", "level"), [(0, "ok"), (-3600, "problem"), (3600, "problem")])
def test_the_clock_against_a_registry(off: int, level: str, upstream: Upstream, folder: Path) -> None:
    upstream.pages["/simple/"] = b""
    upstream.clock = lambda: time.time() + off
    found = findings(folder, "--pypi-upstream", f"{upstream.url}/simple/", code=int(level == "problem"))
    assert found["clock"][0]["level"] == level
    assert ("undo-future" in (found["clock"][0]["advice"] or "")) == (level == "problem")
    assert found["upstream pypi"][0]["level"] == "ok"


@pytest.mark.parametrize(("status", "level"), [(404, "warning"), (401, "problem"), (503, "warning")])
def test_a_registry_that_answers_with_an_error(status: int, level: str, upstream: Upstream, folder: Path) -> None:
    upstream.pages["/simple/"] = Response(b"", status)
    found = findings(folder, "--pypi-upstream", f"{upstream.url}/simple/", code=int(level == "problem"))
    assert (found["upstream pypi"][0]["level"], str(status) in found["upstream pypi"][0]["finding"]) == (level, True)


def test_a_registry_that_cannot_be_reached(upstream: Upstream, folder: Path) -> None:
    upstream.stop()
    found = findings(folder, "--pypi-upstream", f"{upstream.url}/simple/", code=1)
    assert "cannot be reached" in found["upstream pypi"][0]["finding"]


def test_captures_that_should_have_been_made(upstream: Upstream, folder: Path) -> None:
    upstream.pages["/simple/"] = b""
    arguments = ("--pypi-upstream", f"{upstream.url}/simple/")
    assert "captures of pypi" not in findings(folder, *arguments)
    (row,) = findings(folder, "--capture", *arguments)["captures of pypi"]
    assert (row["level"], "none has been completed" in row["finding"]) == ("warning", True)
