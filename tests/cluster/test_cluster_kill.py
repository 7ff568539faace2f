"""Nodes are killed and started again under load: the others answer, and nothing gets lost."""

from __future__ import annotations

import time
from random import Random

from tests.support import http
from tests.support.cluster import Cluster
from tests.support.cluster_load import Load
from tests.support.command import run
from tests.support.registries import PyPI
from tests.support.tally import tally
from tests.support.upstream import Upstream

SECONDS = 15.0


def test_nodes_are_killed_at_random_instants(cluster: Cluster, upstream: Upstream, pypi: PyPI) -> None:
    """Meanwhile the pin of others is forgotten again and again."""
    load = Load(cluster, upstream, pypi)
    nodes = cluster.start(3)
    dice = Random(1)
    kills = 0
    with load.running():
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and not load.wrong:
            time.sleep(dice.random())
            killed = dice.choice(nodes)
            killed.kill()
            kills += 1
            for other in nodes:
                if other is not killed:
                    assert load.ask(other, load.fresh()) == 200
            killed.start()
            assert http.get(killed.pin("other", f"{upstream.url}/20000/{kills}")).status_code == 200
            run("forget", "other", "--yes", *cluster.command, environment=cluster.environment)
    tally("kills of nodes under load", kills)
    assert 503 not in load.answered
    assert load.answered[200] > 100
    load.recovers()
    load.check()
