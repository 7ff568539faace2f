"""The speed benchmark: its arithmetic, what it generates, and a tiny run of all of it with nginx and this mirror."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import httpx
import msgspec
import pytest

from benchmarks.speed import cold_sets, nodes
from benchmarks.speed import report as reports
from benchmarks.speed.link import Link
from benchmarks.speed.load import Run, parse
from benchmarks.speed.nginx import Nginx
from benchmarks.speed.process import Child, Memory, Unavailable
from benchmarks.speed.replica import SMALL, Replica, graph
from benchmarks.speed.report import (
    CPU,
    FIRST_BUILD,
    HITS,
    LIMIT,
    METADATA,
    NODES,
    OPERATIONS,
    OURS,
    PSS,
    RATE,
    SECONDS,
    STRAIGHT,
    WARM,
    Figure,
    Report,
    Table,
    lines,
    targets,
)  # fmt: skip
from tests.support.clients import UV

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[2]
TOOLS = [tool for tool in ("nginx", "wrk", "curl") if not shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin")]
needs_tools = pytest.mark.skipif(bool(TOOLS), reason=f"{', '.join(TOOLS)} not installed: make bench-tools")
RESULT = "RESULT requests=1000 bytes=5000000 microseconds=2500000 connect=0 read=1 write=0 status=2 timeout=3\n"
SITES = {"upstream": "http://127.0.0.1:12345", "static": "http://127.0.0.1:54321"}


# --- arithmetic


def test_what_wrk_counted_is_read() -> None:
    assert parse(f"Running 1s test\n  2 threads\n{RESULT}") == Run(1000, 5_000_000, 2.5, 6)
    assert parse(RESULT).rate(5_000) == pytest.approx(400)


@pytest.mark.parametrize("output", ["", "unable to connect to 127.0.0.1:9 Connection refused\n"])
def test_what_wrk_could_not_do_is_told(output: str) -> None:
    with pytest.raises(Unavailable, match=r"wrk failed: (it printed nothing|unable to connect)"):
        parse(output)


def test_ratios_are_of_medians() -> None:
    table = Table([Figure("w", RATE, "a", [1, 100, 10]), Figure("w", RATE, "b", [4, 6]), Figure("w", CPU, "c", [0])])
    assert table.get("w", RATE, "a") == 10
    assert table.get("w", RATE, "b") == 5
    assert table.ratio("w", RATE, "a", "b") == 2
    assert table.ratio("w", RATE, "a", "c") is None
    assert table.ratio("w", CPU, "c", "c") is None  # nothing is a multiple of 0
    assert table.works(RATE) == ["w"]
    assert table.columns == ["a", "b"]


def test_memory_takes_the_larger_of_each() -> None:
    both = Memory(1, 20) | Memory(2, 10)
    assert (both.pss, both.peak_rss) == (2, 20)


def test_a_target_is_met_missed_or_not_measured() -> None:
    rates = [Figure("page-20k", RATE, column, [rate]) for column, rate in ((LIMIT, 100), (OURS[0], 30), (OURS[1], 29))]
    found = {target.text: target for target in targets([*rates, Figure("m", PSS, "mirror", [351])])}
    assert found["page-20k: mirror-dated / nginx"].met is True
    assert found["page-20k: mirror-pinned / nginx"].met is False
    assert found["page-20k: mirror-dated / proxpi"].met is None
    assert found["memory: peak PSS of the mirror, MB"].met is False


def test_first_builds_are_judged_by_the_median_set_and_the_worst() -> None:
    times = {"a": (1, 1, 0.2), "b": (2, 2.2, 0.2), "c": (1, 1.6, 0.4)}
    figures = [
        Figure(f"cold-resolve {name}", FIRST_BUILD, column, [seconds])
        for name, values in times.items()
        for column, seconds in zip((STRAIGHT, OURS[0], f"{OURS[0]}{WARM}"), values, strict=True)
    ]
    found = {target.text: target for target in targets(figures)}
    met = {text: target.met for text, target in found.items() if text.startswith("cold-resolve: ")}
    assert met == {
        "cold-resolve: mirror-dated / straight, median of the sets": True,
        "cold-resolve: mirror-dated / straight, worst set": False,
        "cold-resolve: mirror-dated, warm / straight, median of the sets": True,
    }


# --- what is generated


def test_a_page_has_its_size_and_the_same_on_all_sites(tmp_path: Path) -> None:
    replica = Replica(tmp_path, SITES, SMALL)
    replica.generate()
    for name, size in SMALL.pages.items():
        pages = {site: tmp_path / "pages" / site / "simple" / name / "index.json" for site in SITES}
        bodies = {site: path.read_bytes() for site, path in pages.items()}
        assert len(bodies["upstream"]) == len(bodies["static"]) == pytest.approx(size, abs=1500)
        assert bodies["upstream"].replace(SITES["upstream"].encode(), SITES["static"].encode()) == bodies["static"]
        page = json.loads(bodies["static"])
        assert {file["url"].partition("/packages/")[0] for file in page["files"]} == {SITES["static"]}
        times = [file["upload-time"] for file in page["files"]]
        assert times == sorted(times)
        assert times[0] < "2015" < "2025" < times[-1]
    for name, size in SMALL.wheels.items():
        assert len(replica.wheels[name].data) == pytest.approx(size, abs=500)


def test_the_same_graph_each_time() -> None:
    first, second = ([dist.sha256 for _, dists in graph(5) for dist in dists] for _ in range(2))
    assert first == second


@pytest.mark.parametrize("some", cold_sets.SMALL, ids=lambda some: some.name)
def test_a_set_of_first_builds_has_its_pages_and_all_that_is_needed(some: cold_sets.Set, tmp_path: Path) -> None:
    top = cold_sets.write([some], tmp_path, "upstream", SITES["upstream"])[some.name]
    folders = sorted((tmp_path / "pages" / "upstream" / "simple").glob(f"{some.name}-*"))
    assert len(folders) == some.projects
    assert {folder.name for folder in folders} >= set(top)
    for folder in folders:
        page = json.loads((folder / "index.json").read_bytes())
        assert gzip.decompress((folder / "index.json.gz").read_bytes()) == (folder / "index.json").read_bytes()
        assert not any(file["core-metadata"] for file in page["files"])
        newest = next(file for file in reversed(page["files"]) if file["filename"].endswith("py3-none-any.whl"))
        body = (tmp_path / newest["url"].removeprefix(f"{SITES['upstream']}/")).read_bytes()
        assert sha256(body).hexdigest() == newest["hashes"]["sha256"]


def test_a_set_may_announce_its_metadata(tmp_path: Path) -> None:
    cold_sets.write([replace(cold_sets.SMALL[0], announced=True)], tmp_path, "upstream", SITES["upstream"])
    for file in tmp_path.glob("packages/**/*.whl"):
        with zipfile.ZipFile(file) as wheel:
            name = f"{file.name.removesuffix('-py3-none-any.whl')}.dist-info/METADATA"
            assert file.with_name(f"{file.name}.metadata").read_bytes() == wheel.read(name)


# --- the link


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


@needs_tools
def test_a_link_forwards_each_request_of_a_connection(tmp_path: Path, stack: ExitStack) -> None:
    (tmp_path / "files" / "pages" / "upstream" / "simple").mkdir(parents=True)
    (tmp_path / "files" / "pages" / "upstream" / "simple" / "index.html").write_text("a list")
    body = random.Random(1).randbytes(1_000_000)
    (tmp_path / "files" / "body").write_bytes(body)
    registry = Nginx(tmp_path / "registry", 1, stack)
    registry.compressed(tmp_path / "files")
    link = Link(tmp_path / "link", registry.port, stack)
    link.child.wait_until_ready(f"{link.url}/simple/")
    with httpx.Client(base_url=link.url, trust_env=False) as client:
        assert client.get("/simple/").text == "a list"
        assert client.get("/body").content == body
        assert client.get("/body", headers={"range": "bytes=-9"}).content == body[-9:]
        assert client.head("/body").headers["content-length"] == "1000000"
        assert client.get("/none").status_code == 404
    answers = [("/body", 200), ("/body", 206), ("/body", 200), ("/none", 404)]
    wait_for(lambda: registry.answers[-4:] == answers)  # a line is written behind an answer


# --- processes


def wait_for(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_child_is_counted_with_what_it_starts_and_ended_with_it(tmp_path: Path, stack: ExitStack) -> None:
    spin = "sum(range(20_000_000)); print('spun', flush=True); import time; time.sleep(600)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}])"
    child = Child([sys.executable, "-c", code], tmp_path, stack)
    wait_for(lambda: "spun" in (tmp_path / "log").read_text())
    assert child.cpu() > 0.1
    assert child.memory().peak_rss > child.memory().pss > 5_000_000
    stack.close()
    wait_for(lambda: child.memory().pss == 0)


def test_a_server_that_ends_at_once_says_why(tmp_path: Path, stack: ExitStack) -> None:
    child = Child([sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path, stack)
    with pytest.raises(Unavailable, match="it did not start: no such thing"):
        child.wait_until_ready("http://127.0.0.1:9/")


# --- all of it, tiny


def command(folder: Path, *arguments: str) -> list[str]:
    usual = ["--small", "--servers", "nginx-cache,mirror", "--records", "1200", "--folder", str(folder)]
    return [sys.executable, "-m", "benchmarks.speed", *usual, *arguments]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Report]:
    """What a whole run printed, and the figures that it wrote."""
    folder = tmp_path_factory.mktemp("bench")
    done = subprocess.run(
        command(folder, "--json", str(folder / "figures")),
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == ["figures"]
    return done.stdout, msgspec.json.decode((folder / "figures").read_bytes(), type=Report)


@needs_tools
@pytest.mark.skipif(not Path(UV).exists(), reason="uv not installed: make clients")
def test_every_work_has_its_figures(ran: tuple[str, Report]) -> None:
    _, report = ran
    assert [note for note in report.notes if " is not installed" not in note] == []
    assert report.small
    table = Table(report.figures)
    if not report.notes:
        for work in ("first fetch", "object", "small", "local-cache"):
            for column in nodes.COLUMNS:
                assert (table.get(f"nodes, {work}", NODES[0], column) or 0) > 0
    for work in ("get", "append to a log", "page of 100 records of a pin"):
        assert (table.ratio(f"index, {work}", OPERATIONS, "PostgreSQL", "SQLite") or 0) > 0 or report.notes
    columns = [LIMIT, "nginx-cache", *OURS]
    for work in ("page-20k", "page-500k", "page-7m", "wheel-50k", "wheel-1m", "wheel-100m"):
        for column in columns:
            assert (table.get(work, RATE, column) or 0) > 0
            assert (table.get(work, CPU, column) or 0) > 0
    for work in ("compile", "install"):
        for column in columns:
            assert (table.get(work, SECONDS, column) or 0) > 0
    for some in cold_sets.SMALL:
        for work in (f"cold-resolve {some.name}", f"cold-install {some.name}"):
            for column in (STRAIGHT, "nginx-cache", OURS[0], f"{OURS[0]}{WARM}"):
                assert (table.get(work, FIRST_BUILD, column) or 0) > 0
        assert (table.get(f"cold-resolve {some.name}", METADATA, OURS[0]) or 0) > 0
    for work in ("hits alone", "hits beside"):
        for column in ("nginx-cache", "mirror-pinned"):
            assert (table.get(work, HITS, column) or 0) > 0
    assert table.get("crowd", "upstream requests", "mirror") == 1
    assert table.get("crowd", "share right", "mirror") == 1
    assert (table.get("records, any address", HITS, "many") or 0) > 0
    assert (table.largest(PSS, "mirror") or 0) > 10
    unmeasured = [target.text for target in report.targets if target.met is None]
    assert all(text.endswith((" / proxpi", " / devpi")) for text in unmeasured)


@needs_tools
@pytest.mark.skipif(not Path(UV).exists(), reason="uv not installed: make clients")
def test_the_small_form_judges_nothing(ran: tuple[str, Report]) -> None:
    printed, report = ran
    assert printed == "\n".join(lines(report)) + "\n"
    assert "SMALL FORM" in printed
    assert "MISSED" not in printed
    full = "\n".join(lines(msgspec.structs.replace(report, small=False)))
    assert "SMALL FORM" not in full
    assert sum(full.count(word) for word in (" met\n", "MISSED")) >= 1


@needs_tools
@pytest.mark.skipif(not Path(UV).exists(), reason="uv not installed: make clients")
def test_nothing_is_left_after_an_interrupt(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path, "--only", "page-20k", "--seconds", "60"), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    for line in process.stderr:
        if "round 1" in line:
            break
    made = next(tmp_path.iterdir())
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []
    assert not [line for line in _command_lines() if str(made) in line]


def _command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_text(errors="replace").replace("\0", " ")


def test_numbers_have_three_digits() -> None:
    written = [reports.number(value) for value in (None, 0.00123456, 1.2345, 99.99, 12345.6)]
    assert written == ["-", "0.00123", "1.23", "100", "12,346"]
