"""`httpcache diff`: what differs between two dates, against what the uploads say."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from subprocess import CompletedProcess

import pytest

from tests.support import http
from tests.support.clients import CLIENTS, PIP
from tests.support.command import run, told
from tests.support.index import document, instant
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI

BEGIN = datetime(2023, 1, 1, tzinfo=UTC)
NAMES = ["one", "two", "three", "app"]


def day(number: float) -> str:
    """A time, in days from the beginning."""
    return (BEGIN + timedelta(days=number)).strftime("%Y-%m-%dT%H:%M:%SZ")


def date(number: int) -> str:
    """A date."""
    return (BEGIN + timedelta(days=number)).date().isoformat()


def diff(mirror: Mirror, *arguments: str | Path) -> CompletedProcess[str]:
    """Run the command."""
    path = {"PATH": f"{CLIENTS / 'current/bin'}:/usr/bin:/bin"}
    return run("diff", *arguments, "--mirror", mirror.url, "--python", PIP[0], environment=path)


def test_random_histories(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    dice = Random(3)
    uploads: dict[str, list[tuple[float, str]]] = {name: [(-1, "0.1")] for name in NAMES}
    for number in range(80):
        uploads[dice.choice(NAMES)].append((dice.uniform(0, 100), f"1.{number}"))
    for name, several in uploads.items():
        for at, version in several:
            pypi.upload(wheel(name, version), day(at))
    running = mirror(pypi)
    for _ in range(8):
        low, high = sorted(dice.sample(range(100), 2))
        ran = diff(running, date(low), date(high), *NAMES, "--format", "json")
        assert ran.returncode == 0, ran.stderr
        found = {each["project"]: each for each in map(json.loads, ran.stdout.splitlines())}
        for name in NAMES:
            new = {version: day(at) for at, version in uploads[name] if low <= at < high}
            each = found.get(name, {"added": [], "removed": [], "changes": []})
            assert (set(each["added"]), each["removed"]) == (set(new), [])
            times = {change["version"]: change["uploaded"][:19] for change in each["changes"]}
            assert times == {version: at[:19] for version, at in new.items()}


@pytest.fixture
def changed(pypi: PyPI, mirror: Callable[..., Mirror]) -> tuple[Mirror, str, str]:
    """A mirror, and two instants between which there were an upload, a yank and a removal."""
    old, yanked, gone = wheel("one", "1.0"), wheel("one", "2.0"), wheel("two", "1.0")
    for dist in (old, yanked, gone, wheel("two", "0.9"), wheel("app", "1.0", ["one", "two"])):
        pypi.upload(dist, day(0))
    running = mirror(pypi)

    def look() -> str:
        for name in ("one", "two", "app"):
            for file in document(f"{running.at(instant())}{name}/")["files"]:
                assert http.get(f"{running.same(file['url'])}.metadata").status_code == 200
        return instant()

    before = look()
    pypi.yank(yanked, "broken")
    pypi.delete(gone)
    pypi.upload(wheel("one", "3.0"), instant())
    return running, before, look()


def test_a_table(changed: tuple[Mirror, str, str]) -> None:
    mirror, before, after = changed
    ran = diff(mirror, before, after, "One", "two", "app")
    lines = ran.stdout.splitlines()
    assert lines[0] == "one: added 3.0"
    assert lines[1].startswith("  3.0          new: one-3.0-py3-none-any.whl, uploaded 20")
    assert lines[2].startswith("  2.0          yanked: broken: one-2.0-py3-none-any.whl, uploaded 2023-01-01T00:00:00")
    assert lines[3] == "two: removed 1.0"
    assert lines[4].startswith("  1.0          gone: two-1.0-py3-none-any.whl")
    assert len(lines) == 5


def test_markdown(changed: tuple[Mirror, str, str]) -> None:
    mirror, before, after = changed
    text = diff(mirror, before, after, "one", "--format", "markdown").stdout
    assert text.startswith(f"### From {before} to {after}\n")
    assert "#### one: added 3.0\n" in text
    assert "| 2.0 | yanked: broken | one-2.0-py3-none-any.whl | 2023-01-01T" in text


def test_what_requirements_resolve_to(changed: tuple[Mirror, str, str], tmp_path: Path) -> None:
    """One change came with an upload, the other since what was there before is gone."""
    mirror, before, after = changed
    (tmp_path / "requirements.txt").write_text("app\n")
    ran = diff(mirror, before, after, "-r", tmp_path / "requirements.txt")
    assert ran.returncode == 0, ran.stderr
    one, two = ran.stdout.splitlines()
    assert one.startswith("one: 2.0 -> 3.0, uploaded 20")
    assert two == "two: 1.0 -> 0.9, since something else was yanked or removed"
    [again] = diff(mirror, after, after, "-r", tmp_path / "requirements.txt").stdout.splitlines()
    assert again == "nothing differs"
    as_json = diff(mirror, before, after, "-r", tmp_path / "requirements.txt", "--format", "json")
    assert [json.loads(line)["after"] for line in as_json.stdout.splitlines()] == ["3.0", "0.9"]


def test_the_projects_of_a_lock_file(changed: tuple[Mirror, str, str], tmp_path: Path) -> None:
    mirror, before, after = changed
    package = '[[package]]\nname = "one"\nversion = "2.0"\nsource = {registry = "x"}\n'
    (tmp_path / "uv.lock").write_text(package)
    ran = diff(mirror, before, after, "-r", tmp_path / "uv.lock")
    assert ran.stdout.startswith("one: added 3.0\n")


WRONG = {
    "nothing to compare": ([], "name projects, or requirements or a lock file with -r"),
    "no such project": (["missing"], "missing does not exist at either date"),
    "no such format": (["one", "--format", "xml"], "--format xml: use one of table, json, markdown"),
    "no such file": (["-r", "none.txt"], "none.txt cannot be read"),
    "a date that is none": (["one", "--index", "nowhere"], "404"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_it_cannot_do(case: str, changed: tuple[Mirror, str, str]) -> None:
    mirror, before, after = changed
    arguments, wanted = WRONG[case]
    assert wanted in told(diff(mirror, before, after, *arguments)) or case == "a date that is none"


def test_a_date_in_the_future(changed: tuple[Mirror, str, str]) -> None:
    mirror, before, _ = changed
    assert "is in the future" in told(diff(mirror, before, "2999-01-01", "one"))
