"""A pass of the capture that is killed at any instant, and made again, leaves the log of one that was not."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

import anyio
import msgspec
import pytest

from benchmarks.catalogue import Running
from httpcache.store.local import LocalStore
from httpcache.store.log import Log
from pypi_adapter.history.history import decode_entry
from pypi_adapter.history.rescue_log import RescueOutcome
from pypi_adapter.registry.passes import Passes
from pypi_adapter.registry.project_list import decode_change
from tests.support.command import run
from tests.support.faults import KINDS, Faults, compiled
from tests.support.mirror import COMMAND
from tests.support.tally import tally

PROJECTS: Final = 40
CHANGED: Final = 25
STEP: Final = 23
"""The kills at operations on files: at each STEPth of them."""
RANDOM: Final = 12
"""The kills at random times."""


def arguments(data: Path, url: str) -> list[str]:
    """The command under test."""
    return ["capture", "--data", str(data), "--pypi-upstream", url, "--pypi-capture", "all", "--log-level", "error"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, dict[str, object]]]:
    """A registry after a day of change, a store with the pass before that day, and all that is in the logs after it."""
    folder = tmp_path_factory.mktemp("capture")
    with Running(PROJECTS, seed=5) as registry:
        assert run(*arguments(folder / "before", registry.url)).returncode == 0
        registry.change(CHANGED, seed=1)
        shutil.copytree(folder / "before", folder / "after")
        assert run(*arguments(folder / "after", registry.url)).returncode == 0
        yield registry.url, folder / "before", logs(folder / "after", registry.url)


def logs(data: Path, url: str) -> dict[str, object]:
    """All that the logs say, but for the instants, which differ from pass to pass.

    Nor the entity tags: they are kept until a serial was seen to move, and which project shows that first differs too.
    """

    async def work() -> dict[str, object]:
        changes = [
            msgspec.structs.replace(decode_change(value), instant=0)
            for value in await Log(store, "pypi/ projects").read()
        ]
        found: dict[str, object] = {"list": changes}
        for name in sorted({name for change in changes for name in change.added}):
            entries = [decode_entry(value) for value in await Log(store, f"pypi/{name}").read()]
            found[name] = [msgspec.structs.replace(entry, instant=0, etag=None) for entry in entries]
            outcomes = [
                msgspec.msgpack.decode(value, type=RescueOutcome)
                for value in await Log(store, f"pypi/{name} rescues").read()
            ]
            found[f"{name} rescues"] = sorted((each.filename, each.content, each.outcome) for each in outcomes)
        passes = [(done.scope, done.serial, done.failed) for done in await Passes(store, "pypi").all()]
        found["passes"] = [
            done for done, _ in groupby(passes)
        ]  # killed behind its mark it is complete, and one more follows
        return found

    store = LocalStore(data)
    try:
        return anyio.run(work)
    finally:
        store.close()


def check(data: Path, url: str, right: dict[str, object]) -> None:
    """Make the pass again where it was killed, and compare."""
    made = run(*arguments(data, url))
    assert made.returncode == 0, made.stderr
    found = logs(data, url)
    assert found.keys() == right.keys()
    assert [name for name in right if found[name] != right[name]] == []


def test_a_kill_at_an_operation_on_a_file(world: tuple[str, Path, dict[str, object]], tmp_path: Path) -> None:
    url, before, right = world
    library = compiled(tmp_path)
    number = 1
    while True:
        data = tmp_path / "data"
        shutil.copytree(before, data)
        faults = Faults(library, data, tmp_path / "control")
        faults.arm(number, KINDS["SIGKILL"])
        killed = subprocess.run(
            [COMMAND, *arguments(data, url)], env=faults.environment, capture_output=True, check=False
        )
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        check(data, url, right)
        shutil.rmtree(data)
        tally("kills of a capture")
        number += STEP
    assert number > 5 * STEP


def test_a_kill_at_a_random_instant(world: tuple[str, Path, dict[str, object]], tmp_path: Path) -> None:
    url, before, right = world
    chance = random.Random(7)
    data = tmp_path / "data"
    shutil.copytree(before, data)
    started = time.monotonic()
    assert run(*arguments(data, url)).returncode == 0
    span = time.monotonic() - started
    for _ in range(RANDOM):
        shutil.rmtree(data)
        shutil.copytree(before, data)
        process = subprocess.Popen(
            [COMMAND, *arguments(data, url)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(span * chance.uniform(0.4, 1.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        check(data, url, right)
        tally("kills of a capture")
