"""The run itself: which tests are quick, and the counts of workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import run
from tests.support.mirror import RESERVED, free_port
from tests.support.quick import starts
from tests.support.upstream import Upstream

ROOT = Path(__file__).parents[1]


def calls() -> None:
    subprocess.run(["true"], check=True)


def calls_what_calls() -> None:
    def within() -> None:
        calls()

    within()


def uses_the_command() -> None:
    run("ls")


def uses_an_upstream() -> None:
    Upstream().close()


def has_an_annotation_alone(upstream: Upstream) -> str:
    return str(upstream)


def test_what_starts_something_is_found() -> None:
    for slow in (calls, calls_what_calls, uses_the_command, uses_an_upstream):
        assert starts(slow), slow
    assert not starts(has_an_annotation_alone)


def test_ports_are_given_to_one_alone() -> None:
    found = [free_port() for _ in range(RESERVED)]
    assert len(set(found)) == RESERVED


def test_counts_of_workers_are_summed() -> None:
    """One target goes to each of two workers: what both tried stands in the summary."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/fuzz/test_fuzz.py"]
    command += ["-k", "test_no_input_breaks_a_promise and (accepts or requests)", "--hypothesis-profile", "quick"]
    workers = ["--numprocesses", "2", "--dist", "loadgroup"]
    found = []
    for more in ([], workers):
        ran = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
        assert "2 passed" in ran.stdout
        found += [line for line in ran.stdout.splitlines() if line.startswith("fuzzed inputs: ")]
    assert found == ["fuzzed inputs: 40"] * 2


@pytest.mark.alone
def test_tests_that_must_be_alone_are_in_one_group(request: pytest.FixtureRequest) -> None:
    """pytest-xdist tells it by the name of the test; where it cannot, all groups are split."""
    if "PYTEST_XDIST_WORKER" in os.environ and request.config.getoption("dist", "loadgroup") == "loadgroup":
        assert request.node.nodeid.endswith("@alone")
