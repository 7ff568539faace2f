"""Commands about what is frozen: for people and for programs, how they end, and what a shell completes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from httpcache.command.progress import Lines
from httpcache.command.rows import Rows
from httpcache.command.verifying import STATE, verify
from httpcache.settings import Location
from httpcache.store.opening import opened
from tests.support import http
from tests.support.command import run, told
from tests.support.inside import bodies, checked_records, until
from tests.support.mirror import COMMAND, Mirror
from tests.support.upstream import Response, Upstream

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/commands.md").read_text()
LARGE = b"large" * 10_000
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def rows(*arguments: str | Path, code: int = 0) -> list[dict[str, Any]]:
    """What a command prints with --json."""
    ran = run(*arguments, "--json")
    assert ran.returncode == code, ran
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.fixture
def filled(upstream: Upstream, mirror: Callable[..., Mirror]) -> Mirror:
    """A running mirror with two pins, which have a small and a large body in common."""
    upstream.pages |= {"/a": b"a", "/b": b"bb", "/large": LARGE}
    running: Mirror = mirror()
    for pin, name in (("one", "/a"), ("one", "/b"), ("one", "/large"), ("two", "/b"), ("two", "/large")):
        http.get(running.pin(pin, upstream.url + name)).raise_for_status()
    return running


def test_stats(filled: Mirror) -> None:
    def found() -> list[dict[str, Any]]:
        return rows("stats", "--data", filled.data)

    until(lambda: [row["hits"] for row in found()] == [3, 2], "the usage journal")
    one, two = found()
    assert {**one, "last_use": None} == {
        "pin": "one", "entries": 3, "bytes": 3 + len(LARGE), "shared": 2 + len(LARGE), "hits": 3, "last_use": None
    }  # fmt: skip
    assert (two["pin"], two["entries"], two["shared"]) == ("two", 2, 2 + len(LARGE))
    assert INSTANT.fullmatch(one["last_use"])
    shown = run("stats", "--data", filled.data).stdout.splitlines()
    assert [line.split()[0] for line in shown] == ["entries", "one", "two"]


def test_show_tells_who_was_answered(filled: Mirror, upstream: Upstream) -> None:
    address = f"/one/{upstream.url}/a"
    until(lambda: rows("show", address, "--data", filled.data)[0]["hits"] == 1, "the usage journal")
    (row,) = rows("show", address, "--data", filled.data)
    assert row["address"] == address
    assert row["from"] == f"{upstream.url}/a"
    assert (row["status"], row["bytes"], row["private"]) == (200, 1, False)
    (reader,) = row["readers"]
    assert (reader["client"], reader["hits"]) == ("127.0.0.1", 1)
    assert INSTANT.fullmatch(reader["first"])
    assert "used      1 times" in run("show", address, "--data", filled.data).stdout


def test_show_offers_addresses_like_the_one_that_is_not_there(filled: Mirror, upstream: Upstream) -> None:
    line = told(run("show", f"/two/{upstream.url}/a", "--data", filled.data))
    assert f"/one/{upstream.url}/a" in line
    assert f"/two/{upstream.url}/large" in told(run("show", f"/two/{upstream.url}/lrge", "--data", filled.data))


def test_gc_removes_what_no_entry_names(filled: Mirror, upstream: Upstream) -> None:
    (record,) = {(record.digest, record.size) for record in checked_records(filled.data) if record.size == len(LARGE)}
    left = filled.data / "blobs/ab" / ("ab" * 32)
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"left behind")
    *listed, total = rows("gc", "--dry-run", "--data", filled.data)
    assert listed == [{"sha256": "ab" * 32, "bytes": 11}]
    assert total == {"total": {"bodies": 1, "bytes": 11, "removed": False}}
    assert left.exists()
    assert rows("gc", "--data", filled.data) == [{"total": {"bodies": 1, "bytes": 11, "removed": True}}]
    assert not left.exists()
    assert record[0] in bodies(filled.data)
    upstream.stop()
    assert http.get(filled.pin("one", f"{upstream.url}/large")).content == LARGE


def test_gc_beside_downloads(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """What is frozen meanwhile is there afterwards."""
    upstream.otherwise = lambda request: Response(request.target.encode() * 4000)
    running: Mirror = mirror()
    process = subprocess.Popen([str(COMMAND), "gc", "--data", str(running.data)])
    number = 0
    while process.poll() is None or number < 20:
        http.get(running.pin("one", f"{upstream.url}/{number}")).raise_for_status()
        number += 1
        time.sleep(0.01)
    assert process.returncode == 0
    assert len(checked_records(running.data)) == number


def test_every_list_has_the_keys_that_its_page_says(filled: Mirror, upstream: Upstream) -> None:
    told_of = dict(re.findall(r"^\| `httpcache ([^`]+)` \| [^|]+ \| (.*) \|$", PAGE, re.MULTILINE))
    keys = {command: re.findall(r"`([a-z0-9_]+)`", text.partition(";")[0]) for command, text in told_of.items()}
    ran = {"ls": ["ls"], "ls PIN": ["ls", "two"], "stats": ["stats"], "gc --dry-run": ["gc", "--dry-run"]}
    for command, arguments in ran.items():
        for row in rows(*arguments, "--data", filled.data):
            assert list(row) in (keys[command], ["total"]), command
    (row,) = rows("show", f"/one/{upstream.url}/a", "--data", filled.data)
    assert list(row) == keys["ls PIN"] + keys["show ADDRESS"]
    run("block", "evil", "--reason", "why", "--data", filled.data)
    (rule,) = rows("blocks", "--data", filled.data)
    assert list(rule) == keys["blocks"]
    assert list(rows("pin")[0]) == keys["pin"]
    assert rows("verify", "--data", filled.data)[0]["total"].keys() == {
        "entries",
        "files",
        "bytes",
        "repaired",
        "damaged",
    }


def test_damage_for_programs(filled: Mirror) -> None:
    (blob,) = filled.data.glob("blobs/??/*")
    blob.write_bytes(b"other")
    first, total = rows("verify", "--data", filled.data, code=1)
    assert first.pop("address").endswith("/large")
    assert first == {"problem": "damaged or missing", "sha256": blob.name, "repaired": False}
    assert total["total"]["damaged"] == 1


@pytest.mark.parametrize("still", [True, False])
def test_damage_is_repaired_with_the_same_bytes_alone(still: bool, filled: Mirror, upstream: Upstream) -> None:
    (blob,) = filled.data.glob("blobs/??/*")
    blob.write_bytes(b"other" * 10_000)
    if not still:
        upstream.pages["/large"] = LARGE[::-1]
    arguments = ("verify", "--repair", "--data", filled.data, "--allow-network", "127.0.0.0/8")
    first, total = rows(*arguments, code=0 if still else 1)
    assert first["repaired"] is still
    assert (total["total"]["damaged"], total["total"]["repaired"]) == (1, int(still))
    answer = http.get(filled.pin("one", f"{upstream.url}/large"))
    assert answer.status_code == (200 if still else 503)
    assert not still or (answer.content, blob.read_bytes()) == (LARGE, LARGE)
    assert run("verify", "--data", filled.data).returncode == (0 if still else 1)


def test_verify_goes_on_after_an_interruption(filled: Mirror) -> None:
    """Each entry is read once in all."""
    read: list[int] = []

    class Interrupted(Lines):
        @contextmanager
        def over(self, title: str, total: int) -> Iterator[Callable[[], None]]:
            read.append(0)

            def advance() -> None:
                read[-1] += 1
                if len(read) == 1 and read[-1] == 2:
                    raise KeyboardInterrupt

            yield advance

    async def work(*, resume: bool) -> int:
        async with opened(Location(filled.data)) as store:
            state = filled.data / STATE
            return await verify(store, rows=Rows(False), progress=Interrupted(), state=state, resume=resume)

    with pytest.raises(KeyboardInterrupt):
        anyio.run(partial(work, resume=False))
    assert (filled.data / STATE).exists()
    assert anyio.run(partial(work, resume=True)) == 0
    assert read == [2, 3]
    assert not (filled.data / STATE).exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["ls"], 0),
        (["verify"], 0),
        (["ls", "nothing"], 1),
        (["history", "nothing"], 1),
        (["captures", "--registry", "nothing"], 1),
        (["show", "/pin/https://example.com/"], 1),
        (["ls", "--nothing"], 2),
        (["nothing"], 2),
        (["ls", "--local-cache", "much"], 2),
        (["show", "/pin-2024-02-30/https://example.com/"], 2),
        (["ls", "--data", "nothing"], 3),
        (["verify", "--data", "nothing"], 3),
    ],
)
def test_exit_codes(arguments: list[str], code: int, mirror: Callable[..., Mirror], tmp_path: Path) -> None:
    running: Mirror = mirror()
    assert run(*arguments, environment={"HTTPCACHE_DATA": str(running.data)}).returncode == code


def test_exit_codes_are_documented() -> None:
    assert re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE) == ["0", "1", "2", "3", "130"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_options_and_pins(filled: Mirror) -> None:
    def completed(*words: str) -> set[str]:
        line = " ".join(words)
        ask = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _httpcache_completion httpcache; "
        ask = ask if words[-1] else ask.replace(line, f'{line.strip()} ""')
        script = f'eval "$({COMMAND} completion bash)"; {ask} printf "%s\\n" "${{COMPREPLY[@]}}"'
        path = f"{COMMAND.parent}:/usr/bin:/bin"
        ran = subprocess.run(["bash", "-c", script], env={"PATH": path}, capture_output=True, text=True, check=True)
        return set(ran.stdout.split())

    assert completed("httpcache", "st") == {"stats"}
    assert "--dry-run" in completed("httpcache", "gc", "--d")
    assert completed("httpcache", "ls", "--data", str(filled.data), "o") == {"one"}
    assert completed("httpcache", "forget", "--data", str(filled.data), "") == {"one", "two"}
    assert completed("httpcache", "ls", "--data", "/nothing", "") == set()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script(shell: str) -> None:
    assert "_HTTPCACHE_COMPLETE" in run("completion", shell).stdout
