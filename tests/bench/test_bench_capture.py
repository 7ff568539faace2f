"""The benchmark of the capture, run small: every figure is there, and the two sides agree on the requests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks.asof import DAYS, SIZES
from benchmarks.capture import Report, lines
from benchmarks.catalogue import Catalogue

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[2]
PROJECTS, CHANGED = 300, 30


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Report]:
    """What it printed, and the figures that it wrote."""
    folder = tmp_path_factory.mktemp("bench")
    arguments = ["--projects", PROJECTS, "--changed", CHANGED, "--days", 2, "--rounds", 1]
    command = [sys.executable, "-m", "benchmarks.capture", *arguments, "--folder", folder, "--json", folder / "figures"]
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == ["figures"]
    return done.stdout, msgspec.json.decode((folder / "figures").read_bytes(), type=Report)


@pytest.fixture(scope="module")
def report(ran: tuple[str, Report]) -> Report:
    return ran[1]


def test_every_pass_has_its_figures(report: Report) -> None:
    assert [found.title for found in report.passes] == ["full pass", "daily pass 1", "daily pass 2"]
    for found in report.passes:
        assert found.cost.exit_code == 0
        assert found.cost.cpu_seconds > 0
        assert found.cost.peak_memory > 20_000_000
        assert found.projects_a_second == pytest.approx(found.done["due"] / found.cost.seconds)
        assert found.stored.index > 0
        assert not found.done["failed"]


def test_both_sides_count_the_same_requests(report: Report) -> None:
    for found in report.passes:
        assert sum(found.requests.values()) == found.done["requests"]
        assert found.requests["list"] == 1
    assert report.passes[0].requests["page"] == PROJECTS


def test_what_changed_is_what_the_catalogue_changed(report: Report) -> None:
    full, *daily = report.passes
    assert (full.done["changed"], full.changed_projects, full.changed_files) == (PROJECTS, {}, None)
    for found in daily:
        assert sum(found.changed_projects.values()) == CHANGED == found.done["changed"]
        assert found.changed_files is not None
        assert found.bytes_a_changed_file == pytest.approx(found.stored.total / found.changed_files)


def test_changed_files_are_counted_from_the_pages(report: Report) -> None:
    """Counted again from the generator, which knows what it changed."""
    catalogue = Catalogue(PROJECTS, 0)
    for seed, found in enumerate(report.passes[1:], 1):
        day = catalogue.change(seed, CHANGED)
        count = 0
        for kind, names in day.changed.items():
            for name in names if kind not in ("delete project", "quarantine") else ():
                new, old = catalogue.state(name), catalogue.state(name, stale=True)
                after, before = (set(state.slots()) if state else set() for state in (new, old))
                count += len(after ^ before)
                count += sum(new.yanked(slot[0]) != old.yanked(slot[0]) for slot in after & before if new and old)
        assert found.changed_files == count


def test_as_of_is_timed_for_each_size(report: Report) -> None:
    cases = [(found.files, found.day, found.source) for found in report.as_of]
    sources = ("memory", "form", "log")
    assert cases == [(size, day, source) for size in SIZES for day in (DAYS, 1) for source in sources]
    for found in report.as_of:
        assert found.once > 0
        assert found.ratio == pytest.approx(found.daily / found.once)
        assert found.stored_once < found.stored_daily


def test_what_is_scaled_is_called_so(ran: tuple[str, Report]) -> None:
    printed, report = ran
    assert printed == "\n".join(lines(report)) + "\n"
    assert "SCALED, not measured" in printed
    full = msgspec.structs.replace(report, projects=700_000, changed=20_000)
    assert not [line for line in lines(full) if "scaled" in line.lower()]
