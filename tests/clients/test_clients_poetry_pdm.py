"""Poetry and PDM: a lock made through the mirror is made again, and installed, when the upstream is gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clients import Clients, Pins, pins
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI, Registry, upheavals
from tests.support.rows import diagonal

LIB = wheel("Some.Lib", "1.0", requires_python=">=3.8")
APP = wheel("app", "1.0", ["some-lib>=1"])
CHANGES = [wheel("some-lib", "3.0"), wheel("app", "1.0", ["some-lib>=1"], salt="other")]
DATE = "2024-01-04"
PIN = "registry-2024-01-02"
CREDENTIALS = ("reader", "s3cret")
MANAGERS = ["poetry", "pdm"]


def lock(clients: Clients, manager: str, index: str, extra: str | None = None) -> Path:
    """The lock file that the manager writes for a project that wants `app`."""
    make = clients.poetry_lock if manager == "poetry" else clients.pdm_lock
    return make(index, ["app"], extra) / f"{manager}.lock"


def install(clients: Clients, locked: Path, index: str, extra: str | None = None) -> Pins:
    """What an install of that lock, from an empty cache, puts in place."""
    if locked.name == "poetry.lock":
        return clients.poetry_install(index, locked.parent, extra)
    return clients.pdm_install(locked.parent)


@pytest.fixture
def filled(pypi: PyPI) -> PyPI:
    pypi.upload(LIB, "2024-01-01T00:00:00Z")
    return pypi


@pytest.mark.parametrize("manager", MANAGERS)
def test_a_date(manager: str, filled: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    filled.upload(APP, "2024-01-02T00:00:00Z")
    index = mirror(filled).at(DATE)
    locked = lock(clients, manager, index)
    assert install(clients, locked, index) == pins(APP, LIB)
    for upheaval in upheavals(filled, changes=CHANGES):
        assert lock(clients, manager, index).read_text() == locked.read_text(), upheaval
    assert install(clients, locked, index) == pins(APP, LIB)


@pytest.mark.parametrize("manager", MANAGERS)
def test_live(manager: str, filled: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """A lock made on the live index installs the same when the index has moved on and the files are gone."""
    filled.upload(APP, "2024-01-02T00:00:00Z")
    index = mirror(filled).at("live")
    locked = lock(clients, manager, index)
    assert install(clients, locked, index) == pins(APP, LIB)
    filled.upload(wheel("some-lib", "3.0"), "2024-06-01T00:00:00Z")
    filled.files.stop()
    assert install(clients, locked, index) == pins(APP, LIB)


@pytest.mark.parametrize(("manager", "shape"), diagonal(MANAGERS, ["ngc", "pytorch", "gitlab", "artifactory", "devpi"]))
def test_a_pinned_registry_beside_a_date(
    manager: str,
    shape: str,
    filled: PyPI,
    registry: Callable[..., Registry],
    mirror: Callable[..., Mirror],
    clients: Clients,
) -> None:
    index = registry(shape)
    index.upload(APP, LIB)
    server = mirror(filled)
    where = (server.at(DATE), server.pin(PIN, index.url))
    locked = lock(clients, manager, *where)
    assert install(clients, locked, *where) == pins(APP, LIB)
    for upheaval in upheavals(filled, index, changes=CHANGES):
        if upheaval != "emptied":
            assert lock(clients, manager, *where).read_text() == locked.read_text(), upheaval
    assert install(clients, locked, *where) == pins(APP, LIB)


@pytest.mark.parametrize("manager", MANAGERS)
def test_a_private_registry(
    manager: str, filled: PyPI, registry: Callable[..., Registry], mirror: Callable[..., Mirror], clients: Clients
) -> None:
    index = registry("gitlab", auth=CREDENTIALS)
    index.upload(APP)
    server = mirror(filled)
    where = (server.at(DATE), server.pin(PIN, index.url, ":".join(CREDENTIALS)))
    locked = lock(clients, manager, *where)
    assert install(clients, locked, *where) == pins(APP, LIB)
    for upstream in (*filled.upstreams, index.upstream):
        upstream.stop()
    assert install(clients, locked, *where) == pins(APP, LIB)
    for upstream in filled.upstreams:
        assert not [request for request in upstream.requests if "authorization" in request.headers]
