"""Labelled builds with real clients: what each of them takes is recorded, and everything stays in the label."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.support import http
from tests.support.clients import Clients, pins
from tests.support.command import run
from tests.support.mirror import Mirror
from tests.support.npm import NpmClients, NpmRegistry
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.upstream import Response, Upstream

LIB, APP = wheel("lib", "2.0"), wheel("app", "1.0", ["lib>=1"])
DATE, PIN = "2024-01-04", "tools-2024-01-04"


def test_what_each_client_takes_is_recorded(
    pypi: PyPI, upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror], clients: Clients
) -> None:
    pypi.upload(LIB, "2024-01-01T00:00:00Z")
    pypi.upload(APP, "2024-01-02T00:00:00Z")
    upstream = upstreams()
    npm, registry, server = NpmClients(clients), NpmRegistry(upstream), mirror(pypi)
    registry.publish("left", "1.0.0", content="left 1")
    other = upstreams()
    other.pages["/tool.tar.gz"] = Response(b"tool")
    for client in ("pip", "oldpip", "uv"):
        assert clients.install(client, server.at(f"{DATE}--{client}"), ["app"]) == pins(APP, LIB)
    assert npm.install("npm", server.pin(f"{PIN}--npm", registry.url), {"left": "*"}) == {"left": ("1.0.0", "left 1")}
    assert http.get(server.pin(f"{PIN}--npm", f"{other.url}/tool.tar.gz")).content == b"tool"
    server.stop()

    def taken(label: str) -> dict[str, tuple[str, str]]:
        """The digest and client of each file by its name, in whichever way it was taken."""
        lines = run("builds", label, "--json", "--data", server.data).stdout.splitlines()
        files = [json.loads(line) for line in lines]
        return {
            file["address"].rpartition("/")[2]: (file["sha256"], file["client"].partition("/")[0]) for file in files
        }

    for client in ("pip", "oldpip", "uv"):
        found = taken(client)
        agent = client.removeprefix("old")
        assert {name: found[name] for name in (APP.filename, LIB.filename)} == {
            dist.filename: (dist.sha256, agent) for dist in (APP, LIB)
        }
        assert set(found) <= {name + suffix for name in (APP.filename, LIB.filename) for suffix in ("", ".metadata")}
    assert {name: client for name, (_, client) in taken("npm").items()} == {
        "left-1.0.0.tgz": "npm",
        "tool.tar.gz": "python-httpx",
    }
