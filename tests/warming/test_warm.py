"""`httpcache warm`: what builds will ask for is there when the upstream is not, and what is not there is named."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import http
from tests.support.clients import CLIENTS, NOWHERE, PIP, POETRY, POETRY_1, UV, Clients, pins
from tests.support.command import run, told
from tests.support.index import document
from tests.support.mirror import Mirror
from tests.support.npm import NpmClients, NpmRegistry
from tests.support.packages import Dist, sdist, wheel
from tests.support.registries import PyPI
from tests.support.upstream import Response, Upstream

LIB = wheel("Some.Lib", "1.0", requires_python=">=3.8")
LIB_SOURCE = sdist("some-lib", "1.0", requires_python=">=3.8")
APP = wheel("app", "1.0", ["some-lib>=1"], requires_python=">=3.8")
OTHER = wheel("other", "1.0")
DATE = "2024-01-04"


@pytest.fixture
def filled(pypi: PyPI) -> PyPI:
    for dist in (LIB, LIB_SOURCE, APP, OTHER):
        pypi.upload(dist, "2024-01-01T00:00:00Z")
    return pypi


def warm(mirror: Mirror, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command, with uv at hand."""
    path = f"{CLIENTS / 'current/bin'}:/usr/bin:/bin"
    return run("warm", *arguments, "--mirror", mirror.url, environment={"PATH": path}, seconds=120)


def missing(mirror: Mirror, lock: Path, *where: str) -> list[str]:
    """What `httpcache lock --check` finds to be missing."""
    ran = run("lock", "--check", lock, *where, "--json", "--mirror", mirror.url)
    *rows, total = map(json.loads, ran.stdout.splitlines())
    assert ran.returncode == (1 if rows else 0), ran.stderr
    assert total["total"]["missing"] == len(rows)
    return [row["name"] for row in rows]


def locked_with(tool: str, index: str, clients: Clients) -> Path:
    """A file that a tool has written for a project that wants `app`."""
    home = clients.place()
    (home / "in").write_text("app\n")
    compiled = ("pip", "compile", "--quiet", "--generate-hashes", "--python", PIP[0], "--index-url", index, "in", "-o")
    match tool:
        case "requirements.txt":
            clients.run(UV, *compiled, "requirements.txt", home=home).checked()
        case "pylock.toml":
            clients.run(UV, *compiled, "pylock.toml", home=home).checked()
        case "uv.lock":
            project = '[project]\nname = "project"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = ["app"]\n'
            (home / "pyproject.toml").write_text(project)
            clients.run(UV, "lock", "--quiet", "--index-url", index, home=home).checked()
        case "poetry.lock" | "poetry.lock of Poetry 1":
            poetry = POETRY if tool == "poetry.lock" else POETRY_1
            return clients.poetry_lock(index, ["app"], poetry=poetry) / "poetry.lock"
        case "pdm.lock":
            return clients.pdm_lock(index, ["app"]) / "pdm.lock"
        case "Pipfile.lock":
            clients.pipenv_install(index, ["app"])
            return next(path for path in clients.folder.rglob("Pipfile.lock"))
    return home / tool


TOOLS = [
    *("requirements.txt", "pylock.toml", "uv.lock", "poetry.lock", "poetry.lock of Poetry 1", "pdm.lock"),
    "Pipfile.lock",
]


def frozen(mirror: Mirror, *dists: Dist) -> list[str]:
    """Those of the files that the mirror has without its upstream."""
    files = [
        file
        for name in sorted({dist.name for dist in dists})
        for file in document(f"{mirror.at(DATE)}{name}/")["files"]
    ]
    wanted = {dist.filename for dist in dists}
    return sorted(
        file["filename"]
        for file in files
        if file["filename"] in wanted and http.get(mirror.same(file["url"])).status_code == 200
    )


