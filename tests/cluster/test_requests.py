"""How often a node asks PostgreSQL and the object store; docs/scaling.md has the same table."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.support import http, objects
from tests.support.cluster import Cluster
from tests.support.index import ask, instant
from tests.support.meddler import Meddler
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI
from tests.support.upstream import Response, Upstream

PIN: Final = "a-2024-01-02"
BIG: Final = os.urandom(300_000)


class Counted:
    """A cluster whose requests are counted."""

    def __init__(self, cluster: Cluster, meddler: Meddler) -> None:
        self.cluster, self._meddler = cluster, meddler
        cluster.endpoint = meddler.url
        self._name = cluster.index.rpartition("/")[2]
        cluster.postgres.execute(f"ALTER DATABASE {self._name} SET log_statement = 'all'")

    def _now(self) -> tuple[int, int]:
        """Statements without the four `SELECT 1` of each second and those of leases, and requests for objects."""
        said = rf"^{self._name} LOG:  (?:execute|statement)(?!.*(?:SELECT 1$|pg_(?:try_)?advisory_(?:un)?lock))"
        return len(re.findall(said, self.cluster.postgres.log(), re.MULTILINE)), len(self._meddler.requests)

    def requests(self, work: Callable[[], object]) -> tuple[int, int]:
        """How many there are to PostgreSQL and to the object store."""
        before = self._now()
        work()
        after = self._now()
        return after[0] - before[0], after[1] - before[1]


@pytest.fixture
def counted(cluster: Cluster) -> Iterator[Counted]:
    with Meddler(objects.server().url) as meddler:
        yield Counted(cluster, meddler)
        cluster.close()


@pytest.mark.parametrize("size", [100, 300_000])
def test_requests_for_a_file(size: int, counted: Counted, upstream: Upstream) -> None:
    upstream.pages["/file"] = upstream.pages["/first"] = Response(BIG[:size])
    first, other = counted.cluster.start(2)
    for node in (first, other):  # what is read once: the connections, the secret, the rules
        assert http.get(node.pin("warm", f"{upstream.url}/first")).status_code == 200
    upstream.pages["/file"] = Response(BIG[1 : size + 1])

    def get(node: object) -> Callable[[], object]:
        return lambda: http.get(node.pin(PIN, f"{upstream.url}/file")).raise_for_status()  # type: ignore[attr-defined]

    found = {
        "first fetch": counted.requests(get(first)),
        "first hit": counted.requests(get(first)),
        "hit": counted.requests(get(first)),
        "from the engines": counted.requests(get(other)),
        "hit after that": counted.requests(get(other)),
        "next hit": counted.requests(get(other)),
    }
    is_small = size == 100
    assert found == {
        "first fetch": (3, 0 if is_small else 2),
        "first hit": (2 if is_small else 1, 0),
        "hit": (0, 0),
        "from the engines": (2, 0) if is_small else (1, 1),
        "hit after that": (0, 0),
        "next hit": (0, 0),
    }


def test_requests_for_a_project(counted: Counted, pypi: PyPI) -> None:
    pypi.upload(wheel("demo", "1.0"), "2023-06-01T00:00:00Z")
    for name in ("warm", "more"):
        pypi.upload(wheel(name, "1.0"), "2023-06-01T00:00:00Z")
    first, other = counted.cluster.start(2)
    for node in (first, other):
        assert ask(f"{node.at(instant())}warm/", JSON).status_code == 200
    at = ""

    def observe() -> object:
        nonlocal at
        at = instant()
        return ask(f"{first.at(at)}demo/", JSON).raise_for_status()

    assert ask(f"{first.at(instant())}more/", JSON).status_code == 200
    found = {"first observation": counted.requests(observe)}
    pypi.upload(wheel("demo", "2.0"), "2023-06-01T00:00:00Z")
    found["next observation"] = counted.requests(observe)
    found["page again"] = counted.requests(lambda: ask(f"{first.at(at)}demo/", JSON).raise_for_status())
    found["page of another node"] = counted.requests(lambda: ask(f"{other.at(at)}demo/", JSON).raise_for_status())
    found["another page of it"] = counted.requests(
        lambda: ask(f"{other.at('2023-07-01')}more/", JSON).raise_for_status()
    )
    most = {
        "first observation": 8,
        "next observation": 8,
        "page again": 1,
        "page of another node": 2,
        "another page of it": 1,
    }
    assert {name: count for name, (count, _) in found.items() if count > most[name]} == {}
    assert {objects for _, objects in found.values()} == {0}
