"""PostgreSQL and the object store on bad days, and a node that is cut off, under load: nothing wrong is answered.

Clients get what a node has and may rely on, or a 503 that says when to come again; and all recovers by itself.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final

import httpx
import psycopg
import pytest

from tests.support import http, objects
from tests.support.cluster import Cluster, soon
from tests.support.cluster_load import RECOVERY, Load
from tests.support.meddler import Meddler
from tests.support.mirror import Mirror
from tests.support.postgres import Postgres
from tests.support.registries import PyPI
from tests.support.upstream import Upstream

AWAY: Final = 15.0
"""Seconds that an engine is away."""


def is_ready(node: Mirror) -> bool:
    """Whether a load balancer would send requests to a node."""
    with suppress(httpx.TransportError):
        return http.get(f"{node.url}/-/ready", timeout=3).status_code == 200
    return False


@contextmanager
def of_its_own(folder: Path, pypi: PyPI, **settings: object) -> Iterator[Cluster]:
    """A cluster on a PostgreSQL that a test may do anything to."""
    server = Postgres(**settings)
    made = Cluster(folder, server, objects.server(), pypi.url)
    try:
        yield made
    finally:
        made.close()
        server.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_postgresql_is_restarted(how: signal.Signals, tmp_path: Path, upstream: Upstream, pypi: PyPI) -> None:
    with of_its_own(tmp_path, pypi) as cluster:
        load = Load(cluster, upstream, pypi)
        cluster.start(3)
        with load.running():
            for _ in range(3):
                load.run_for(3)
                cluster.postgres.stop(how)
                cluster.postgres.start()
            load.run_for(2)
        assert load.answered[200] > 100
        load.recovers()
        load.check()


def test_postgresql_is_away_for_a_while(tmp_path: Path, upstream: Upstream, pypi: PyPI) -> None:
    with of_its_own(tmp_path, pypi) as cluster:
        load = Load(cluster, upstream, pypi)
        nodes = cluster.start(3)
        with load.running():
            load.run_for(2)
            cluster.postgres.stop()
            load.run_for(2)
            before = load.answered[200]
            assert not any(map(is_ready, nodes))
            load.run_for(AWAY - 2)
            assert load.answered[200] == before
            assert load.answered[503] > 10
            cluster.postgres.start()
            soon(lambda: all(map(is_ready, nodes)), "all are ready", RECOVERY)
            load.run_for(2)
            assert load.answered[200] > before
        load.recovers()
        load.check()


def test_postgresql_has_too_few_connections(tmp_path: Path, upstream: Upstream, pypi: PyPI) -> None:
    """Three nodes need 27 at most, and there are 9: who gets none waits."""
    with of_its_own(tmp_path, pypi, max_connections=12) as cluster:
        load = Load(cluster, upstream, pypi)
        cluster.start(3)
        with load.running():
            load.run_for(8)
        assert load.answered[200] > 100
        load.recovers()
        load.check()


def test_others_have_all_connections(tmp_path: Path, upstream: Upstream, pypi: PyPI) -> None:
    with of_its_own(tmp_path, pypi, max_connections=20) as cluster:
        load = Load(cluster, upstream, pypi)
        nodes = cluster.start(3)
        taken: list[psycopg.Connection[tuple[object, ...]]] = []
        with load.running():
            load.run_for(2)
            cluster.postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'httpcache'"
            )
            end = time.monotonic() + 8
            while time.monotonic() < end:
                with suppress(psycopg.OperationalError):
                    taken.append(psycopg.connect(cluster.index))
            for connection in taken:
                connection.close()
            soon(lambda: all(map(is_ready, nodes)), "all are ready", RECOVERY)
        load.recovers()
        load.check()


@contextmanager
def stopped(meddler: Meddler) -> Iterator[None]:
    """The object store itself is killed, and started again with its data."""
    objects.server().stop()
    try:
        yield
    finally:
        objects.server().start()


def meddled(**how: object) -> Callable[[Meddler], AbstractContextManager[None]]:
    """What is between the nodes and the object store does this."""

    @contextmanager
    def doing(meddler: Meddler) -> Iterator[None]:
        for name, value in how.items():
            setattr(meddler, name, value)
        yield
        meddler.reset()

    return doing


TROUBLES: Final[dict[str, Callable[[Meddler], AbstractContextManager[None]]]] = {
    "stopped": stopped,
    "500": meddled(status=500),
    "503": meddled(status=503, body=b"<Error><Code>SlowDown</Code></Error>"),
    "403": meddled(status=403, body=b"<Error><Code>InvalidAccessKeyId</Code></Error>"),
    "slow": meddled(pause=0.3),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_the_object_store_is_in_trouble(name: str, cluster: Cluster, upstream: Upstream, pypi: PyPI) -> None:
    """What a node has, it answers; what it has not, it cannot, and says so."""
    with Meddler(objects.server().url) as meddler:
        cluster.endpoint = meddler.url
        load = Load(cluster, upstream, pypi)
        nodes = cluster.start(3)
        path = load.fresh(400_000)
        for node in nodes:
            soon(lambda node=node: load.ask(node, path) == 200, "a copy on each node", 5)  # type: ignore[misc]
        with load.running():
            load.run_for(2)
            with TROUBLES[name](meddler):
                for _ in range(5):
                    load.run_for(1)
                    assert [load.ask(node, path) for node in nodes] == [200] * 3
        load.recovers(400_000)
        load.check()
        cluster.endpoint = objects.server().url
