"""Export and import between a folder and several machines, there and back: the same answers, and the same archive."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from httpcache.archive import layout
from httpcache.archive.collecting import manifest
from tests.support.cluster import Cluster
from tests.support.command import run
from tests.support.mirror import COMMAND, Mirror
from tests.support.moved import PIN, Filled
from tests.support.registries import PyPI
from tests.support.upstream import Upstream


def lines(archive: Path) -> list[layout.Line]:
    """What an archive lists."""
    file, size = manifest(archive)
    with file:
        return list(layout.lines(file, size))


def test_there_and_back(
    cluster: Cluster, upstream: Upstream, pypi: PyPI, mirror: Callable[..., Mirror], tmp_path: Path
) -> None:
    """One import is killed, and run again; nodes answer with what was imported, without an upstream."""
    source = mirror(pypi)
    filled = Filled(source, upstream, pypi, 20)
    archives = [tmp_path / name for name in ("source.tar", "nodes.tar", "back.tar")]

    def carry(command: str, *arguments: str | Path) -> None:
        ran = run(command, *arguments, environment=cluster.environment)
        assert ran.returncode == 0, ran.stderr

    carry("export", "--data", source.data, PIN, "pypi", archives[0])
    filled.stop()
    killed(archives[0], cluster)
    carry("import", *cluster.command, archives[0])
    (node,) = cluster.start(1, "--offline")
    carry("export", *cluster.command, PIN, "pypi", archives[1])
    back = Mirror(tmp_path / "back", pypi.url)
    carry("import", "--data", back.data, archives[1])
    carry("export", "--data", back.data, PIN, "pypi", archives[2])
    listed = lines(archives[0])
    assert lines(archives[1]) == lines(archives[2]) == listed
    assert sum(isinstance(line, layout.BodyLine) for line in listed) == len(filled.bodies) + 1
    back.start("--offline")
    try:
        for each in (node, back):
            filled.check(each)
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
