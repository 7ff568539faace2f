"""What an operator's rules withhold at every date, and what has no cooldown: the real server with real clients."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support import http
from tests.support.clients import ClientError, Clients
from tests.support.command import run, told
from tests.support.index import BROWSER, ago, ask, document, filenames, instant
from tests.support.mirror import Mirror, free_port
from tests.support.packages import wheel
from tests.support.registries import PyPI

DATE = "2024-01-02"
OLD = "2023-06-01T00:00:00Z"
GOOD, BAD = wheel("demo", "1.0"), wheel("demo", "1.1")
OTHER = wheel("other", "1.0")


@pytest.fixture
def ruled(pypi: PyPI, mirror: Callable[..., Mirror], tmp_path: Path) -> Callable[[str], Mirror]:
    """A mirror in front of a PyPI with three files, under rules."""
    for dist in (GOOD, BAD, OTHER):
        pypi.upload(dist, OLD)

    def start(rules: str) -> Mirror:
        (tmp_path / "rules.toml").write_text(rules)
        return mirror(pypi, "--config", str(tmp_path / "rules.toml"))

    return start


def links(running: Mirror, pypi: PyPI, *dists: object) -> list[str]:
    """The addresses of files, whether they are listed or not."""
    return [
        f"{running.url}/files/{dist.name}/{hashlib.sha256(dist.data).hexdigest()}/{dist.filename}"  # type: ignore[attr-defined]
        for dist in dists
    ]


def withheld(address: str) -> str:
    """The text of a file that is refused, and so is its metadata."""
    assert http.get(f"{address}.metadata").status_code == 403
    answer = http.get(address)
    assert answer.status_code == 403
    assert "withheld" in answer.text
    return answer.text


def block(**keys: str) -> str:
    return "[[block]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


@pytest.mark.parametrize("address", [DATE, "live", "live-7d"])
@pytest.mark.parametrize("by", ["version", "sha256"])
def test_a_file_is_withheld(by: str, address: str, ruled: Callable[[str], Mirror], pypi: PyPI) -> None:
    """At every date, by the page and by the file's own address, whether it was frozen before or not."""
    what = {"sha256": hashlib.sha256(BAD.data).hexdigest()} if by == "sha256" else {"project": "Demo", "versions": ">1"}
    running = ruled("")
    good, bad = links(running, pypi, GOOD, BAD)
    assert filenames(f"{running.at(address)}demo/") == [GOOD.filename, BAD.filename]
    assert http.get(bad).content == BAD.data
    running.stop()
    running = ruled(block(**what, reason="steals credentials"))
    good, bad = links(running, pypi, GOOD, BAD)
    page = document(f"{running.at(address)}demo/")
    assert [file["filename"] for file in page["files"]] == [GOOD.filename]
    assert page["versions"] == ["1.0"]
    assert "steals credentials" in withheld(bad)
    assert http.get(good).content == GOOD.data
    assert filenames(f"{running.at(address)}other/") == [OTHER.filename]


def test_a_project_is_withheld(ruled: Callable[[str], Mirror], pypi: PyPI) -> None:
    """It is quarantined here (PEP 792): a page without files that says why, and not on the list."""
    running = ruled(block(project="demo", reason="a <b>worm</b>"))
    page = document(f"{running.at(DATE)}demo/")
    assert page["files"] == page["versions"] == []
    assert page["project-status"]["status"] == "quarantined"
    assert "a <b>worm</b>" in page["project-status"]["reason"]
    assert "<b>" not in ask(f"{running.at(DATE)}demo/", BROWSER).text
    for dist in links(running, pypi, GOOD, BAD):
        assert "worm" in withheld(dist)
    listed = [project["name"] for project in document(running.at("live"))["projects"]]
    assert listed == ["other"]


