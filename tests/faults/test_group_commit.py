"""Many write at once while the disk fails or a kill comes: what was said to be kept is there, and has its bytes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Final

import anyio
import pytest

from httpcache.store.local import LocalStore
from httpcache.store.record import Record, decode
from tests.support.faults import KILL, KINDS, Faults, compiled
from tests.support.tally import tally

ROOT: Final = Path(__file__).resolve().parents[2]
AT_ONCE: Final = 12
KILLS: Final = 12

# For each line it reads, does AT_ONCE things at once; a line for each that is kept, or that failed with an error of
# the store. The value of a record is told in hex; what is appended is the number of who did it.
WRITER: Final = """
import os
import sys
from hashlib import sha256
from pathlib import Path
import anyio
from httpcache.errors import StoreError
from httpcache.store import keys
from httpcache.store.local import LocalStore
from httpcache.store.record import Record, encode

folder, parts, at_once = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
store = LocalStore(folder)

async def one(name, number):
    try:
        if number % 3 == 0:
            body = name.encode() * (10_000 if number % 2 else 1)
            record = Record(name, "a", name, name, sha256(body).hexdigest(), len(body), 0.0)
            part = parts / f"{name} {os.getpid()}"
            part.write_bytes(body)
            key, kept = f"r/{name}", encode(await store.freeze(f"r/{name}", record, part)).hex().encode()
        elif number % 3 == 1:
            key, value = f"h/{name}", name
            kept = await store.add(key, value.encode())
        else:
            key, value = keys.numbered(keys.log(f"shared {name.partition('-')[0]}"), number // 6), name
            kept = await store.add(key, value.encode())
        print("kept", key, kept.decode(), flush=True)
    except StoreError as error:
        print("failed", type(error).__name__, flush=True)

async def round(name):
    async with anyio.create_task_group() as tasks:
        for number in range(at_once):
            tasks.start_soon(one, f"{name}-{number}", number)

print("ready", flush=True)
for line in sys.stdin:
    anyio.run(round, line.strip())
    print("done", flush=True)
store.close()
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What makes files fail, compiled."""
    return compiled(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def faults(library: Path, tmp_path: Path) -> Faults:
    """The switch of the faults of a folder that is a store already."""
    LocalStore(tmp_path / "data").close()
    (tmp_path / "parts").mkdir()
    return Faults(library, tmp_path / "data", tmp_path / "control")


@contextmanager
def writer(folder: Path, faults: Faults | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process that writes when it is told to."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, folder / "data", folder / "parts", str(AT_ONCE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=faults.environment if faults else None,
    )
    try:
        assert output(process).readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def output(process: subprocess.Popen[str]) -> IO[str]:
    """What it prints."""
    assert process.stdout is not None
    return process.stdout


def tell(process: subprocess.Popen[str], name: str) -> None:
    """Let it do a round."""
    assert process.stdin is not None
    process.stdin.write(f"{name}\n")
    process.stdin.flush()


def lines(process: subprocess.Popen[str]) -> list[str]:
    """What it says of a round, up to its end or that of the process."""
    found = []
    while (line := output(process).readline()) not in ("", "done\n"):
        if line.endswith("\n"):  # else it was killed while it said that
            found.append(line.rstrip())
    return found


def kept(said: list[str]) -> dict[str, bytes]:
    """The entries that are in the store by what was said of them; nobody says another thing of the same."""
    found: dict[str, bytes] = {}
    for line in said:
        if line.startswith("kept "):
            _, key, value = line.split()
            assert found.setdefault(key, value.encode()) == value.encode(), f"two winners of {key}"
    return found


def checked(folder: Path) -> dict[str, bytes]:
    """All entries, after each body that one names has been read."""

    async def read(store: LocalStore) -> dict[str, bytes]:
        assert await store.problems() == []
        found = {key: value async for key, value in store.entries("")}
        for key, value in found.items():
            if key.startswith("r/"):
                record = decode(value)
                assert isinstance(record, Record)
                assert await store.check(record.digest, record.size), key
                found[key] = value.hex().encode()
        assert sum(pin.entries for pin in await store.index.pins()) == sum(key.startswith("r/") for key in found)
        return found

    with closing(LocalStore(folder / "data")) as store:
        return anyio.run(read, store)


@pytest.mark.parametrize("kind", KINDS)
def test_an_operation_of_a_group_fails(kind: str, faults: Faults, tmp_path: Path) -> None:
    """Each in turn, until there is none more: who is told of an error can try again, who is not can rely on it."""
    said: list[str] = []
    numbers = count(1, 4 if KINDS[kind].error == KILL else 1)  # a new process after each kill
    fired = 1
    while fired:
        with writer(tmp_path, faults) as process:
            for number in numbers:
                faults.arm(number, KINDS[kind])
                tell(process, f"{number}")
                first = lines(process)
                fired = faults.disarm()
                said += first
                if process.poll() is not None or (fired and KINDS[kind].error == KILL):
                    assert process.wait(10) == -signal.SIGKILL
                    break
                assert len(first) == AT_ONCE, first
                tell(process, f"{number}")
                again = lines(process)
                assert len(kept(again)) == len(set(again)), f"{faults.what}: {again}"
                said += again
                if not fired:
                    break
                tally("faults injected")
        found = checked(tmp_path)
        assert kept(said).items() <= found.items()
    assert next(numbers) > 10, "hardly an operation was seen: the shim does not work"


def test_kills_at_any_time(tmp_path: Path) -> None:
    """Two processes write, one is killed: what either has said is so, and the other goes on."""
    LocalStore(tmp_path / "data").close()
    (tmp_path / "parts").mkdir()
    chance = random.Random(0)
    said: list[str] = []
    with writer(tmp_path) as steady:
        for number in range(KILLS):
            with writer(tmp_path) as victim:
                for round_ in range(20):
                    tell(victim, f"{number}.{round_}")
                    tell(steady, f"{number}.{round_}")
                timer = threading.Timer(chance.uniform(0, 0.15), victim.kill)
                timer.start()
                while line := output(victim).readline():
                    if line != "done\n" and line.endswith("\n"):  # else it was killed while it said that
                        said.append(line.rstrip())
                timer.join()
            for _ in range(20):
                said += lines(steady)
            assert kept(said).items() <= checked(tmp_path).items()
    assert sum(line.startswith("kept ") for line in said) >= KILLS * 20 * AT_ONCE
    assert not any(line.startswith("failed ") for line in said)
