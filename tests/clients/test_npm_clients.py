"""The real npm, pnpm, Yarn 1 and Yarn 4 behind a pin: they install the same for ever, and never leave the pin."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote

import httpx
import pytest

from tests.support.clients import Clients
from tests.support.mirror import Mirror
from tests.support.npm import NPM_CLIENTS, NpmClients, NpmRegistry, lock
from tests.support.upstream import Upstream

WANTED = {"left": "^1.0.0", "@acme/lib": "latest"}


@pytest.mark.parametrize("client", NPM_CLIENTS)
def test_what_was_installed_once_is_installed_for_ever(
    client: str, upstreams: Callable[..., Upstream], server: Mirror, pin: str, clients: Clients
) -> None:
    """Whatever the registry does: other versions, other bytes, other tags, nothing, gone. It sees the mirror alone."""
    upstream, files = upstreams(), upstreams()
    npm, registry = NpmClients(clients), NpmRegistry(upstream, files=files)
    for name, dependencies in (("left", {"deep": "*"}), ("@acme/lib", {}), ("deep", {})):
        registry.publish(name, "1.0.0", content=f"{name} 1", dependencies=dependencies)
    address = server.pin(pin, registry.url)
    home = clients.place()
    first = npm.install(client, address, WANTED, home=home)
    assert first["left"] == ("1.0.0", "left 1")
    assert first["@acme/lib"] == ("1.0.0", "@acme/lib 1")
    text = lock(client, home)
    assert client == "berry" or registry.packuments["left"]["versions"]["1.0.0"]["dist"]["integrity"] in text
    links = re.findall(r"https?://[^\s\"'}]+", unquote(text))
    assert all(link.startswith(server.url) for link in links), links

    for name in ("left", "@acme/lib", "deep"):
        registry.publish(name, "1.0.0", content="replaced")
        registry.publish(name, "1.1.0", content="newer")
    assert npm.install(client, address, WANTED) == first
    registry.empty()
    assert npm.install(client, address, WANTED) == first
    upstream.stop()
    files.stop()
    assert npm.install(client, address, WANTED) == first
    asked = [seen.headers["user-agent"] for host in (upstream, files) for seen in host.requests]
    assert asked
    assert all(agent.startswith("httpcache/") for agent in asked), asked


@pytest.mark.parametrize("client", NPM_CLIENTS)
def test_a_private_registry_with_a_token(
    client: str, upstreams: Callable[..., Upstream], server: Mirror, pin: str, clients: Clients
) -> None:
    upstream = upstreams(tokens={"Authorization": "Bearer s3cret"})
    npm, registry = NpmClients(clients), NpmRegistry(upstream)
    registry.publish("left", "1.0.0", content="left 1")
    address = server.pin(pin, registry.url)
    assert npm.install(client, address, {"left": "*"}, "s3cret") == {"left": ("1.0.0", "left 1")}
    assert "s3cret" not in server.log()
    assert httpx.get(f"{address}left/-/left-1.0.0.tgz").status_code == 401


def test_a_package_that_was_not_there_cannot_be_slipped_in(
    upstream: Upstream, mirror: Callable[..., Mirror], pin: str, clients: Clients
) -> None:
    npm, registry, server = NpmClients(clients), NpmRegistry(upstream), mirror()
    registry.publish("left", "1.0.0", content="left 1")
    address = server.pin(pin, registry.url)
    httpx.get(f"{address}left").raise_for_status()  # Yarn 4 does not say what it is: the registry has to be known
    homes = {client: clients.place() for client in NPM_CLIENTS}
    for client, home in homes.items():
        npm.prepare(home, client, address, {f"{client}-evil": "*"})
        assert npm.run(client, home, "install").code != 0
        registry.publish(f"{client}-evil", "1.0.0", content="slipped in")
    server.restart()  # a plain file's 404 is remembered for a moment only
    for client, home in homes.items():
        assert npm.run(client, home, "install").code != 0
        assert not (home / f"node_modules/{client}-evil").exists()
