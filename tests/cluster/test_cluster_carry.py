"""Export and import between a folder and several machines, there and back: the same answers, and the same archive."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from httpcache.archive import layout
from httpcache.archive.collecting import manifest
from tests.support import http
from tests.support.cluster import Cluster
from tests.support.command import run
from tests.support.index import ask
from tests.support.mirror import COMMAND, Mirror
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI
from tests.support.upstream import Response, Upstream

PIN = "a-2024-01-02"
SIZES = (0, 5, 16 * 1024, 16 * 1024 + 1, 300_000)


def lines(archive: Path) -> list[layout.Line]:
    """What an archive lists."""
    file, size = manifest(archive)
    with file:
        return list(layout.lines(file, size))


def test_there_and_back(
    cluster: Cluster, upstream: Upstream, pypi: PyPI, mirror: Callable[..., Mirror], tmp_path: Path
) -> None:
    """One import is killed, and run again; nodes answer with what was imported, without an upstream."""
    upstream.otherwise = lambda request: Response(request.path.encode().ljust(SIZES[len(request.path) % 5], b"."))
    pypi.upload(wheel("demo", "1.0", padding=50_000), "2023-06-01T00:00:00Z")
    source = mirror(pypi)
    bodies = {
        name: http.get(source.pin(PIN, f"{upstream.url}/{name}")).content for name in ("x" * n for n in range(1, 20))
    }
    page = ask(f"{source.at('2023-07-01')}demo/", JSON)
    path = page.json()["files"][0]["url"]
    file = http.get(source.url + path).content
    archives = [tmp_path / name for name in ("source.tar", "nodes.tar", "back.tar")]

    def carry(command: str, *arguments: str | Path) -> None:
        ran = run(command, *arguments, environment=cluster.environment)
        assert ran.returncode == 0, ran.stderr

    carry("export", "--data", source.data, PIN, "pypi", archives[0])
    for server in (upstream, pypi.index, pypi.files):
        server.stop()
    killed(archives[0], cluster)
    carry("import", *cluster.command, archives[0])
    (node,) = cluster.start(1, "--offline")
    carry("export", *cluster.command, PIN, "pypi", archives[1])
    back = Mirror(tmp_path / "back", pypi.url)
    carry("import", "--data", back.data, archives[1])
    carry("export", "--data", back.data, PIN, "pypi", archives[2])
    listed = lines(archives[0])
    assert lines(archives[1]) == lines(archives[2]) == listed
    assert sum(isinstance(line, layout.BodyLine) for line in listed) == len(bodies) + 1
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


def killed(archive: Path, cluster: Cluster) -> None:
    """Begin an import, and kill it."""
    environment = {"PATH": "/usr/bin:/bin", **cluster.environment}
    command = [str(COMMAND), "import", *cluster.command, str(archive)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        time.sleep(1.2)
        process.kill()
