"""The fuzz targets with inputs made of words, of seeds changed a little, and of bytes; `tests.fuzz.run` goes deeper."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, Target
from tests.support.examples import examples
from tests.support.tally import tally

EXAMPLES = 400
ALL = [pytest.param(target, id=name) for name, target in TARGETS.items()]
SEEDS = [
    pytest.param(target, seed, id=f"{name}-{number}")
    for name, target in TARGETS.items()
    for number, seed in enumerate(target.seeds)
]
FOUND = [
    pytest.param(target, data, id=f"{name}-{number}")
    for name, target in TARGETS.items()
    for number, data in enumerate(target.found)
]


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Inputs for a target, most of them nearly right."""
    words = st.lists(st.sampled_from(target.words) | st.binary(max_size=4), max_size=30).map(b"".join)
    changed = st.builds(
        lambda seed, start, count, new: seed[: start % (len(seed) + 1)] + new + seed[start % (len(seed) + 1) + count :],
        st.sampled_from(target.seeds),
        st.integers(0, 10_000),
        st.integers(0, 20),
        words,
    )
    return words | changed | st.binary(max_size=200)


@pytest.mark.parametrize("target", ALL)
def test_no_input_breaks_a_promise(target: Target) -> None:
    @settings(max_examples=examples(EXAMPLES), deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(inputs(target))
    def run(data: bytes) -> None:
        tally("fuzzed inputs")
        target.run(data)

    run()


@pytest.mark.parametrize(("target", "seed"), SEEDS)
def test_every_seed_is_good(target: Target, seed: bytes) -> None:
    target.run(seed)


@pytest.mark.parametrize(("target", "data"), FOUND)
def test_what_once_broke_a_promise(target: Target, data: bytes) -> None:
    """The smallest inputs that fuzzing has found."""
    target.run(data)


def test_the_coverage_guided_run() -> None:
    """`python -m tests.fuzz.run`, where atheris is installed."""
    pytest.importorskip("atheris", reason="atheris is not installed: requirements/fuzz.txt")
    command = [sys.executable, "-m", "tests.fuzz.run", "accepts", "--seconds", "1"]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "every promise held" in ran.stdout
