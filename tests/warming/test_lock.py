"""`httpcache lock`: what pip and uv install from it is what the mirror froze, and from the mirror alone."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from httpcache.errors import MirrorError
from pypi_adapter.warming.locking import check
from tests.support import http
from tests.support.clients import CLIENTS, NOWHERE, PIP, UV, Clients
from tests.support.command import run
from tests.support.index import document, shared_pypi
from tests.support.keys import make
from tests.support.mirror import Mirror
from tests.support.packages import sdist, wheel
from tests.support.registries import PyPI

DATE = "2024-01-04"
LIB = wheel("Some.Lib", "1.0", requires_python=">=3.8")
LIB_SOURCE = sdist("some-lib", "1.0", requires_python=">=3.8")
APP = wheel("app", "1.0", ["some-lib>=1", "built"], requires_python=">=3.8")
LINUX = wheel("built", "1.0", tag="cp311-cp311-manylinux_2_17_x86_64")
WINDOWS = wheel("built", "1.0", tag="cp312-cp312-win_amd64")
PATH = {"PATH": f"{CLIENTS / 'current/bin'}:/usr/bin:/bin"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PyPI, Mirror]]:
    with shared_pypi(tmp_path_factory.mktemp("locked")) as (pypi, mirror):
        for dist in (LIB, LIB_SOURCE, APP, LINUX, WINDOWS):
            pypi.upload(dist, "2024-01-01T00:00:00Z")
        pypi.upload(wheel("some-lib", "2.0"), "2024-02-01T00:00:00Z")
        yield pypi, mirror


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    file = tmp_path / "requirements.txt"
    file.write_text("app\n")
    return file


def lock(mirror: Mirror, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command, with uv at hand."""
    return run("lock", *arguments, "--mirror", mirror.url, environment=PATH)


