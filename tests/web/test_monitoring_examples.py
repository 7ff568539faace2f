"""The dashboard and the alerts of the examples: they name what exists, and a real Prometheus answers every query."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from httpcache.metrics import FAMILIES, Type
from tests.support import http
from tests.support.config import table
from tests.support.index import hrefs
from tests.support.inside import until
from tests.support.mirror import Mirror, free_port
from tests.support.packages import sdist, wheel
from tests.support.registries import PyPI
from tests.support.upstream import CUT, Response, Upstream

FOLDER = Path(__file__).parents[2] / "examples/monitoring"
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
RULES = (FOLDER / "rules.yml").read_text()
QUERIES = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
HTML = {"Accept": "text/html"}

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="Prometheus is not installed: make prometheus-tools",
)


def test_every_metric_that_is_named_exists_and_is_on_the_dashboard() -> None:
    exist = set[str]()
    for family in FAMILIES.values():
        ends = {Type.COUNTER: ["_total"], Type.GAUGE: [""], Type.HISTOGRAM: ["_bucket", "_sum", "_count"]}[family.type]
        exist |= {f"{family.name}{end}" for end in ends}
    shown = set(re.findall(r"\bhttpcache_\w+", " ".join(query for _, query in QUERIES)))
    assert shown <= exist
    assert set(re.findall(r"(?<=[( ])httpcache_\w+(?=[{\[ )])", RULES)) <= exist
    assert {name.removesuffix("_bucket").removesuffix("_total") for name in shown} == set(FAMILIES)


@needs_prometheus
def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    for what, name in (("rules", "rules.yml"), ("config", "prometheus.yml")):
        ran = subprocess.run(["promtool", "check", what, FOLDER / name], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "SUCCESS" in ran.stdout


@needs_prometheus
def test_each_alert_fires_when_it_should_and_not_before() -> None:
    tests = (FOLDER / "rules_test.yml").read_text()
    for alert in re.findall(r"- alert: (\w+)", RULES):
        told = tests.split(f"alertname: {alert}\n        eval_time")[1:]
        assert any("exp_alerts" in each.partition("- alertname")[0] for each in told), f"{alert} is not seen to fire"
    ran = subprocess.run(
        ["promtool", "test", "rules", "rules_test.yml"], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[[Mirror], str]]:
    """Start a Prometheus with the configuration of the examples, in front of a mirror; return its address."""
    started: list[subprocess.Popen[bytes]] = []

    def start(server: Mirror) -> str:
        config = (FOLDER / "prometheus.yml").read_text()
        assert config.count("mirror:8080") == 1
        config = config.replace("mirror:8080", f"127.0.0.1:{server.port}").replace("15s", "1s")
        (tmp_path / "prometheus.yml").write_text(config)
        (tmp_path / "rules.yml").write_text(RULES)
        address = f"127.0.0.1:{free_port()}"
        options = [f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
        with (tmp_path / "prometheus.log").open("wb") as log:
            line = ["prometheus", *options, f"--web.listen-address={address}"]
            started.append(subprocess.Popen(line, stdout=log, stderr=log))
        return f"http://{address}"

    yield start
    for process in started:
        process.terminate()
        process.wait(30)


@needs_prometheus
def test_a_real_prometheus_has_data_for_every_query(
    pypi: PyPI,
    upstream: Upstream,
    mirror: Callable[..., Mirror],
    prometheus: Callable[[Mirror], str],
    tmp_path: Path,
) -> None:
    """After a bit of everything: a capture, a rescue, what is withheld, failures, hits."""
    gone, kept, bad = sdist("thing", "1.0"), wheel("thing", "1.1"), wheel("bad", "1.0")
    for dist in (gone, kept, bad):
        pypi.upload(dist, "2024-01-01T12:00:00Z")
    upstream.pages |= {
        "/file": Response(b"x" * 1000),
        "/cut": Response([b"half", CUT], headers={"Content-Length": "8"}),
    }
    config = tmp_path / "httpcache.toml"
    config.write_text(table("block", project="bad", reason="malware"))
    server = mirror(pypi, "--config", str(config), "--workers", "2", "--capture")
    asked = prometheus(server)

    live = f"{server.at('live')}thing/"
    links = hrefs(http.get(live, headers=HTML).content)
    pypi.delete(gone)
    assert len(hrefs(http.get(live, headers=HTML).content)) == len(links) - 1

    def visit() -> None:
        assert http.get(server.same(links[-1])).status_code == 200
        assert http.get(server.pin("p-2024-01-02", f"{upstream.url}/file")).status_code == 200
        assert http.get(f"{server.url}/files/bad/{bad.sha256}/{bad.filename}").status_code == 403
        with suppress(httpx.RemoteProtocolError):
            http.get(server.pin("p-2024-01-02", f"{upstream.url}/cut"))

    def missing() -> list[str]:
        visit()
        queries = [query.replace("$__rate_interval", "1m").replace("$__range", "1h") for _, query in QUERIES]
        return [query for query in queries if not _data(asked, query)]

    until(lambda: _is_up(asked), "Prometheus")
    until(lambda: not missing(), "data for every query")
    assert missing() == []
    assert len(_rules(asked)) == RULES.count("- alert:")
    until(lambda: all(rule["health"] == "ok" for rule in _rules(asked)), "the rules to be evaluated")
    assert {rule["name"] for rule in _rules(asked) if rule["state"] == "firing"} == set()


def _is_up(asked: str) -> bool:
    with suppress(httpx.TransportError):
        return http.get(f"{asked}/-/ready").status_code == 200 and bool(_data(asked, 'up{job="httpcache"} == 1'))
    return False


def _data(asked: str, query: str) -> list[object]:
    answer = http.get(f"{asked}/api/v1/query", params={"query": query}).json()
    assert answer["status"] == "success", answer
    found: list[object] = answer["data"]["result"]
    return found


def _rules(asked: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = http.get(f"{asked}/api/v1/rules").json()["data"]["groups"][0]["rules"]
    return found
