"""First builds from a real registry, run against a generated one: no test asks the registry itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.real import SETS, RealBuilds, RealSet
from benchmarks.speed import cold_sets
from benchmarks.speed.cold import INSTALL, RESOLVE
from benchmarks.speed.nginx import Nginx
from benchmarks.speed.report import FIRST_BUILD, OURS, STRAIGHT, WARM, Table
from tests.support.clients import UV

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"), reason="nginx not installed"),
    pytest.mark.skipif(not Path(UV).exists(), reason="uv not installed: make clients"),
]
GENERATED = cold_sets.SMALL[0]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Nginx]:
    with ExitStack() as stack:
        yield Nginx(tmp_path / "registry", 1, stack)


def builds(folder: Path, registry: Nginx) -> RealBuilds:
    return RealBuilds(folder, f"{registry.url}/simple/", "--allow-network", "127.0.0.0/8")


def test_each_round_is_straight_cold_and_warm(tmp_path: Path, registry: Nginx) -> None:
    top = cold_sets.write([GENERATED], tmp_path / "files", "upstream", registry.url)[GENERATED.name]
    registry.compressed(tmp_path / "files")
    ran = builds(tmp_path, registry)
    some = RealSet("small", tuple(top), "2025-12-31", "3.11")
    for work in (RESOLVE, INSTALL):
        ran.run(work, some, 1)
    assert ran.notes == []
    table = Table(ran.values.figures)
    for work in (RESOLVE, INSTALL):
        for column in (STRAIGHT, OURS[0], f"{OURS[0]}{WARM}"):
            assert (table.get(f"{work} small", FIRST_BUILD, column) or 0) > 0
    assert not (tmp_path / "mirror").exists()


def test_what_is_locked_differently_is_told(tmp_path: Path, registry: Nginx) -> None:
    top = cold_sets.write([GENERATED], tmp_path / "files", "upstream", registry.url)[GENERATED.name]
    registry.compressed(tmp_path / "files")
    ran = builds(tmp_path, registry)
    some = RealSet("small", tuple(top), "2025-12-31", "3.11")
    ran.run(RESOLVE, some, 0)
    cold_sets.write([replace(GENERATED, files=(60, 60))], tmp_path / "files", "upstream", registry.url)
    ran.run(RESOLVE, some, 1)
    (note,) = ran.notes
    assert note.startswith("cold-resolve, small: uv locks something else than straight: wide-000==1.")


def test_sets_have_names_of_their_own_and_dates() -> None:
    assert len({some.name for some in SETS}) == len(SETS)
    assert [some.date for some in SETS] == sorted(some.date for some in SETS)
