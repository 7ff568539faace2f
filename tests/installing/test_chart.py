"""The Helm chart: linted and rendered by Helm's own code, and its objects checked against Kubernetes' schemas."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from httpcache import __version__
from httpcache.settings import declared
from tests.support.command import run
from tests.support.container import ROOT

CHART: Final = ROOT / "examples/cluster/helm"
PYTHON: Final = ROOT / ".tools/helm/bin/python"
VERSIONS: Final = ["1.29.0", "1.33.0", "1.37.0"]
"""Of Kubernetes: the oldest that the chart allows, one between, the newest that there are schemas of here."""
DIGEST: Final = "sha256:" + "0" * 64
EVERYTHING: Final = {
    "image": {"repository": "registry.example.com/httpcache", "digest": DIGEST, "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "pull"}],
    "replicas": 5,
    "store": {"secret": "elsewhere"},
    "cache": {"gibibytes": 100},
    "settings": 'workers = 2\nallow-network = ["10.1.2.0/24"]\n',
    "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "tokens", "key": "gitlab"}}}],
    "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "2Gi"}},
    "service": {"type": "LoadBalancer", "port": 8080, "annotations": {"a": "b"}},
    "ingress": {
        "enabled": True, "className": "nginx", "annotations": {"c": "d"}, "host": "m.example.com", "tlsSecret": "tls",
    },
    "serviceAccount": {"name": "mirror"},
    "podAnnotations": {"e": "f"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "g", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
}  # fmt: skip
"""Another value for each one that can be given."""

Answer = dict[str, Any]


@pytest.fixture(scope="module")
def helm() -> Callable[..., Answer]:
    """`helm({"replicas": 2})`: what Helm and Kubernetes say of the chart with these values."""
    if not (PYTHON.parents[1] / "ready").exists():
        pytest.skip("there is no Helm: see `make helm-tools`")

    def ask(values: Answer, name: str = "mirror") -> Answer:
        asked = json.dumps({"chart": str(CHART), "name": name, "values": values, "versions": VERSIONS})
        line = [PYTHON, ROOT / "tests/support/helm.py"]
        ran = subprocess.run(line, input=asked, capture_output=True, text=True, timeout=120, check=False)
        assert ran.returncode == 0, ran.stderr
        found: Answer = json.loads(ran.stdout)
        return found

    return ask


@pytest.mark.parametrize("values", [{}, EVERYTHING, {"replicas": 1, "settings": ""}], ids=["usual", "all", "few"])
def test_helm_and_kubernetes_accept_it(helm: Callable[..., Answer], values: Answer) -> None:
    """The linter's messages of more than advice (1), and what a schema refuses: none."""
    said = helm(values)
    assert [each for each in said["messages"] if each["severity"] > 1] == []
    assert said["invalid"] == []
    kinds = {each["kind"] for each in said["objects"].values()}
    ingress = {"Ingress"} if values.get("ingress") else set()
    assert kinds == {"ConfigMap", "Deployment", "Job", "PodDisruptionBudget", "Service"} | ingress


def test_every_value_is_used(helm: Callable[..., Answer]) -> None:
    text = json.dumps(helm(EVERYTHING))
    for word in (
        f"registry.example.com/httpcache@{DIGEST}", "Always", '"pull"', '"replicas": 5', "elsewhere", '"100G"', "110Gi",
        "workers = 2", "TOKEN", '"2Gi"', "LoadBalancer", '"a": "b"', '"ingressClassName": "nginx"', '"c": "d"',
        "https://m.example.com/live/", '"secretName": "tls"', '"serviceAccountName": "mirror"', '"e": "f"', '"ssd"',
        '"key": "g"', "podAntiAffinity",
    ):  # fmt: skip
        assert word in text, word


@pytest.mark.parametrize(
    "values",
    [
        {"replica": 3}, {"replicas": 0}, {"replicas": "3"}, {"image": {"digest": "sha256:abc"}},
        {"image": {"name": "x"}}, {"cache": {"gibibytes": "40G"}}, {"store": {"secret": ""}}, {"service": {"port": 0}},
        {"ingress": {"hosts": ["m.example.com"]}}, {"settings": {"capture": True}},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_a_wrong_value_is_refused(helm: Callable[..., Answer], values: Answer) -> None:
    assert next(iter(values)).rstrip("s") in helm(values)["refused"]


def test_the_nodes_may_do_nothing(helm: Callable[..., Answer]) -> None:
    """Of the pods, what the restricted standard of Kubernetes asks for; and a name that would set HTTPCACHE_PORT."""
    objects = helm({}, "httpcache")["objects"]
    assert objects["service.yaml"]["metadata"]["name"] == "httpcache"
    for kind in ("deployment.yaml", "schema-job.yaml"):
        pod = objects[kind]["spec"]["template"]["spec"]
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert f"USER {pod['securityContext']['runAsUser']}:" in (ROOT / "Containerfile").read_text()


def test_what_the_nodes_are_told_is_known(helm: Callable[..., Answer], tmp_path: Path) -> None:
    """Variables are of settings, the settings file can be read, and the version is the program's."""
    objects = helm({})["objects"]
    [container] = objects["deployment.yaml"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"httpcache:{__version__}"
    variables = {each["name"] for each in container["env"]} - {"HTTPCACHE_CONFIG"}
    assert variables <= {setting.variable for setting in declared().values()}
    file = tmp_path / "httpcache.toml"
    file.write_text(objects["settings.yaml"]["data"]["httpcache.toml"])
    shown = run("settings", "--config", file)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"^ +capture +on .*httpcache\.toml", shown.stdout, re.MULTILINE), shown.stdout


def test_new_settings_start_the_nodes_anew(helm: Callable[..., Answer]) -> None:
    pods = [helm({"settings": text})["objects"]["deployment.yaml"]["spec"]["template"] for text in ("", "workers = 2")]
    assert pods[0] != pods[1]
    names = {"checksum/settings"}
    assert {name for pod in pods for name in pod["metadata"]["annotations"]} == names