@pytest.mark.parametrize("tool", TOOLS)
def test_lock_files(tool: str, filled: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """Both files of the library are in a lock for any platform; nothing else is asked for.

    `httpcache lock --check` names what is not frozen yet, and fetches nothing.
    """
    lock = locked_with(tool, filled.url, clients)
    running = mirror(filled)
    asked = sum(len(each.requests) for each in filled.upstreams)
    assert missing(running, lock, "--at", DATE) == ["app 1.0", "some-lib 1.0"]  # not even their pages are
    assert sum(len(each.requests) for each in filled.upstreams) == asked
    ran = warm(running, DATE, "-r", lock)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    assert "0 could not be had" in ran.stdout
    again = warm(running, DATE, "-r", lock)
    assert again.stdout.startswith("froze 0 files"), again.stdout
    assert missing(running, lock, "--at", DATE) == []
    for upstream in filled.upstreams:
        upstream.stop()
    assert frozen(running, APP, LIB) == [APP.filename, LIB.filename]
    assert clients.pip_install(running.at(DATE), ["app"]) == pins(APP, LIB)


def test_open_requirements_are_resolved_for_each_environment(
    pypi: PyPI, mirror: Callable[..., Mirror], tmp_path: Path
) -> None:
    tags = ["cp39-cp39-manylinux_2_17_x86_64", "cp312-cp312-manylinux_2_17_x86_64", "cp312-cp312-macosx_11_0_arm64"]
    wheels = [wheel("built", "1.0", tag=tag) for tag in (*tags, "cp312-cp312-win_amd64")]
    only_old = wheel("old", "1.0", requires_python="<3.10")
    for dist in (*wheels, only_old, sdist("built", "1.0")):
        pypi.upload(dist, "2024-01-01T00:00:00Z")
    (tmp_path / "requirements.in").write_text("built\nold; python_version < '3.10'\n")
    running = mirror(pypi)
    arguments = ("-r", tmp_path / "requirements.in", "--python", "3.9", "--python", "3.12")
    ran = warm(running, "pypi", "--at", DATE, *arguments, "--platform", "linux-x86_64")
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    for upstream in pypi.upstreams:
        upstream.stop()
    assert frozen(running, *wheels, only_old) == sorted([wheels[0].filename, wheels[1].filename, only_old.filename])


def test_a_source_distribution_where_no_wheel_fits(pypi: PyPI, mirror: Callable[..., Mirror], tmp_path: Path) -> None:
    source, other = sdist("built", "1.0"), wheel("built", "1.0", tag="cp312-cp312-win_amd64")
    for dist in (source, other):
        pypi.upload(dist, "2024-01-01T00:00:00Z")
    lines = [f"built==1.0 --hash=sha256:{source.sha256} \\", f"    --hash=sha256:{other.sha256}"]
    (tmp_path / "requirements.txt").write_text("\n".join(lines))
    running = mirror(pypi)
    ran = warm(running, DATE, "-r", tmp_path / "requirements.txt", "--platform", "musl-aarch64", "--python", "3.11")
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    pypi.files.stop()
    assert frozen(running, source, other) == [source.filename]


def test_names_of_projects(pypi: PyPI, mirror: Callable[..., Mirror], tmp_path: Path) -> None:
    old, new, pre = wheel("demo", "1.0"), wheel("demo", "2.0"), wheel("demo", "3.0rc1")
    for dist in (old, new, pre):
        pypi.upload(dist, "2024-01-01T00:00:00Z")
    (tmp_path / "names").write_text("# the top\nDemo  # comment\n\nmissing\n")
    running = mirror(pypi)
    ran = warm(running, DATE, "--projects", tmp_path / "names")
    assert ran.returncode == 1
    assert ran.stderr.startswith("httpcache: missing: 404: ")
    pypi.files.stop()
    assert frozen(running, old, new, pre) == [new.filename]


def test_a_pin(upstream: Upstream, server: Mirror, pin: str, tmp_path: Path) -> None:
    upstream.pages = {"/one": Response(b"1"), "/two?a=b#": Response(b"2")}
    (tmp_path / "urls").write_text(f"# files\n{upstream.url}/one\n\n{upstream.url}/gone\n")
    ran = warm(server, pin, "--urls", tmp_path / "urls")
    assert ran.returncode == 1
    assert ran.stdout == "froze 1 files (1 B); 0 (0 B) were there already; 1 could not be had\n"
    [line] = ran.stderr.splitlines()
    assert line.startswith(f"httpcache: {upstream.url}/gone: 404: ")
    upstream.stop()
    assert http.get(server.pin(pin, f"{upstream.url}/one")).content == b"1"


@pytest.mark.parametrize("resolved", [True, False], ids=["resolved", "omit-lockfile-registry-resolved"])
def test_npm(resolved: bool, upstream: Upstream, server: Mirror, pin: str, tmp_path: Path, clients: Clients) -> None:
    registry = NpmRegistry(upstream)
    registry.publish("@scope/lib", "1.0.0")
    registry.publish("app", "1.0.0", dependencies={"@scope/lib": "^1.0.0"})
    home = clients.place()
    npm = NpmClients(clients)
    npm.install("npm", registry.url, {"app": "1.0.0"}, home=home)
    lock = home / "package-lock.json"
    if not resolved:
        packages = json.loads(lock.read_text())
        for package in packages["packages"].values():
            package.pop("resolved", None)
        lock.write_text(json.dumps(packages))
    where = ("--index", f"{pin}/{registry.url}")
    assert missing(server, lock, *where) == ["@scope/lib 1.0.0", "app 1.0.0"]
    ran = warm(server, f"{pin}/{registry.url}", "-r", lock)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    assert ran.stdout.startswith("froze 2 files")
    assert missing(server, lock, *where) == []
    upstream.stop()
    for name in ("@scope/lib", "app"):
        tarball = f"{registry.url}{name}/-/{name.rpartition('/')[2]}-1.0.0.tgz"
        assert http.get(server.pin(pin, tarball)).status_code == 200


UNMET = {
    "a project that is not there": ("missing==1.0 --hash=sha256:00", "missing 1.0: 404: "),
    "a version that is not there": ("other==2.0 --hash=sha256:00", "other 2.0: the index has no file of it"),
    "another hash": ("other==1.0 --hash=sha256:00", "other 1.0: the index has no file of it with a locked hash"),
    "an address": ("other @ https://example.com/o.whl", "other: it does not come from an index but from https://exam"),
    "what cannot be resolved": ("other>5", "requirements.txt for Python 3.12 on "),
}


@pytest.mark.parametrize("case", UNMET)
def test_what_cannot_be_had_is_named(case: str, filled: PyPI, mirror: Callable[..., Mirror], tmp_path: Path) -> None:
    line, wanted = UNMET[case]
    (tmp_path / "requirements.txt").write_text(f"{line}\n")
    ran = warm(mirror(filled), DATE, "-r", tmp_path / "requirements.txt", "--python", "3.12")
    assert ran.returncode == 1
    [said] = ran.stderr.splitlines()
    assert wanted in said
    assert "1 could not be had" in ran.stdout


def test_a_file_for_no_such_environment(pypi: PyPI, mirror: Callable[..., Mirror], tmp_path: Path) -> None:
    only = wheel("built", "1.0", tag="cp312-cp312-win_amd64")
    pypi.upload(only, "2024-01-01T00:00:00Z")
    (tmp_path / "requirements.txt").write_text(f"built==1.0 --hash=sha256:{only.sha256}\n")
    arguments = ("--python", "3.12", "--platform", "linux-x86_64", "--platform", "windows-amd64")
    running, path = mirror(pypi), tmp_path / "requirements.txt"
    ran = warm(running, DATE, "-r", path, *arguments)
    assert ran.returncode == 1
    assert ran.stderr == "httpcache: built 1.0: none of its files is for Python 3.12 on linux-x86_64\n"
    assert ran.stdout.startswith("froze 2 files")
    size = len(only.data) + len(only.metadata)
    assert [json.loads(line) for line in warm(running, DATE, "-r", path, *arguments, "--json").stdout.splitlines()] == [
        {"name": "built 1.0", "reason": "none of its files is for Python 3.12 on linux-x86_64"},
        {"total": {"frozen": 0, "frozen_bytes": 0, "had": 2, "had_bytes": size, "unmet": 1}},
    ]


def test_what_markers_exclude_is_not_wanted(filled: PyPI, mirror: Callable[..., Mirror], tmp_path: Path) -> None:
    line = f"other==1.0 ; sys_platform == 'win32' --hash=sha256:{OTHER.sha256}\n"
    (tmp_path / "requirements.txt").write_text(line)
    running = mirror(filled)
    ran = warm(running, DATE, "-r", tmp_path / "requirements.txt", "--platform", "linux-x86_64")
    assert ran.stdout == "froze 0 files (0 B); 0 (0 B) were there already; 0 could not be had\n"
    ran = warm(running, DATE, "-r", tmp_path / "requirements.txt", "--platform", "windows-amd64")
    assert ran.stdout.startswith("froze 2 files")


def test_a_mirror_that_asks_for_a_login(upstream: Upstream, server: Mirror, pin: str, tmp_path: Path) -> None:
    """The login of the address goes to the mirror, and from there to the upstream."""
    upstream.auth = ("user", "password")
    upstream.pages["/private"] = Response(b"1")
    (tmp_path / "urls").write_text(f"{upstream.url}/private\n")
    mirror = f"http://user:password@{urlsplit(server.url).netloc}"
    ran = run("warm", pin, "--urls", tmp_path / "urls", "--mirror", mirror)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "password" not in ran.stdout


WRONG = {
    "no file": ([], "nothing to warm"),
    "a file that is not there": (["-r", "nowhere.txt"], "nowhere.txt cannot be read"),
    "not a lock": (["-r", "other.json"], "is no lock or requirements file of a known kind"),
    "a broken lock": (["-r", "uv.lock"], "uv.lock cannot be read as a lock file"),
    "a Python": (["-r", "uv.lock", "--python", "2.7"], "--python 2.7: use a version of Python 3, such as 3.12"),
    "a platform": (["-r", "uv.lock", "--platform", "vax"], "--platform vax: use one of linux-x86_64, "),
    "two dates": (["-r", "uv.lock", "--at", "2024-01-01"], "has a date already"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_it_cannot_do(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "uv.lock").write_text("[[package]]\nname = 1\n")
    (tmp_path / "other.json").write_text("{}")
    arguments, wanted = WRONG[case]
    assert wanted in told(run("warm", DATE, *arguments))


def test_a_mirror_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "urls").write_text("https://example.com/file\n")
    ran = run("warm", "tools-2024-01-02", "--urls", tmp_path / "urls", "--mirror", NOWHERE)
    assert ran.returncode == 1
    assert "the mirror cannot be reached" in ran.stderr
    assert "is it running?" in ran.stderr
