"""A data folder that is mounted read-only: all that is in it can be had, and what must write says that it cannot."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from tests.support import http
from tests.support.capture import Here
from tests.support.index import ago
from tests.support.inside import until
from tests.support.mirror import COMMAND, Mirror
from tests.support.packages import wheel
from tests.support.registries import JSON
from tests.support.upstream import Response, Upstream

DATE: Final = f"{datetime.now(UTC):%Y-%m-%d}"
PIN: Final = "kept-2024-01-02"


def mounted(folder: Path, command: str) -> str:
    """A line of the shell that mounts a folder read-only, then runs a command."""
    name = shlex.quote(str(folder))
    return f"mount --bind {name} {name} && mount -o remount,bind,ro {name} && {command}"


def private(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command where a folder is mounted read-only; nothing is seen of that elsewhere."""
    line = ["unshare", "--mount", "sh", "-c", mounted(folder, command)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def kept(here: Here, upstream: Upstream) -> Iterator[Mirror]:
    """A mirror that has frozen a file and answered a date, and is stopped; nothing is behind it any more."""
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("a mount of one's own needs root and unshare")
    upstream.pages["/file"] = b"frozen"
    mirror = here.mirror.start()
    assert http.get(mirror.pin(PIN, f"{upstream.url}/file")).content == b"frozen"
    assert http.get(f"{mirror.at(DATE)}one/", headers={"Accept": JSON}).status_code == 200
    mirror.stop()
    tried = private(mirror.data, "true")
    if tried.returncode:
        pytest.skip(f"no mount of one's own here: {tried.stderr.strip()}")
    yield mirror
    mirror.kill()


def run(mirror: Mirror, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command on the folder, mounted read-only."""
    line = shlex.join([str(COMMAND), *arguments, "--data", str(mirror.data)])
    return private(mirror.data, f"{line} </dev/null")


@pytest.mark.parametrize("left", ["closed", "as a kill left it"])
def test_what_reads_works(left: str, kept: Mirror, upstream: Upstream) -> None:
    if left != "closed":
        kept.start("--offline")
        kept.kill()
        assert (kept.data / "index" / "index.db-shm").exists()
    address = f"/{PIN}/{upstream.url}/file"
    for arguments, wanted in (
        (["ls"], PIN),
        (["ls", PIN], "/file"),
        (["show", address], "sha256"),
        (["verify"], "nothing is damaged"),
        (["history", "one"], "first observation"),
        (["blocks"], ""),
    ):
        done = run(kept, *arguments)
        assert (done.returncode, done.stderr) == (0, ""), arguments
        assert wanted in done.stdout, arguments
    assert "read-only" not in run(kept, "captures").stderr  # there has been none


def test_captures_can_be_listed(here: Here, kept: Mirror) -> None:
    """Two passes, and what they saw of a project."""
    here.capture()
    here.pypi.upload(wheel("one", "2.0"), ago(hours=1))
    here.capture()
    listed, told = run(kept, "captures"), run(kept, "history", "one")
    assert (listed.returncode, listed.stderr, len(listed.stdout.splitlines())) == (0, "", 2)
    assert (told.returncode, told.stderr) == (0, "")
    assert "one-2.0" in told.stdout


@pytest.mark.parametrize("arguments", [["ls"], ["verify"], ["captures"], ["history", "one"]], ids=" ".join)
def test_entries_that_cannot_be_seen_are_told_of(arguments: list[str], kept: Mirror, upstream: Upstream) -> None:
    """A kill leaves the last entries in `-wal`; a copy without `-shm` must not be read as if they were not there."""
    kept.start()
    assert http.get(kept.pin(PIN, f"{upstream.url}/file")).content == b"frozen"
    upstream.pages["/last"] = b"last"
    assert http.get(kept.pin(PIN, f"{upstream.url}/last")).content == b"last"
    kept.kill()
    assert (kept.data / "index" / "index.db-wal").stat().st_size
    (kept.data / "index" / "index.db-shm").unlink()
    done = run(kept, *arguments)
    assert (done.returncode, done.stdout) == (3, "")
    assert "index.db-shm" in done.stderr
    assert "Traceback" not in done.stderr
    assert run(kept, "ls").returncode == 3  # nothing was made that hides it


@pytest.mark.parametrize(
    "arguments", [["forget", PIN, "--yes"], ["block", "one", "--reason", "x"], ["serve"], ["capture"]], ids=" ".join
)
def test_what_writes_says_that_it_cannot(arguments: list[str], kept: Mirror) -> None:
    done = run(kept, *arguments, *(["--port", str(kept.port)] if arguments == ["serve"] else []))
    assert done.returncode in (1, 3)
    assert "read-only" in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_a_server_offline(kept: Mirror, upstream: Upstream) -> None:
    """Hits and dates are answered as before; what is not there is an error that says why."""
    was = kept.start("--offline")
    page = http.get(f"{was.at(DATE)}one/", headers={"Accept": JSON})
    was.stop()
    line = shlex.join([str(COMMAND), "serve", *kept._options(), "--offline"])
    with (kept.folder / "log").open("ab") as log:
        kept.process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", mounted(kept.data, f"exec {line}")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    kept._wait_until_ready(kept.process)
    found = http.get(kept.pin(PIN, f"{upstream.url}/file"))
    assert (found.status_code, found.content) == (200, b"frozen")
    again = http.get(f"{kept.at(DATE)}one/", headers={"Accept": JSON})
    assert (again.status_code, again.content) == (page.status_code, page.content)
    missing = http.get(kept.pin(PIN, f"{upstream.url}/other"))
    assert missing.status_code == 503
    assert "read-only" in missing.text
    kept.stop()
    assert "Traceback" not in kept.log()


def test_the_end_says_what_it_cuts(kept: Mirror, upstream: Upstream) -> None:
    """SIGTERM waits 20 seconds for downloads under way, and names those that it then cuts."""
    never = threading.Event()
    upstream.pages["/slow"] = Response([b"some", never, b"more"], headers={"Content-Length": "8"})
    kept.start()
    with http.stream("GET", kept.pin(PIN, f"{upstream.url}/slow")):
        until(lambda: any((kept.data / "spool").glob("*.part")), "the download")
    begun = time.monotonic()  # its client has left, and it goes on
    kept.stop()
    took = time.monotonic() - begun
    never.set()
    assert 15 < took < 30
    assert "/slow" in kept.log()
    assert "cut off" in kept.log()
