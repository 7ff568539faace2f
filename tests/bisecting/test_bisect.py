"""`httpcache bisect` on a registry with hundreds of days of uploads, one of which breaks the build."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from math import ceil, log2
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support import http
from tests.support.clients import CLIENTS, PIP
from tests.support.command import run, told
from tests.support.index import document, instant, shared_pypi
from tests.support.mirror import Mirror
from tests.support.packages import Dist, wheel
from tests.support.registries import PyPI

BEGIN = datetime(2022, 1, 1, 12, tzinfo=UTC)
GOOD, BAD = "2022-01-02", "2023-02-10"
DAYS = 400
PROJECTS = 60
SIDE = 12  # projects that the build needs, of all


def day(number: int) -> str:
    """Noon of a day."""
    return (BEGIN + timedelta(days=number)).strftime("%Y-%m-%dT%H:%M:%SZ")


def name(number: int) -> str:
    """The name of a project; those before SIDE are required by `app`."""
    return f"lib{number}"


class History:
    """An upload each day, at random; `app` 1.0 requires the first projects, which require one of the others each."""

    def __init__(self, pypi: PyPI, days: int, projects: int) -> None:
        dice = Random(7)
        needed = [name(number) for number in range(SIDE)]
        pypi.upload(wheel("app", "1.0", needed), day(-10))
        versions = dict.fromkeys(range(projects), 0)
        self.uploads: dict[tuple[str, str], str] = {}
        for number in range(projects):
            self._upload(pypi, number, "1.0", day(-5))
        for each in range(1, days):
            number = dice.randrange(projects)
            versions[number] += 1
            self._upload(pypi, number, f"1.{versions[number]}", day(each))

    def _upload(self, pypi: PyPI, number: int, version: str, at: str) -> Dist:
        deeper = [name(number + SIDE)] if number < SIDE else []
        dist = wheel(name(number), version, deeper)
        pypi.upload(dist, at)
        self.uploads[dist.name, version] = at
        return dist

    def of(self, project: str) -> list[str]:
        """The versions of a project, the oldest first."""
        return [version for found, version in self.uploads if found == project]


Shared = tuple[Mirror, History]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """The size that the figures are promised for."""
    with shared_pypi(tmp_path_factory.mktemp("large")) as (pypi, mirror):
        yield mirror, History(pypi, DAYS, PROJECTS)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """A smaller one, for everything else."""
    with shared_pypi(tmp_path_factory.mktemp("small")) as (pypi, mirror):
        yield mirror, History(pypi, 100, 2 * SIDE)


def newer(project: str, version: str) -> str:
    """A test that fails with this version of a project and later ones: Python that a wheel here tells its version."""
    return (
        f"from importlib.metadata import version; "
        f"found = [int(part) for part in version({project!r}).split('.')]; "
        f"bad = found >= {[int(part) for part in version.split('.')]}"
    )


def bisect(mirror: Mirror, folder: Path, test: str, *options: str, bad: str = BAD) -> subprocess.CompletedProcess[str]:
    """Run the command with a test in Python."""
    (folder / "requirements.txt").write_text("app\n")
    arguments = [
        "--good",
        GOOD,
        "--bad",
        bad,
        "-r",
        str(folder / "requirements.txt"),
        "--folder",
        str(folder / "state"),
    ]
    environment = {"PATH": f"{CLIENTS / 'current/bin'}:/usr/bin:/bin", "UV_CACHE_DIR": str(folder / "cache")}
    command = ["--mirror", mirror.url, "--python", PIP[0], *options, "--", "python", "-c", test]
    return run("bisect", *arguments, *command, environment=environment, seconds=540)


def found(ran: subprocess.CompletedProcess[str]) -> Any:
    """The JSON of one that has found something."""
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("depth", ["direct", "transitive"])
def test_a_planted_break(depth: str, large: Shared, tmp_path: Path) -> None:
    mirror, history = large
    project = name(3 if depth == "direct" else 3 + SIDE)
    versions = history.of(project)
    version = versions[len(versions) // 2]
    test = f"{newer(project, version)}; raise SystemExit(bad)"
    outcome = found(bisect(mirror, tmp_path, test, "--json"))
    [upload] = outcome["step"]["uploads"]
    assert (upload[0], upload[1]) == (project, version)
    assert upload[3].startswith(history.uploads[project, version][:19])
    assert outcome["partner"] is None
    assert outcome["builds"] <= ceil(log2(outcome["resolutions"])) + 2
    assert outcome["resolutions"] > 100
    again = bisect(mirror, tmp_path, test)
    assert "has a bisection already" in told(again)
    resumed = bisect(mirror, tmp_path, test, "--resume")
    assert resumed.returncode == 0
    assert f"{project} {version}: {project}-{version}-py3-none-any.whl, uploaded" in resumed.stdout
    assert f"require {project}<{version}" in resumed.stdout
    assert "built 0 environments" in resumed.stdout


def test_two_uploads_that_break_only_together(small: Shared, tmp_path: Path) -> None:
    mirror, history = small
    needed = [each for each in history.uploads if each[0] in map(name, range(SIDE)) and each[1] != "1.0"]
    by_time = sorted(needed, key=history.uploads.__getitem__)
    first, second = by_time[2], next(each for each in reversed(by_time) if each[0] != by_time[2][0])
    test = f"{newer(*first)}; one = bad; {newer(*second)}; raise SystemExit(one and bad)"
    outcome = found(bisect(mirror, tmp_path, test, "--json"))
    assert [tuple(each[:2]) for each in outcome["step"]["uploads"]] == [second]
    assert [tuple(each[:2]) for each in outcome["partner"]["uploads"]] == [first]


def test_a_command_that_fails_now_and_then(small: Shared, tmp_path: Path) -> None:
    """The bad ones fail in every third run only."""
    mirror, history = small
    versions = history.of(name(5))
    version = versions[len(versions) // 2]
    count = tmp_path / "count"
    count.write_text("")
    counting = f"file = open({str(count)!r}, 'a+'); file.write('x'); third = file.tell() % 3 == 0"
    test = f"{newer(name(5), version)}; {counting}; raise SystemExit(bad and third)"
    outcome = found(bisect(mirror, tmp_path, test, "--json", "--repeat", "3"))
    assert [tuple(each[:2]) for each in outcome["step"]["uploads"]] == [(name(5), version)]


def test_what_is_skipped(small: Shared, tmp_path: Path) -> None:
    """The versions around the break cannot be judged: they are all named."""
    mirror, history = small
    versions = history.of(name(4))
    middle = len(versions) // 2
    low, high = versions[middle], versions[middle + 1]
    test = f"{newer(name(4), low)}; cannot = bad; {newer(name(4), high)}; raise SystemExit(bad or 125 * cannot)"
    outcome = found(bisect(mirror, tmp_path, test, "--json"))
    assert outcome["skipped"]
    times = [history.uploads[name(4), version] for version in (low, high)]
    assert outcome["step"]["good"] < times[0] <= outcome["step"]["bad"]


def test_a_killed_one_goes_on(small: Shared, tmp_path: Path) -> None:
    """The command kills its bisection once: what was found is not built again."""
    mirror, history = small
    versions = history.of(name(6))
    version = versions[len(versions) // 2]
    mark = tmp_path / "mark"
    killing = (
        f"import os, pathlib, signal; mark = pathlib.Path({str(mark)!r}); "
        "times = mark.exists() and len(mark.read_text());"
        "mark.write_text('x' * (times + 1)); times == 3 and os.kill(os.getppid(), signal.SIGKILL)"
    )
    test = f"{killing}; {newer(name(6), version)}; raise SystemExit(bad)"
    assert bisect(mirror, tmp_path, test, "--json").returncode < 0
    outcome = found(bisect(mirror, tmp_path, test, "--json", "--resume"))
    assert [tuple(each[:2]) for each in outcome["step"]["uploads"]] == [(name(6), version)]
    assert len(mark.read_text()) == outcome["builds"] + 3 + 1


def test_requirements_that_no_longer_resolve(pypi: PyPI, mirror: Callable[..., Mirror], tmp_path: Path) -> None:
    """What was removed breaks a build as well: that is no upload, and the last instant before it is named."""
    lib = wheel(name(0), "1.0")
    pypi.upload(wheel("app", "1.0", [name(0)]), day(-5))
    pypi.upload(lib, day(-5))
    pypi.upload(wheel("app", "1.1", [name(0)]), day(60))
    running = mirror(pypi)
    [file] = document(f"{running.at(GOOD)}{name(0)}/")["files"]
    for suffix in (".metadata", ""):
        assert http.get(running.same(file["url"]) + suffix).status_code == 200
    pypi.delete(lib)
    http.get(f"{running.at(instant())}{name(0)}/")  # so it is noticed
    bad = instant()
    ran = bisect(running, tmp_path, "pass", bad=bad)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("the requirements no longer resolve: ")
    assert "no upload: files were yanked or removed" in ran.stdout
    assert f"bad from {bad} on" in ran.stdout


WRONG = {
    "no command": ([], ["--good", GOOD, "--bad", BAD], "name the command"),
    "no requirements": (["true"], ["--good", GOOD, "--bad", BAD], "requirements.txt is not there"),
    "a number of runs": (["true"], ["--good", GOOD, "--bad", BAD, "--repeat", "0"], "use a number of runs"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_it_cannot_do(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command, options, wanted = WRONG[case]
    assert wanted in told(run("bisect", *options, "--", *command))


@pytest.mark.parametrize(
    ("test", "wanted"),
    [
        ("raise SystemExit(1)", "the command fails at the good date"),
        ("pass", "the command does not fail at the bad date"),
    ],
)
def test_ends_that_are_not_what_was_said(test: str, wanted: str, small: Shared, tmp_path: Path) -> None:
    mirror, _ = small
    ran = bisect(mirror, tmp_path, test)
    assert ran.returncode == 1
    assert wanted in ran.stderr
