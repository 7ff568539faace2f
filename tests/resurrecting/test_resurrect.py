"""`httpcache resurrect` on a registry whose projects came and changed over the years."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from httpcache.command.asking import Asker
from httpcache.errors import MirrorError
from pypi_adapter.resurrecting import command
from pypi_adapter.tools import TOOLS
from tests.support.clients import CLIENTS
from tests.support.command import run, told
from tests.support.index import shared_pypi
from tests.support.mirror import Mirror
from tests.support.packages import sdist, wheel
from tests.support.registries import PyPI

DATE = "2023-06-01"
PATH = f"{CLIENTS / 'current/bin'}:{Path(sys.executable).parent}:/usr/bin:/bin"
TAG = "manylinux1_x86_64.manylinux2014_aarch64"


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    """A mirror; at DATE, Python 3.6 to 3.11 were there."""
    with shared_pypi(tmp_path_factory.mktemp("old")) as (pypi, mirror):
        _fill(pypi)
        yield mirror


def _fill(pypi: PyPI) -> None:
    for at, dist in (
        ("2023-01-01", wheel("app", "1.0", ["lib>=1"])),
        ("2023-01-02", wheel("lib", "1.0")),
        ("2023-05-01", wheel("lib", "1.1")),
        ("2023-07-01", wheel("lib", "2.0")),
        ("2023-07-01", wheel("app", "2.0", ["lib>=2"])),
        ("2023-02-01", wheel("native", "1.0", tag=f"cp39-cp39-{TAG}")),
        ("2023-03-01", wheel("native", "1.1", tag=f"cp310-cp310-{TAG}")),
        ("2023-08-01", wheel("native", "2.0", tag=f"cp311-cp311-{TAG}")),
        ("2023-02-01", wheel("ancient", "1.0", tag=f"cp27-cp27mu-{TAG}")),
        ("2023-09-01", wheel("ancient", "1.1", tag=f"cp310-cp310-{TAG}")),
        ("2023-02-01", sdist("source", "1.0", requires_python="<3.10")),
        ("2024-01-01", wheel("young", "0.1")),
        ("2023-02-01", wheel("clash", "1.0", ["lib<1.1"])),
    ):
        pypi.upload(dist, f"{at}T00:00:00Z")


class Run(NamedTuple):
    """What the command printed."""

    code: int
    stdout: str
    stderr: str


Resurrect = Callable[..., Run]


@pytest.fixture
def resurrect(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Resurrect:
    """Run the command as of DATE in this process, with what it is given by name."""
    monkeypatch.setenv("PATH", PATH)
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    options = [argument.name.strip("-").replace("-", "_") for tool in TOOLS for argument in tool.arguments]

    def do(mirror: Mirror | None, *path: Path | str, **given: Any) -> Run:
        client = Asker(mirror.url if mirror else "http://127.0.0.1:1", os.environ)
        nothing = {**dict.fromkeys(options), "run": False, "json": False, "path": [*map(str, path)], "as_of": DATE}
        code = command.resurrect(client, nothing | given)
        return Run(code, *capsys.readouterr())

    return do


Found = Callable[..., Any]


@pytest.fixture
def found(resurrect: Resurrect, mirror: Mirror, tmp_path: Path) -> Found:
    """The JSON of it for some requirements."""

    def do(text: str, code: int = 0, **given: Any) -> Any:
        (tmp_path / "requirements.txt").write_text(text)
        ran = resurrect(mirror, tmp_path, json=True, **given)
        assert ran.code == code, ran
        return json.loads(ran.stdout)

    return do


def pythons(document: Any) -> list[str]:
    """The versions of Python that have all."""
    return [each["python"] for each in document["pythons"] if not each["problem"]]


def versions(document: Any) -> dict[str, str]:
    """The releases that were taken."""
    return {each["project"]: each["version"] for each in document["releases"]}


def test_what_the_date_had(found: Found, mirror: Mirror, tmp_path: Path) -> None:
    document = found("app\n")
    assert versions(document) == {"app": "1.0", "lib": "1.1"}
    assert all(each["uploaded"] < DATE for each in document["releases"])
    assert pythons(document) == ["3.11", "3.10", "3.9", "3.8", "3.7", "3.6"]
    index = f"{mirror.url}/{DATE}/"
    file = tmp_path / "requirements.txt"
    assert document["install"] == f"uv venv --python 3.11 && uv pip install --default-index {index} -r {file}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("native\nsource", ["3.9"]),
        (
            "native<1.1; python_version < '3.10'\nsource; python_version < '3.9'",
            ["3.11", "3.10", "3.9"],
        ),
        ("native; sys_platform == 'win32'\nsource", ["3.9", "3.8", "3.7", "3.6"]),
    ],
)
def test_the_versions_of_python_that_have_all(text: str, expected: list[str], found: Found) -> None:
    document = found(text)
    assert pythons(document) == expected
    assert document["python"] == expected[0]


LACKS: dict[str, tuple[str, str, list[tuple[str, str, str, bool]]]] = {
    "a project that is not known": ("nothing", "the index had no such project", []),
    "a project that came later": (
        "young",
        "the index had no such project",
        [("0.1", "2024-01-01", "3.11", True)],
    ),
    "a version that came later": (
        "lib>=2",
        "no such version was there",
        [("1.1", "2023-05-01", "3.11", False), ("2.0", "2023-07-01", "3.11", True)],
    ),
    "a version that never came": ("lib==0.5", "no such version was there", [("1.0", "2023-01-02", "3.11", False)]),
    "a version between others": ("lib==1.0.5", "no such version was there", [("1.0", "2023-01-02", "3.11", False)]),
    "no file for any Python": (
        "ancient",
        "no wheel and no source distribution for Python 3.11 or 3.10 or 3.9 or 3.8 or 3.7 or 3.6",
        [("1.1", "2023-09-01", "3.10", True)],
    ),
    "no file of the version": (
        "native==2.0",
        "no such version was there",
        [("1.1", "2023-03-01", "3.10", False), ("2.0", "2023-08-01", "3.11", True)],
    ),
}


def test_what_cannot_be_had(found: Found) -> None:
    """The rest is resolved all the same."""
    document = found("".join(f"{text}\n" for text, *_ in LACKS.values()) + "app", code=1)
    lacks = {each["where"]: each for each in document["cannot_be_had"]}
    for number, (case, (text, why, nearest)) in enumerate(LACKS.items(), 1):
        lack = lacks.pop(f"requirements.txt:{number}")
        assert (lack["requirement"], lack["why"]) == (text, why), case
        near = [(each["version"], each["uploaded"][:10], each["python"], each["later"]) for each in lack["nearest"]]
        assert near == nearest, case
    assert not lacks
    assert versions(document) == {"app": "1.0", "lib": "1.1"}
    assert document["install"].endswith(" app")


def test_as_a_table(resurrect: Resurrect, mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("native\nlib>=2\nyoung\n-e git+https://a:b@example.org/x#egg=x\n")
    (tmp_path / "requirements-dev.txt").write_text("pytest")
    ran = resurrect(mirror, tmp_path)
    assert ran.code == 1
    assert ran.stdout.splitlines() == [
        f"requirements.txt as of {DATE}",
        "not read: requirements-dev.txt (name it with -r)",
        "left out: -e git+https://example.org/x#egg=x (requirements.txt:4): it does not come from an index",
        "cannot be had: lib>=2 (requirements.txt:2): no such version was there;"
        " nearest is 1.1 of 2023-05-01 (Python 3.11); first possible with 2.0 of 2023-07-01 (Python 3.11)",
        "cannot be had: young (requirements.txt:3): the index had no such project;"
        " first possible with 0.1 of 2024-01-01 (Python 3.11)",
        "Python 3.11: no wheel and no source distribution of native",
        "Python 3.10: 1 releases",
        "Python 3.9: 1 releases",
        *(f"Python 3.{minor}: no wheel and no source distribution of native" for minor in (8, 7, 6)),
        "  native==1.1, uploaded 2023-03-01T00:00:00.000000Z",
        "install it:",
        f"  uv venv --python 3.10 && uv pip install --default-index {mirror.url}/{DATE}/ native",
    ]


def test_requirements_that_exclude_each_other(found: Found) -> None:
    document = found("clash\nlib>=1.1\n", python="3.11", code=1)
    [tried] = document["pythons"]
    assert "clash" in tried["problem"]
    assert document["install"] is None


def test_constraints_and_hashes_count(found: Found, tmp_path: Path) -> None:
    (tmp_path / "limits.txt").write_text("lib<1.1")
    right = f"sha256:{wheel('lib', '1.0').sha256}"
    document = found(f"app\n-c limits.txt\nlib --hash={right}", python="3.11")
    assert versions(document) == {"app": "1.0", "lib": "1.0"}
    assert document["install"].endswith(f" -r {tmp_path / 'requirements.txt'}")
    document = found(f"lib==1.0 --hash=sha256:{'0' * 64}\n", python="3.11", code=1)
    assert "has no file with a hash that requirements.txt:1 allows" in document["pythons"][0]["problem"]


def test_guesses(resurrect: Resurrect, mirror: Mirror, tmp_path: Path) -> None:
    """What is imported is left out if there is no project of that name, and a version that conda names is asked for."""
    (tmp_path / "main.py").write_text("import lib, own, other_thing\n")
    (tmp_path / "own.py").write_text("")
    ran = resurrect(mirror, tmp_path, json=True, python="3.11")
    document = json.loads(ran.stdout)
    assert (ran.code, versions(document)) == (0, {"lib": "1.1"})
    assert [each["text"] for each in document["left_out"]] == ["other-thing"]
    (tmp_path / "environment.yml").write_text("dependencies: [python=3.11, lib=1.0, readline]")
    ran = resurrect(mirror, requirements=str(tmp_path / "environment.yml"), json=True)
    assert (ran.code, versions(json.loads(ran.stdout))) == (0, {"lib": "1.0"})


def test_it_is_installed(mirror: Mirror, tmp_path: Path) -> None:
    """As an operator runs it."""
    (tmp_path / "requirements.txt").write_text("app\n")
    arguments: list[str | Path] = [
        tmp_path,
        "--as-of",
        DATE,
        "--mirror",
        mirror.url,
        "--run",
        "--folder",
        tmp_path / "made",
    ]
    ran = run("resurrect", *arguments, "--python", "{}.{}".format(*sys.version_info), environment={"PATH": PATH})
    assert ran.returncode == 0, ran.stderr
    test = "import lib, app; print(lib.version, app.version)"
    said = subprocess.run([tmp_path / "made/venv/bin/python", "-c", test], capture_output=True, text=True, check=True)
    assert said.stdout == "1.1 1.0\n"


def test_a_python_that_cannot_be_installed(resurrect: Resurrect, mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("app\n")
    with pytest.raises(MirrorError, match=r"Python 3\.99 is not here, and uv cannot install it: "):
        resurrect(mirror, tmp_path, python="3.99", run=True, folder=str(tmp_path / "made"))


WRONG: dict[str, tuple[list[str], dict[str, Any], dict[str, str], str]] = {
    "nothing": ([], {}, {}, "asks for nothing that an index may have"),
    "only what is left out": ([], {}, {"requirements.txt": "-e ../x"}, "requirements.txt:1: it is a file or folder"),
    "several": ([], {}, {"requirements-a.txt": "a", "requirements-b.txt": "b"}, "name one of requirements-a.txt, req"),
    "no folder": (["gone"], {}, {}, "gone is not a folder: name a requirements file with -r"),
    "no file": ([], {"requirements": "gone.txt"}, {}, "gone.txt cannot be read: No such file"),
    "two folders": ([".", "."], {}, {}, "name one folder, or a requirements file with -r"),
    "folder and file": (["."], {"requirements": "x"}, {}, "name one folder, or a requirements file with -r"),
    "no version": ([], {"python": "py3"}, {"requirements.txt": "app"}, "--python py3: use a version such as 3.8"),
    "an old Python": ([], {}, {"setup.py": "setup(install_requires=['app'], python_requires='<3')"}, "is in <3"),
    "live": ([], {"as_of": "live"}, {"requirements.txt": "app"}, "--as-of live: write a date"),
    "no date": ([], {"as_of": "2023-13-01"}, {"requirements.txt": "app"}, "2023-13-01"),
    "the future": ([], {"as_of": "2999-01-01"}, {"requirements.txt": "app"}, "is in the future"),
    "no mirror": ([], {}, {"requirements.txt": "app"}, "the mirror cannot be reached"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_it_cannot_do(case: str, resurrect: Resurrect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("httpcache.command.asking.TRIES", 1)
    path, given, files, wanted = WRONG[case]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(MirrorError) as raised:
        resurrect(None, *path, **given)
    assert wanted in raised.value.text


def test_without_uv(tmp_path: Path) -> None:
    assert "install uv" in told(run("resurrect", tmp_path, environment={"PATH": "/usr/bin:/bin"}))