def files(path: Path) -> dict[str, tuple[str, str]]:
    """The address and the sha256 of each file in a lock, by its name."""
    return {
        file["url"].rpartition("/")[2]: (file["url"], file["hashes"]["sha256"])
        for package in tomllib.loads(path.read_text())["packages"]
        for file in [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
    }


def test_pip_and_uv_install_from_it(
    place: tuple[PyPI, Mirror], requirements: Path, clients: Clients, tmp_path: Path
) -> None:
    """With empty caches, and without any index; what they install has the hashes of what was frozen."""
    (pypi, running), locked = place, tmp_path / "pylock.toml"
    python = ("--python", "3.11", "--platform", "linux-x86_64")
    ran = lock(running, "-r", requirements, "--at", DATE, *python, "-o", locked)
    assert (ran.returncode, ran.stderr, ran.stdout) == (0, "", f"wrote {locked}\n")
    dists = {dist.filename: dist for dist in (APP, LIB, LIB_SOURCE, LINUX)}
    assert files(locked) == {
        name: (f"{running.url}/files/{dist.name}/{dist.sha256}/{name}", dist.sha256) for name, dist in dists.items()
    }
    assert locked.read_text().startswith(f"# what 'requirements.txt' resolves to at {running.url}/{DATE}/, ")
    checked = ("--check", locked, "--at", DATE)
    assert lock(running, *checked).returncode == 1
    with_pip, with_uv, with_sync = clients.place(), clients.place(), clients.place()
    options = ("--no-index", "--report", "report.json", "--target", "target")
    clients.run(*PIP, "install", "-r", locked, *options, home=with_pip).checked()
    report = json.loads((with_pip / "report.json").read_text())["install"]
    installed = {each["download_info"]["url"]: each["download_info"]["archive_info"]["hashes"] for each in report}
    assert installed == {url: {"sha256": sha256} for name, (url, sha256) in files(locked).items() if ".whl" in name}
    for home, words in ((with_uv, ("install", "-r")), (with_sync, ("sync",))):
        where = ("--no-index", "--python", PIP[0], "--target", "target")
        clients.run(UV, "pip", *words, locked, *where, home=home).checked()
        assert (home / "target/some_lib-1.0.dist-info").is_dir()
    assert not pypi.index.strangers
    assert not pypi.files.strangers
    for dist in (APP, LIB, LINUX):
        address = f"{running.url}/files/{dist.name}/{dist.sha256}/{dist.filename}"
        assert http.get(address, headers={"Cache-Control": "only-if-cached"}).content == dist.data
    ran = lock(running, *checked)
    assert ran.returncode == 1
    assert ran.stdout == f"{LIB_SOURCE.filename}: not frozen here\n3 frozen here, 1 missing\n"
    assert lock(running, *checked, *python).returncode == 0


def test_one_hash_that_is_another(
    place: tuple[PyPI, Mirror], requirements: Path, clients: Clients, tmp_path: Path
) -> None:
    (_, running), locked = place, tmp_path / "pylock.toml"
    assert lock(running, "-r", requirements, "--at", DATE, "--python", "3.11", "-o", locked).returncode == 0
    locked.write_text(locked.read_text().replace(f'sha256 = "{LIB.sha256}"', f'sha256 = "{APP.sha256}"'))
    for command in ((*PIP, "install", "--target", "t", "-r"), (UV, "pip", "install", "--target", "t", "-r")):
        failed = clients.run(*command, locked, home=clients.place())
        assert failed.code != 0
        assert "hash" in failed.errors.lower()
    document(f"{running.at(DATE)}some-lib/")
    wanted = f"some-lib 1.0: the index has no file of it with the locked sha256:{APP.sha256}\n"
    assert wanted in lock(running, "--check", locked, "--at", DATE).stdout


@pytest.mark.parametrize("at", ["live", "2024-02-02T00:00:01Z"])
def test_other_dates_have_other_versions_at_the_same_addresses(
    at: str, place: tuple[PyPI, Mirror], requirements: Path
) -> None:
    ran = lock(place[1], "-r", requirements, "--at", at)
    assert ran.returncode == 0, ran.stderr
    versions = {each["name"]: each["version"] for each in tomllib.loads(ran.stdout)["packages"]}
    assert versions == {"app": "1.0", "built": "1.0", "some-lib": "2.0"}


WRONG = {
    "nothing": ([], "name requirements to lock (-r), or a lock file to look for (--check)"),
    "both": (["-r", "requirements.txt", "--check", "pylock.toml"], "name requirements to lock (-r), or a lock file"),
    "no date": (["-r", "requirements.txt"], "name the date with --at"),
    "two dates": (["-r", "requirements.txt", "--index", "2024-01-02", "--at", DATE], "has a date already"),
    "no such file": (["-r", "none.txt", "--at", DATE], "none.txt"),
    "nothing that resolves": (["-r", "wrong.txt", "--at", DATE], "it cannot be resolved"),
    "two environments": (
        ["-r", "requirements.txt", "--at", DATE, "--python", "3.9", "--python", "3.10"],
        "a lock file is for one environment",
    ),
    "no such platform": (["-r", "requirements.txt", "--at", DATE, "--platform", "amiga"], "--platform amiga: use one"),
    "a lock of npm": (["-r", "package-lock.json", "--at", DATE], "name a requirements file"),
    "open requirements": (["--check", "requirements.txt", "--at", DATE], "requirements.txt is no lock file"),
    "a lock that cannot be read": (["--check", "pylock.toml", "--at", DATE], "pylock.toml cannot be read"),
}


def test_what_it_cannot_do(
    place: tuple[PyPI, Mirror], requirements: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong.txt").write_text("app>5\n")
    Path("package-lock.json").write_text("{}")
    Path("pylock.toml").write_text("[")
    for case, (arguments, wanted) in WRONG.items():
        ran = lock(place[1], *arguments)
        assert ran.returncode in (1, 2), case
        assert wanted in ran.stderr, case


def test_no_mirror(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(f"app==1.0 --hash=sha256:{APP.sha256}\n")
    ran = run("lock", "--check", tmp_path / "requirements.txt", "--at", DATE, "--mirror", NOWHERE)
    assert ran.returncode == 1
    assert "the mirror cannot be reached" in ran.stdout


SHA256 = "0" * 64
FILE: dict[str, Any] = {"url": "http://mirror/files/a/1/a.whl", "hashes": {"sha256": SHA256}}
LOCKS: dict[str, tuple[dict[str, Any], str | None]] = {
    "a wheel": ({"wheels": [FILE]}, None),
    "a wheel and a source": ({"wheels": [FILE], "sdist": FILE}, None),
    "an address of the mirror": ({"archive": FILE}, None),
    "the port of the scheme": ({"wheels": [FILE | {"url": "http://Mirror:80/files/a/1/a.whl"}]}, None),
    "another host": ({"wheels": [FILE | {"url": "http://other/a.whl"}]}, "does not come from the mirror, but from"),
    "another host behind": ({"sdist": FILE | {"url": "http://mirror.other/a.zip"}}, "does not come from the mirror"),
    "another port": ({"wheels": [FILE | {"url": "http://mirror:81/a.whl"}]}, "does not come from the mirror"),
    "another scheme": ({"archive": FILE | {"url": "https://mirror/a.whl"}}, "does not come from the mirror"),
    "a file on this machine": ({"archive": {"path": "a.whl", "hashes": {}}}, "does not come from the mirror"),
    "a folder": ({"directory": {"path": "."}}, "from a folder or a repository"),
    "a repository": ({"vcs": {"type": "git", "url": "http://mirror/"}}, "from a folder or a repository"),
    "no hash": ({"wheels": [FILE | {"hashes": {}}]}, "announces no sha256"),
    "a weak hash": ({"wheels": [FILE | {"hashes": {"md5": "0" * 32}}]}, "announces no sha256"),
}


@pytest.mark.parametrize("case", LOCKS)
def test_what_a_resolver_may_have_found(case: str) -> None:
    package, wanted = LOCKS[case]
    document = {"packages": [{"name": "fine", "wheels": [FILE]}, {"name": "a", **package}]}
    if wanted is None:
        check(document, "http://mirror/2024-01-02")
        return
    with pytest.raises(MirrorError, match=wanted):
        check(document, "http://mirror/2024-01-02")


@pytest.mark.parametrize("form", ["http://x:{key}@{host}", "http://{key}@{host}", "http://{host}/k/{key}"])
def test_what_runs_uv_has_the_access_key_and_a_lock_file_has_not(
    form: str, place: tuple[PyPI, Mirror], tmp_path: Path, requirements: Path
) -> None:
    served = Mirror(tmp_path / "closed", place[0].url, ["--require-keys"]).start()
    try:
        key = make(served.data)
        mirror = ("--mirror", form.format(key=key, host=served.url.removeprefix("http://")))
        ran = run("lock", "-r", requirements, "--at", DATE, *mirror, environment=PATH)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert key not in ran.stdout
        file = tmp_path / "pylock.toml"
        file.write_text(ran.stdout)
        assert {url.partition("/files/")[0] for url, _ in files(file).values()} == {served.url}
        told = run("diff", DATE, "2024-02-02", "-r", requirements, *mirror, environment=PATH)
        assert (told.returncode, "some-lib: 1.0 -> 2.0" in told.stdout) == (0, True), told.stderr
        assert run("warm", DATE, "-r", file, *mirror, environment=PATH).returncode == 0
        assert run("lock", "--check", file, "--at", DATE, *mirror, environment=PATH).returncode == 0
    finally:
        served.kill()
