"""`httpcache forget --unused-for` and `--keep-last`: what is lost is told, and nothing without --yes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support import http
from tests.support.command import run, told
from tests.support.mirror import Mirror
from tests.support.upstream import Response, Upstream

DAY = 86_400


@pytest.fixture
def used(upstream: Upstream, mirror: Callable[..., Mirror]) -> Mirror:
    """Three files in each of three dated pins, and in another pin."""
    upstream.pages = {f"/{name}": Response(name.encode() * 10_000) for name in ("one", "two", "again")}
    running = mirror()
    for pin in ("tools-2024-01-02", "tools-2024-02-02", "tools-2024-03-02", "other"):
        for path in upstream.pages:
            assert http.get(running.pin(pin, upstream.url + path)).status_code == 200
    running.stop()
    upstream.stop()
    return running


def age(mirror: Mirror) -> None:
    """Let the journal have begun long ago, and one file be used again in 250 days."""
    with closing(sqlite3.connect(mirror.data / "index/usage.db")) as journal, journal:
        journal.execute("UPDATE pins SET first_use = first_use - ?", (400 * DAY,))
        journal.execute("UPDATE entries SET last_use = last_use + ? WHERE address LIKE '%/again'", (250 * DAY,))


def forget(mirror: Mirror, *arguments: str) -> CompletedProcess[str]:
    """Run the command."""
    return run("forget", "--data", mirror.data, *arguments)


def pins(mirror: Mirror) -> dict[str, int]:
    """The pins with their numbers of entries."""
    lines = run("ls", "--data", mirror.data).stdout.splitlines()
    return {line.split()[0]: int(line.split()[1]) for line in lines}


def test_the_journal_must_know(used: Mirror) -> None:
    line = told(forget(used, "--unused-for", "1d"))
    assert "is recorded since 20" in line
    assert "use a shorter time" in line


def test_what_was_frozen_lately_is_kept(used: Mirror) -> None:
    """Whatever the journal says: an entry may have lost its line there."""
    age(used)
    ran = forget(used, "--unused-for", "30d", "--yes")
    assert (ran.returncode, ran.stdout) == (0, "there is nothing to forget\n")


def test_what_nobody_used(used: Mirror, tmp_path: Path) -> None:
    """Seen from 300 days on, by the clock of the command."""
    age(used)
    before = pins(used)
    assert before == dict.fromkeys(("other", "tools-2024-01-02", "tools-2024-02-02", "tools-2024-03-02"), 3)
    later = {"PYTHONPATH": str(tmp_path)}
    (tmp_path / "sitecustomize.py").write_text(
        f"import time\nnow = time.time\ntime.time = lambda: now() + {300 * DAY}\n"
    )

    def run_later(*arguments: str) -> CompletedProcess[str]:
        return run("forget", "--data", used.data, *arguments, environment=later)

    dry = run_later("--unused-for", "200d")
    assert dry.returncode == 0
    assert dry.stdout.startswith("8 frozen entries, 240 KB; ")
    assert dry.stdout.endswith("nothing was removed: say --yes to remove them\n")
    assert pins(used) == before
    one = run_later("tools-2024-01-02", "--unused-for", "40w", "--yes")
    assert "2 entries removed" in one.stdout
    assert pins(used) == before | {"tools-2024-01-02": 1}
    rest = run_later("--unused-for", "200d", "--yes")
    assert "6 entries removed, 60 KB freed" in rest.stdout
    assert pins(used) == dict.fromkeys(before, 1)


def test_the_last_dates_are_kept(used: Mirror) -> None:
    before = pins(used)
    dry = forget(used, "tools", "--keep-last", "2")
    assert dry.stdout.startswith("pin tools-2024-01-02\n3 frozen entries, 110 KB; ")
    assert pins(used) == before
    done = forget(used, "tools", "--keep-last", "1", "--yes")
    assert "6 entries removed, 0 B freed" in done.stdout  # other pins have the same bytes
    assert pins(used) == {"other": 3, "tools-2024-03-02": 3}
    again = forget(used, "tools", "--keep-last", "1", "--yes")
    assert (again.returncode, again.stdout) == (0, "there is nothing to forget\n")


@pytest.mark.parametrize(
    ("arguments", "code", "wanted"),
    [
        ([], 2, "name an address or a pin"),
        (["--keep-last", "1"], 2, "name an address or a pin"),
        (["tools", "--keep-last", "1", "--unused-for", "1d"], 2, "one of --unused-for and --keep-last"),
        (["tools", "--keep-last", "-1"], 2, "-1"),
        (["--unused-for", "half a year"], 2, "use a number of days or weeks, such as 180d or 26w"),
        (["none", "--keep-last", "1"], 1, "there are no pins none-<date>"),
        (["other", "--keep-last", "1"], 1, "there are no pins other-<date>"),
    ],
)
def test_what_it_cannot_do(arguments: list[str], code: int, wanted: str, used: Mirror) -> None:
    ran = forget(used, *arguments)
    assert ran.returncode == code
    assert wanted in ran.stderr
