"""`httpcache copy`: a mirror moves to another store with all that it has, as often as one wants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import http
from tests.support.command import run, told
from tests.support.index import PIP, ask
from tests.support.inside import checked_records, damage_body
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.upstream import Upstream

BIG = bytes(range(256)) * 100


@pytest.fixture
def source(upstream: Upstream, pypi: PyPI, mirror: Callable[..., Mirror]) -> Mirror:
    """A mirror that has frozen some files and observed a project."""
    upstream.pages |= {"/small": b"small", "/big": BIG, "/empty": b""}
    pypi.upload(wheel("demo", "1.0", padding=30_000), "2023-06-01T00:00:00Z")
    running = mirror(pypi)
    fill(running, upstream)
    return running


def fill(running: Mirror, upstream: Upstream) -> None:
    for name in ("small", "big", "empty"):
        assert http.get(running.pin("a-2024-01-02", f"{upstream.url}/{name}")).status_code == 200
    assert ask(f"{running.at('2023-07-01')}demo/", PIP).status_code == 200


def test_a_copy_answers_as_its_source_does(
    source: Mirror, upstream: Upstream, pypi: PyPI, tmp_path: Path, mirror: Callable[..., Mirror]
) -> None:
    """While the source serves; without any upstream."""
    page = ask(f"{source.at('2023-07-01')}demo/", PIP).json()
    files = [http.get(source.same(file["url"])).content for file in page["files"]]
    ran = run("copy", source.data, tmp_path / "copy")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "were there already" in ran.stdout
    pypi.index.stop()
    pypi.files.stop()
    upstream.stop()
    other = Mirror(tmp_path / "other", pypi.url)
    (tmp_path / "copy").rename(other.data)
    other.start("--offline")
    try:
        for name, body in (("small", b"small"), ("big", BIG), ("empty", b"")):
            assert http.get(other.pin("a-2024-01-02", f"{upstream.url}/{name}")).content == body
        assert ask(f"{other.at('2023-07-01')}demo/", PIP).json() == page
        assert [http.get(other.same(file["url"])).content for file in page["files"]] == files
        other.stop()
    finally:
        other.kill()


def test_a_second_copy_takes_what_came_since(source: Mirror, upstream: Upstream, tmp_path: Path) -> None:
    run("copy", source.data, tmp_path / "copy")
    before = run("ls", "--data", tmp_path / "copy").stdout
    again = run("copy", source.data, tmp_path / "copy")
    assert again.stdout.startswith("copied 0 entries and 0 B")
    upstream.pages["/new"] = b"new"
    http.get(source.pin("b-2024-01-02", f"{upstream.url}/new"))
    third = run("copy", source.data, tmp_path / "copy")
    assert third.stdout.startswith("copied 1 entries and 3 B")
    assert "b-2024-01-02" in run("ls", "--data", tmp_path / "copy").stdout
    assert before == run("ls", "--data", source.data).stdout.replace(
        run("ls", "--data", source.data).stdout.splitlines()[1] + "\n", ""
    )


def test_what_is_damaged_is_named_and_not_copied(source: Mirror, tmp_path: Path) -> None:
    source.stop()
    damage_body(source.data, BIG, lambda path: path.write_bytes(BIG[::-1]))
    damage_body(source.data, b"small", lambda path: path.write_bytes(b"smoll"))
    ran = run("copy", source.data, tmp_path / "copy")
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 2
    assert ran.stderr.count("damaged") == 2
    assert checked_records(tmp_path / "copy")


def test_another_mirror_is_not_written_to(source: Mirror, upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    other = mirror()
    http.get(other.pin("c", f"{upstream.url}/small"))
    assert "another mirror" in told(run("copy", source.data, other.data))
    assert "a-2024-01-02" not in run("ls", "--data", other.data).stdout


def test_a_folder_that_is_no_mirror(tmp_path: Path) -> None:
    assert "is not the data folder" in told(run("copy", tmp_path, tmp_path / "copy"))
