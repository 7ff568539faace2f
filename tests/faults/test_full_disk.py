"""A disk that is full, with a real one of a few megabytes: what is frozen is served, nothing else is harmed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support import http
from tests.support.command import run
from tests.support.inside import checked_records, until
from tests.support.mirror import Mirror
from tests.support.upstream import Request, Response, Upstream

SIZE: Final = 6_000_000
BODY: Final = 400_000
PATIENCE: Final = 15.0
"""Seconds for an answer that takes a hundredth of one: a bound against hanging."""


class Disk:
    """A file system of its own, with a mirror's data folder and ballast on it."""

    def __init__(self, folder: Path) -> None:
        """Mount it; skips the test where that is not allowed."""
        self.folder = folder
        self.ballast = folder / "ballast"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
        mounted = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        if mounted.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")

    def unmount(self) -> None:
        """Give it back."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True, timeout=20)

    def fill(self) -> None:
        """Leave no byte."""
        with self.ballast.open("ab", buffering=0) as file:
            for block in (65536, 4096, 1):
                try:
                    while True:
                        file.write(bytes(block))
                except OSError:
                    continue
        assert shutil.disk_usage(self.folder).free == 0

    def empty(self) -> None:
        """Make room."""
        self.ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A small disk."""
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    disk = Disk(tmp_path / "disk")
    yield disk
    disk.unmount()


@pytest.fixture
def server_on(tmp_path: Path, disk: Disk) -> Iterator[Mirror]:
    """A mirror with its data on the disk and its log elsewhere, not started."""
    mirror = Mirror(tmp_path / "mirror")
    mirror.data = disk.folder / "data"
    yield mirror
    mirror.kill()


def body(path: str, generation: str = "first") -> bytes:
    """The bytes of a path; below `/small` so few that they fit where nothing else does."""
    return f"{path} {generation}\n".encode().ljust(100 if path.startswith("/small") else BODY, b".")


@pytest.fixture
def source(upstream: Upstream) -> Upstream:
    """An upstream with files of every name; those below `/chunked` come without a length."""

    def page(request: Request) -> Response:
        found = body(request.path)
        return Response([found[:BODY], found[BODY:]] if request.path.startswith("/chunked") else found)

    upstream.otherwise = page
    return upstream


def ask(address: str) -> bytes | None:
    """A whole body; None for a break or an error that says that the disk is full."""
    try:
        answer = http.get(address, timeout=PATIENCE)
    except httpx.TimeoutException:
        raise AssertionError(f"no answer in {PATIENCE} s from {address}") from None
    except httpx.TransportError:
        return None
    if answer.status_code == 200:
        return answer.content
    assert (answer.status_code, "full" in answer.text) == (507, True), (answer.status_code, answer.text)
    return None


def is_ready(mirror: Mirror) -> bool:
    """Whether it answers."""
    try:
        return http.get(f"{mirror.url}/-/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def change(source: Upstream) -> None:
    """From now on the upstream has other bytes everywhere."""
    source.otherwise = lambda request: Response(body(request.path, "second"))


@pytest.mark.parametrize("kind", ["length", "chunked", "small"])
def test_files_fill_the_disk(kind: str, disk: Disk, source: Upstream, server_on: Mirror) -> None:
    """The file that does not fit is an error and leaves nothing; the others stay; with room it goes on by itself."""
    server_on.start()
    pin = "full-2024-01-02"
    if kind == "small":  # of these, thousands would fit: the disk is filled by something else
        assert ask(server_on.pin(pin, f"{source.url}/small/first")) == body("/small/first")
        disk.fill()
    kept: dict[str, bytes] = {}
    for number in count():
        path = f"/{kind}/{number}"
        found = ask(server_on.pin(pin, source.url + path))
        if found is None:
            break
        assert found == body(path)
        kept[path] = found
        assert number < 1000, "the disk is never full"
    change(source)
    assert {path: ask(server_on.pin(pin, source.url + path)) for path in kept} == kept
    assert ask(server_on.pin(pin, f"{source.url}/{kind}/one-more")) is None
    until(lambda: not any((server_on.data / "spool").iterdir()), "a clean spool")
    if kind == "small":
        disk.empty()
    else:
        subprocess.run(["mount", "-o", f"remount,size={3 * SIZE}", str(disk.folder)], check=True, timeout=20)
    for name in (path, f"/{kind}/one-more", f"/{kind}/another"):
        assert ask(server_on.pin(pin, source.url + name)) == body(name, "second")
    assert {name: ask(server_on.pin(pin, source.url + name)) for name in kept} == kept
    server_on.stop()
    assert len(checked_records(server_on.data)) == len(kept) + 3 + (kind == "small")
    assert "Traceback" not in server_on.log()


def test_forget_makes_room_on_a_full_disk(disk: Disk, source: Upstream, server_on: Mirror) -> None:
    """The way out that the operator has: beside the server, on a disk without a free byte."""
    server_on.start()
    for pin in ("old", "new"):
        assert ask(server_on.pin(f"{pin}-2024-01-02", f"{source.url}/length/{pin}")) == body(f"/length/{pin}")
    disk.fill()
    assert ask(server_on.pin("new-2024-01-02", f"{source.url}/length/more")) is None
    forgotten = run("forget", "--data", server_on.data, "old-2024-01-02", "--yes")
    assert forgotten.returncode == 0, forgotten
    assert ask(server_on.pin("new-2024-01-02", f"{source.url}/small/more")) == body("/small/more")
    change(source)
    assert ask(server_on.pin("new-2024-01-02", f"{source.url}/length/new")) == body("/length/new")


def started(mirror: Mirror) -> bool:
    """Start it; return whether it serves. If not, it has ended with one line that says why."""
    mirror.start(ready=False)
    until(lambda: not mirror.running or is_ready(mirror), "a start or an end")
    assert "Traceback" not in mirror.log(), mirror.log()
    if mirror.running:
        return True
    assert mirror.wait(0) == 3  # the store cannot be changed
    mirror.process = None
    assert "httpcache: " in mirror.log(), mirror.log()
    return False


def test_a_first_start_on_a_full_disk(disk: Disk, source: Upstream, server_on: Mirror) -> None:
    """It cannot serve, says so in one line, and leaves nothing that would hinder the next start."""
    disk.fill()
    assert not started(server_on)
    assert "full" in server_on.log() or "No space left" in server_on.log(), server_on.log()
    disk.empty()
    server_on.start()
    assert ask(server_on.pin("first-2024-01-02", f"{source.url}/length/1")) == body("/length/1")


@pytest.mark.parametrize("end", [Mirror.stop, Mirror.kill], ids=["stopped", "killed"])
def test_a_restart_on_a_full_disk(
    end: Callable[[Mirror], None], disk: Disk, source: Upstream, server_on: Mirror
) -> None:
    """It serves what it has, for which room was kept back; with room again all is as it was."""
    server_on.start()
    address = server_on.pin("again-2024-01-02", f"{source.url}/length/1")
    assert ask(address) == body("/length/1")
    end(server_on)
    change(source)
    disk.fill()
    assert started(server_on)
    assert ask(address) == body("/length/1")
    disk.fill()
    assert ask(server_on.pin("again-2024-01-02", f"{source.url}/length/2")) is None
    disk.empty()
    assert ask(address) == body("/length/1")
    assert ask(server_on.pin("again-2024-01-02", f"{source.url}/length/2")) == body("/length/2", "second")
    server_on.stop()
    assert len(checked_records(server_on.data)) == 2
