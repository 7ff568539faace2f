"""Fixtures: upstreams, registries on them, the mirror in front of them, and real clients."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from distlib.index import DEFAULT_INDEX

from tests.support.capture import Here
from tests.support.clients import Clients
from tests.support.index import ago
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI, Registry
from tests.support.tally import counts
from tests.support.upstream import Upstream

REAL_PYPI = urljoin(DEFAULT_INDEX, "/simple/")


@pytest.fixture
def upstreams() -> Iterator[Callable[..., Upstream]]:
    """Start upstreams: `upstreams(ranges=True)`; each has a port of its own."""
    started: list[Upstream] = []

    def start(**options: Any) -> Upstream:
        started.append(Upstream(**options))
        return started[-1]

    yield start
    for upstream in started:
        upstream.close()
    errors = [error for upstream in started for error in upstream.errors]
    if errors:
        raise ExceptionGroup("an upstream's handler failed", [e for e in errors if isinstance(e, Exception)])


@pytest.fixture
def upstream(upstreams: Callable[..., Upstream]) -> Upstream:
    """One upstream, empty: put pages on it."""
    return upstreams(ranges=True)


@pytest.fixture
def pypi(upstreams: Callable[..., Upstream]) -> PyPI:
    """A PyPI like the one reached here: ranges on the files, no core-metadata."""
    return PyPI(upstreams(), upstreams(ranges=True))


@pytest.fixture
def registry(upstreams: Callable[..., Upstream]) -> Callable[..., Registry]:
    """Start a registry of a shape: `registry("ngc")`, `registry("gitlab", auth=("user", "pass"))`."""
    return lambda shape, **options: Registry(upstreams(ranges=True, **options), shape)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Callable[..., Mirror]]:
    """Start mirrors: `mirror(pypi)`, `mirror("--offline")`, `mirror(pypi_upstream=URL)`.

    What still runs at the end of the test must end with exit code 0 on SIGTERM.
    """
    started: list[Mirror] = []
    numbers = itertools.count()

    def start(*arguments: str | PyPI, pypi_upstream: str | None = None, ready: bool = True) -> Mirror:
        for behind in arguments:
            if isinstance(behind, PyPI):
                pypi_upstream = behind.url
        options = [argument for argument in arguments if isinstance(argument, str)]
        started.append(Mirror(tmp_path / f"mirror-{next(numbers)}", pypi_upstream, options))
        return started[-1].start(ready=ready)

    yield start
    try:
        for each in started:
            each.stop()
    finally:
        for each in started:
            each.kill()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    """One mirror for all tests that need nothing special of it; each uses a `pin` of its own."""
    shared = Mirror(tmp_path_factory.mktemp("server")).start()
    yield shared
    try:
        shared.stop()
    finally:
        shared.kill()


_pins = itertools.count()


@pytest.fixture
def pin() -> str:
    """A pin that no other test uses."""
    return f"test{next(_pins)}-2024-01-02"


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    """Real clients that reach 127.0.0.1 and nothing else."""
    return Clients(tmp_path / "clients")


@pytest.fixture(scope="session")
def real_pypi() -> str:
    """The address of the real PyPI's simple index; skips the test where it cannot be reached."""
    try:
        httpx.head(REAL_PYPI + "pip/", timeout=20, follow_redirects=True).raise_for_status()
    except httpx.HTTPError as error:
        pytest.skip(f"the real PyPI is not reachable from here: {type(error).__name__}")
    return REAL_PYPI


@pytest.fixture(autouse=True)
def _reach_real_pypi(request: pytest.FixtureRequest) -> None:
    """Tests marked `pypi` run only where it can be reached."""
    if request.node.get_closest_marker("pypi") is not None:
        request.getfixturevalue("real_pypi")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """State what was counted."""
    for name, count in sorted(counts.items()):
        terminalreporter.write_line(f"{name}: {count}")


@pytest.fixture
def here(tmp_path: Path, pypi: PyPI) -> Iterator[Here]:
    """Three projects at a registry that has serials."""
    for name in ("one", "two", "three"):
        pypi.upload(wheel(name, "1.0"), ago(days=3))
    found = Here(tmp_path / "mirror", pypi)
    yield found
    found.mirror.kill()
