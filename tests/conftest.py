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
from tests.support.examples import register
from tests.support.index import ago
from tests.support.mirror import Mirror
from tests.support.objects import stop_server
from tests.support.packages import wheel
from tests.support.postgres import close_shared
from tests.support.quick import Watch, is_quick
from tests.support.registries import PyPI, Registry
from tests.support.tally import counts
from tests.support.upstream import Upstream

REAL_PYPI = urljoin(DEFAULT_INDEX, "/simple/")

OBJECT_STORES = {"s3", "node"}
"""Parameters of tests that need an object store."""

register()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the quick tests, and keep together what must not run side by side, or shares what is dear to make."""
    for item in items:
        if is_quick(item):
            item.add_marker("quick")
        group = "alone" if item.get_closest_marker("alone") else _shares(item)
        if group:
            item.add_marker(pytest.mark.xdist_group(group))


def _shares(item: pytest.Item) -> str | None:
    """What a test shares with others that would be made by every worker: its module's fixture, or a server."""
    if isinstance(item, pytest.Function):
        parameters = set(item.name.strip("]").split("[")[-1].split("-"))
        if item.path.parent.name == "cluster" or item.path.stem == "test_object_blobs" or OBJECT_STORES & parameters:
            return "alone"  # several nodes, and a server that takes long to start
        for found in item._fixtureinfo.name2fixturedefs.values():
            if any(each.scope == "module" for each in found):
                return item.path.stem
    return None


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of tests that are coroutines."""
    return "asyncio"


@pytest.fixture(scope="session")
def _watch() -> Watch:
    return Watch()


@pytest.fixture(autouse=True)
def _quick_is_quick(request: pytest.FixtureRequest) -> Iterator[None]:
    """In a run of the quick tests nothing is started."""
    if request.config.option.markexpr != "quick":
        yield
        return
    watch: Watch = request.getfixturevalue("_watch")
    watch.running = True
    yield
    watch.running = False


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument: what gzip makes has the time in it, and each worker must find the same tests."""
    return argname if isinstance(val, bytes) and len(val) > 20 else None


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
    return str(REAL_PYPI)


@pytest.fixture(autouse=True)
def _reach_real_pypi(request: pytest.FixtureRequest) -> None:
    """Tests marked `pypi` run only where it can be reached."""
    if request.node.get_closest_marker("pypi") is not None:
        request.getfixturevalue("real_pypi")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what all tests shared, and hand what a worker counted to the process that prints the summary."""
    close_shared()
    stop_server()
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["counts"] = dict(counts)


@pytest.hookimpl(optionalhook=True)  # xdist's
def pytest_testnodedown(node: Any) -> None:
    """Add what a worker counted."""
    counts.update(getattr(node, "workeroutput", {}).get("counts", {}))


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
