"""SIGHUP to a node: what is new holds there, beside the others, and no connection to PostgreSQL stays behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from tests.support import http
from tests.support.cluster import Cluster, soon
from tests.support.command import run
from tests.support.config import table
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI
from tests.support.upstream import Upstream

BIG = os.urandom(300_000)
SURE = 20
"""So many requests meet both workers of a node."""


def reload(node: Mirror, file: Path, text: str, times: int) -> None:
    file.write_text(text)
    assert node.process
    node.process.send_signal(signal.SIGHUP)
    soon(lambda: node.log().count("the settings were read again") == times, "the reload", 30)


def everywhere(condition: Callable[[], bool]) -> bool:
    return all(condition() for _ in range(SURE))


def test_a_node_reads_its_settings_again(cluster: Cluster, upstream: Upstream, pypi: PyPI) -> None:
    pypi.upload(wheel("foo", "1.0"), "2023-06-01T00:00:00Z")
    upstream.pages["/file"] = BIG
    file = cluster.folder / "httpcache.toml"
    file.write_text("")
    first, second = cluster.start(2, "--workers", "2", "--config", str(file))
    targets = [node.pin("pin", f"{upstream.url}/file") for node in (first, second)]
    assert [http.get(target).content for target in targets] == [BIG] * 2
    database = cluster.index.rpartition("/")[2].partition("?")[0]
    asked = f"select count(*) from pg_stat_activity where datname = '{database}'"

    def connections() -> int:
        return int(cluster.postgres.execute(asked)[0][0])

    def is_blocked(node: Mirror) -> bool:
        return "says so" in http.get(f"{node.at('live')}foo/", headers={"Accept": JSON}).text

    before = connections()
    for times in range(1, 6):
        text = table("block", project="foo", reason="says so") if times % 2 else ""
        reload(first, file, text, times)
        soon(lambda: everywhere(lambda: is_blocked(first) == bool(text)), "every worker has it", 30)  # noqa: B023
        assert everywhere(lambda: http.get(targets[0]).content == BIG)
    assert not is_blocked(second)
    soon(lambda: connections() <= before + 2, "the end of the connections of what was replaced", 30)
    upstream.stop()
    assert [http.get(target).content for target in targets] == [BIG] * 2
    assert run("forget", "pin", "--yes", *cluster.command, environment=cluster.environment).returncode == 0
    soon(lambda: everywhere(lambda: http.get(targets[0]).status_code == 502), "the other workers know", 10)
    first.stop()
    second.stop()
