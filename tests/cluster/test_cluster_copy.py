"""A mirror moves from a folder to PostgreSQL and an object store, and back, with all that it has."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.cluster import Cluster
from tests.support.command import run
from tests.support.inside import checked_records
from tests.support.mirror import COMMAND, Mirror
from tests.support.moved import Filled
from tests.support.registries import PyPI
from tests.support.upstream import Upstream


def test_there_and_back(
    cluster: Cluster, upstream: Upstream, pypi: PyPI, mirror: Callable[..., Mirror], tmp_path: Path
) -> None:
    """While it serves, with kills in between, and once more for what came since."""
    source = mirror(pypi)
    filled = Filled(source, upstream, pypi, 60)
    store = ",".join(cluster.store[1::2])
    chance = random.Random(0)
    for _ in range(4):
        killed(source.data, store, cluster, chance.uniform(0.5, 2.5))
    assert run("copy", source.data, store, environment=cluster.environment).returncode == 0
    filled.add(source, "late")
    source.stop()
    again = run("copy", source.data, store, environment=cluster.environment)
    assert again.stdout.startswith("copied 1 entries"), again
    filled.stop()
    (node,) = cluster.start(1, "--offline")
    back = Mirror(tmp_path / "back", pypi.url)
    assert run("copy", store, back.data, environment=cluster.environment).returncode == 0
    assert len(checked_records(back.data)) == len(checked_records(source.data))
    back.start("--offline")
    try:
        for each in (node, back):
            filled.check(each)
        back.stop()
    finally:
        back.kill()
    listed = [
        run("ls", *where, environment=cluster.environment).stdout for where in (cluster.store, ("--data", back.data))
    ]
    assert listed[0] == listed[1] == run("ls", "--data", source.data).stdout
    assert run("verify", *cluster.store, "--data", tmp_path / "n", environment=cluster.environment).returncode == 0


def killed(data: Path, store: str, cluster: Cluster, seconds: float) -> None:
    """Begin a copy, and kill it."""
    environment = {"PATH": "/usr/bin:/bin", **cluster.environment}
    with subprocess.Popen([COMMAND, "copy", data, store], env=environment, stderr=subprocess.DEVNULL) as process:
        time.sleep(seconds)
        process.kill()