def test_an_exception(ruled: Callable[[str], Mirror], pypi: PyPI) -> None:
    running = ruled(
        block(project="demo", reason="evil") + '[[allow]]\nproject = "demo"\nversions = "==1.0"\nreason = "audited"\n'
    )
    good, bad = links(running, pypi, GOOD, BAD)
    assert filenames(f"{running.at(DATE)}demo/") == [GOOD.filename]
    assert http.get(good).content == GOOD.data
    assert "evil" in withheld(bad)
    assert "audited" in running.log()


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_advisories(packed: bool, ruled: Callable[[str], Mirror], pypi: PyPI, tmp_path: Path) -> None:
    """OSV: malware by default, other advisories where they are asked for."""
    affected = {"package": {"ecosystem": "PyPI", "name": "demo"}}
    malware = {"id": "MAL-2024-1", "affected": [affected | {"versions": ["1.1"]}], "summary": "it is evil"}
    weakness = {"id": "PYSEC-2024-2", "affected": [affected | {"versions": ["1.0"]}]}
    folder = tmp_path / "osv"
    folder.mkdir()
    for advisory in (malware, weakness):
        (folder / f"{advisory['id']}.json").write_text(json.dumps(advisory | {"modified": "2024-01-01T00:00:00Z"}))
    if packed:
        with zipfile.ZipFile(tmp_path / "osv.zip", "w") as archive:
            for path in folder.iterdir():
                archive.write(path, path.name)
    rules = f'[[advisories]]\npath = "osv{".zip" if packed else ""}"\n'
    running = ruled(rules)
    assert filenames(f"{running.at(DATE)}demo/") == [GOOD.filename]
    assert "MAL-2024-1" in withheld(links(running, pypi, BAD)[0])
    running.stop()
    running = ruled(rules + 'ids = ["MAL-", "PYSEC-"]\n')
    assert filenames(f"{running.at(DATE)}demo/") == []


def test_the_registry_quarantines(ruled: Callable[[str], Mirror], pypi: PyPI) -> None:
    """As soon as that is observed, earlier dates have no files either; lifted, they are back."""
    running = ruled("")
    assert filenames(f"{running.at(DATE)}demo/") == [GOOD.filename, BAD.filename]
    pypi.set_status("demo", "quarantined", "under investigation")
    document(f"{running.at('live')}demo/")
    page = document(f"{running.at(DATE)}demo/")
    assert page["files"] == []
    assert page["project-status"] == {"status": "quarantined", "reason": "under investigation"}
    assert "under investigation" in withheld(links(running, pypi, GOOD)[0])
    pypi.set_status("demo", "active")
    document(f"{running.at('live')}demo/")
    assert filenames(f"{running.at(DATE)}demo/") == [GOOD.filename, BAD.filename]


def test_no_cooldown(ruled: Callable[[str], Mirror], pypi: PyPI) -> None:
    new = {name: wheel(name, "2.0") for name in ("demo", "other")}
    running = ruled('[cooldown]\nexempt = ["Other"]\n')
    for dist in new.values():
        pypi.upload(dist, ago(hours=1))
    assert new["demo"].filename not in filenames(f"{running.at('live-7d')}demo/")
    assert new["other"].filename in filenames(f"{running.at('live-7d')}other/")


def test_pip_installs_what_is_left(ruled: Callable[[str], Mirror], clients: Clients) -> None:
    running = ruled(block(project="demo", versions="==1.1", reason="evil") + block(project="other", reason="evil"))
    assert clients.install("pip", running.at(DATE), ["demo"])["demo"].version == "1.0"
    with pytest.raises(ClientError):
        clients.install("pip", running.at(DATE), ["other"])


@pytest.mark.parametrize(
    "rules",
    [
        "block", "[blocks]\n", "[[block]]\n", block(project="demo", versions="nonsense"), block(sha256="ab"),
        '[[allow]]\nproject = "demo"\n', "[cooldown]\nexempt = 1\n", '[[advisories]]\npath = "nowhere"\n', None,
    ],
)  # fmt: skip
def test_rules_that_make_no_sense(rules: str | None, tmp_path: Path) -> None:
    """They stop the start: a rule that is not in force would be worse."""
    path = tmp_path / "rules.toml"
    if rules is not None:
        path.write_text(rules)
    arguments: list[str | Path] = ["--port", f"{free_port()}", "--data", tmp_path / "data", "--config", path]
    assert "nowhere" in (text := told(run("serve", *arguments))) or "rules.toml" in text
    assert not (tmp_path / "data").exists()


# What was observed


def test_history(ruled: Callable[[str], Mirror], pypi: PyPI) -> None:
    running = ruled("")
    document(f"{running.at('live')}demo/")
    pypi.yank(BAD, "broken\x1b[31m")
    document(f"{running.at('live')}demo/")
    pypi.delete(GOOD)
    document(f"{running.at(instant())}demo/")
    ran = run("history", "--data", running.data, "Demo")
    assert ran.returncode == 0
    lines = [line for line in ran.stdout.splitlines() if "already gone" not in line]  # which comes when it comes
    assert lines[0].startswith("2023-06-01T00:00:00Z")
    today = datetime.now(UTC).date().isoformat()
    assert [line[:10] for line in lines[-2:]] == [today] * 2
    assert "yanked" in lines[-2]
    assert "gone" in lines[-1]
    assert "\x1b" not in ran.stdout
    assert "has not been observed" in told(run("history", "--data", running.data, "nothing"))
