"""A mirror moves from a folder to PostgreSQL and an object store, and back, with all that it has."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.support import http
from tests.support.cluster import Cluster
from tests.support.command import run
from tests.support.index import ask
from tests.support.inside import checked_records
from tests.support.mirror import COMMAND, Mirror
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI
from tests.support.upstream import Response, Upstream

PIN = "a-2024-01-02"
SIZES = (0, 5, 16 * 1024, 16 * 1024 + 1, 300_000)


def test_there_and_back(
    cluster: Cluster, upstream: Upstream, pypi: PyPI, mirror: Callable[..., Mirror], tmp_path: Path
) -> None:
    """While it serves, with kills in between, and once more for what came since."""
    upstream.otherwise = lambda request: Response(request.path.encode().ljust(SIZES[len(request.path) % 5], b"."))
    pypi.upload(wheel("demo", "1.0", padding=50_000), "2023-06-01T00:00:00Z")
    source = mirror(pypi)
    names = ["x" * number for number in range(1, 60)]
    bodies = {name: http.get(source.pin(PIN, f"{upstream.url}/{name}")).content for name in names}
    page = ask(f"{source.at('2023-07-01')}demo/", JSON)
    path = page.json()["files"][0]["url"]
    file = http.get(source.url + path).content
    store = ",".join(cluster.store[1::2])
    chance = random.Random(0)
    for _ in range(4):
        killed(source.data, store, cluster, chance.uniform(0.5, 2.5))
    assert run("copy", source.data, store, environment=cluster.environment).returncode == 0
    bodies["late"] = http.get(source.pin(PIN, f"{upstream.url}/late")).content
    source.stop()
    again = run("copy", source.data, store, environment=cluster.environment)
    assert again.stdout.startswith("copied 1 entries"), again
    for server in (upstream, pypi.index, pypi.files):
        server.stop()
    (node,) = cluster.start(1, "--offline")
    back = Mirror(tmp_path / "back", pypi.url)
    assert run("copy", store, back.data, environment=cluster.environment).returncode == 0
    assert len(checked_records(back.data)) == len(checked_records(source.data))
    back.start("--offline")
    try:
        for each in (node, back):
            for name, body in bodies.items():
                assert http.get(each.pin(PIN, f"{upstream.url}/{name}")).content == body
            assert ask(f"{each.at('2023-07-01')}demo/", JSON).content == page.content
            assert http.get(each.url + path).content == file
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
