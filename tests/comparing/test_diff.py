"""`httpcache diff`: what differs between two dates, against what the uploads say."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from subprocess import CompletedProcess

import pytest

from httpcache.command.asking import Asker
from pypi_adapter.comparing.diff import diff as compare
from tests.support import http
from tests.support.clients import CLIENTS, PIP
from tests.support.command import run, told
from tests.support.index import document, instant
from tests.support.mirror import Mirror
from tests.support.packages import Dist, wheel
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


State = dict[str, tuple[str, str, bool | str]]
"""The files of a project: of each name the version, when it was uploaded, and whether it is yanked."""


class Raw:
    """What was done to a registry at random: from this alone the oracle tells what each instant had.

    A file is there from its upload on. What else is done counts from the next look of the mirror at the project on.
    """

    def __init__(self, pypi: PyPI, dice: Random) -> None:
        self._pypi, self._dice = pypi, dice
        self._number = itertools.count()
        self._now: dict[str, State] = {name: {} for name in NAMES}
        self._dists: dict[str, Dist] = {}
        self._removed: dict[str, tuple[str, tuple[str, str, bool | str]]] = {}
        self._seen: list[tuple[str, dict[str, State]]] = []

    def upload(self, name: str, at: str) -> None:
        dist = wheel(name, f"1.{next(self._number)}")
        self._pypi.upload(dist, at)
        self._now[name][dist.filename] = dist.version, self._pypi.release(dist).at, False
        self._dists[dist.filename] = dist

    def change(self) -> None:
        """Yank a file that was seen, take that back, remove it, or put it back; each project keeps one."""
        name = self._dice.choice(NAMES)
        now, seen = self._now[name], self._seen[-1][1][name]
        known = sorted(now.keys() & seen.keys())
        yanked = [file for file in known if now[file][2]]
        match self._dice.choice(["yank", "unyank", "remove", "put back"]):
            case "yank":
                reasons: list[bool | str] = [True, "broken", "other"]
                self._yank(name, self._dice.choice(known), self._dice.choice(reasons))
            case "unyank" if yanked:
                self._yank(name, self._dice.choice(yanked), False)
            case "remove" if len(known) > 1:
                file = self._dice.choice(known)
                self._pypi.delete(self._dists[file])
                self._removed[file] = name, now.pop(file)
            case "put back" if self._removed:
                file = self._dice.choice(sorted(self._removed))
                name, (version, at, _) = self._removed.pop(file)
                self._pypi.upload(self._dists[file], at)
                self._now[name][file] = version, at, False

    def _yank(self, name: str, file: str, reason: bool | str) -> None:
        self._pypi.yank(self._dists[file], reason)
        self._now[name][file] = *self._now[name][file][:2], reason

    def look(self, mirror: Mirror) -> None:
        """Let the mirror observe all projects."""
        for name in NAMES:
            document(f"{mirror.at(instant())}{name}/")
        self._seen.append((instant(), {name: dict(state) for name, state in self._now.items()}))

    def at(self, moment: str) -> dict[str, State]:
        """What there was at an instant: as the last look saw it, and what the next one found to be uploaded by then."""
        before = [state for at, state in self._seen if at <= moment]
        after = [state for at, state in self._seen if at > moment]
        found = {name: dict(before[-1][name]) if before else {} for name in NAMES}
        for name in NAMES if after else ():
            known = {file for state in before for file in state[name]}
            found[name] |= {
                file: each for file, each in after[0][name].items() if each[1] < moment and file not in known
            }
        return found


def expected(before: State, after: State) -> tuple[set[str], set[str], set[tuple[str, str, str]]]:
    """The versions that came and went, and of each file that differs its version, what differs, and its name."""
    changes = {
        (after[file][0], "new, yanked" if after[file][2] else "new", file) for file in after.keys() - before.keys()
    }
    changes |= {(before[file][0], "gone", file) for file in before.keys() - after.keys()}
    for file in before.keys() & after.keys():
        (version, _, old), (_, _, new) = before[file], after[file]
        if old != new:
            reason = f": {new}" if isinstance(new, str) else ""
            changes.add((version, f"yanked{reason}" if new else "no longer yanked", file))
    versions, now = ({each[0] for each in state.values()} for state in (before, after))
    return now - versions, versions - now, changes


@pytest.mark.parametrize("seed", [3, 5])
def test_random_histories(
    seed: int, pypi: PyPI, mirror: Callable[..., Mirror], capsys: pytest.CaptureFixture[str]
) -> None:
    """Uploads, yanks, unyanks and removals, against what the raw history says."""
    dice = Random(seed)
    raw = Raw(pypi, dice)
    for name in NAMES:
        raw.upload(name, day(-1))
    for _ in range(60):
        raw.upload(dice.choice(NAMES), day(dice.uniform(0, 100)))
    running = mirror(pypi)
    raw.look(running)
    moments = [*map(date, sorted(dice.sample(range(100), 8))), instant()]
    for _ in range(12):
        for _ in range(dice.randrange(8)):
            raw.change()
        for _ in range(dice.randrange(3)):
            raw.upload(dice.choice(NAMES), instant())
        moments.append(instant())  # what was uploaded is there, what else was done is not known
        raw.look(running)
        moments.append(instant())
    told = Asker(running.url)
    kinds = set()
    for low, high in [sorted(dice.sample(range(len(moments)), 2)) for _ in range(60)]:
        before, after = moments[low], moments[high]
        given = {"before": before, "after": after, "projects": NAMES, "format": "json"}
        assert compare(told, {"index": None, "requirements": None, "python": None} | given) == 0
        found = {each["project"]: each for each in map(json.loads, capsys.readouterr().out.splitlines())}
        for name in NAMES:
            each = found.get(name, {"added": [], "removed": [], "changes": []})
            changes = {(change["version"], change["what"], change["filename"]) for change in each["changes"]}
            states = raw.at(_moment(before))[name], raw.at(_moment(after))[name]
            assert (set(each["added"]), set(each["removed"]), changes) == expected(*states), (before, after, name)
            assert len(changes) == len(each["changes"])
            for change in each["changes"]:
                _, uploaded, _ = {**states[0], **states[1]}[change["filename"]]
                assert change["uploaded"] == uploaded
            kinds |= {what.partition(":")[0] for _, what, _ in changes}
    assert kinds >= {"new", "gone", "yanked", "no longer yanked"}


def _moment(text: str) -> str:
    """A date as an instant."""
    return text if "T" in text else f"{text}T00:00:00.000000Z"


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
