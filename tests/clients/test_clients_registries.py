"""Registries of every link shape through a pin, beside the dated PyPI, with real clients."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

import pytest

from tests.support.clients import PIP, UV, ClientError, Clients, pins
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import SHAPES, PyPI, Registry, upheavals

DEPENDENCY = wheel("common", "1.0")
THING = wheel("Some_Thing", "2.1.0+cu121", ["common"])
CHANGES = [
    wheel("some-thing", "3.0", ["common"]),
    wheel("Some_Thing", "2.1.0+cu121", ["common"], salt="other"),
]
DATE = "2024-01-04"
PIN = "registry-2024-01-02"
CREDENTIALS = ("reader", "s3cret/+@")
IN_URL = ":".join(quote(part, safe="") for part in CREDENTIALS)
INSTALLERS = ["pip", "oldpip", "uv"]


@pytest.fixture
def filled(pypi: PyPI) -> PyPI:
    """The PyPI has what the registries' package needs, and not the package."""
    pypi.upload(DEPENDENCY, "2024-01-01T00:00:00Z")
    return pypi


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("client", INSTALLERS)
def test_a_pinned_registry_stays_as_it_was(
    client: str,
    shape: str,
    filled: PyPI,
    registry: Callable[..., Registry],
    mirror: Callable[..., Mirror],
    clients: Clients,
) -> None:
    index = registry(shape)
    index.upload(THING, DEPENDENCY)
    server = mirror(filled)
    where = (server.at(DATE), ["some-thing"], server.pin(PIN, index.url))
    assert clients.install(client, *where) == pins(THING, DEPENDENCY)
    for upheaval in upheavals(filled, index, changes=CHANGES):
        assert clients.install(client, *where) == pins(THING, DEPENDENCY), upheaval


@pytest.mark.parametrize("shape", ["ngc", "gitlab", "artifactory", "devpi"])
@pytest.mark.parametrize("client", INSTALLERS)
def test_dependencies_come_from_the_dated_pypi(
    client: str,
    shape: str,
    filled: PyPI,
    registry: Callable[..., Registry],
    mirror: Callable[..., Mirror],
    clients: Clients,
) -> None:
    """The registry does not know the dependency, its 404 is frozen with the pin."""
    index = registry(shape)
    index.upload(THING)
    server = mirror(filled)
    where = (server.at(DATE), ["some-thing"], server.pin(PIN, index.url))
    assert clients.install(client, *where) == pins(THING, DEPENDENCY)
    for upheaval in upheavals(filled, index, changes=[*CHANGES, wheel("common", "9.0")]):
        assert clients.install(client, *where) == pins(THING, DEPENDENCY), upheaval


@pytest.mark.parametrize("client", ["pip", "oldpip"])
def test_dependencies_beside_a_403(
    client: str, filled: PyPI, registry: Callable[..., Registry], mirror: Callable[..., Mirror], clients: Clients
) -> None:
    """PyTorch's host forbids what it does not know; pip goes on to the next index."""
    index = registry("pytorch")
    index.upload(THING)
    server = mirror(filled)
    where = (server.at(DATE), ["some-thing"], server.pin(PIN, index.url))
    assert clients.install(client, *where) == pins(THING, DEPENDENCY)
    index.upload(*CHANGES)
    assert clients.install(client, *where) == pins(THING, DEPENDENCY)


def test_uv_beside_a_403(
    filled: PyPI, registry: Callable[..., Registry], mirror: Callable[..., Mirror], clients: Clients
) -> None:
    """uv goes on after a 403 if the project says so, as it has to for any host but PyTorch's own."""
    index = registry("pytorch")
    index.upload(THING)
    server = mirror(filled)
    home = clients.place()
    (home / "pyproject.toml").write_text(
        '[project]\nname = "project"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["some-thing"]\n'
        f'[[tool.uv.index]]\nname = "torch"\nurl = "{server.pin(PIN, index.url)}"\nignore-error-codes = [403]\n'
        f'[[tool.uv.index]]\nname = "dated"\nurl = "{server.at(DATE)}"\ndefault = true\n'
    )
    clients.run(UV, "sync", "--quiet", "--python", PIP[0], home=home, environment={"UV_NO_CONFIG": "0"}).checked()
    listed = clients.run(UV, "pip", "freeze", "--python", home / ".venv/bin/python", home=home)
    assert listed.checked().output.split() == ["common==1.0", "some-thing==2.1.0+cu121"]


@pytest.mark.parametrize("shape", SHAPES)
def test_what_one_client_froze_serves_all_others(
    shape: str, registry: Callable[..., Registry], mirror: Callable[..., Mirror], clients: Clients
) -> None:
    """HTML for one and JSON for another are one pinned index."""
    index = registry(shape)
    index.upload(THING, DEPENDENCY)
    server = mirror()
    where = server.pin(PIN, index.url)
    assert clients.install("oldpip", where, ["some-thing"]) == pins(THING, DEPENDENCY)
    index.upload(*CHANGES)
    index.upstream.stop()
    server.restart("--offline")
    for client in ("pip", "uv"):
        assert clients.install(client, where, ["some-thing"]) == pins(THING, DEPENDENCY), client


def test_two_pins_of_one_registry_are_two_states(
    registry: Callable[..., Registry], mirror: Callable[..., Mirror], clients: Clients
) -> None:
    index = registry("ngc")
    old, new = wheel("some-thing", "1.0"), wheel("some-thing", "2.0")
    index.upload(old)
    server = mirror()
    first, second = (server.pin(f"ngc-2024-01-0{day}", index.url) for day in (1, 2))
    assert clients.install("pip", first, ["some-thing"]) == pins(old)
    index.upload(new)
    assert clients.install("pip", second, ["some-thing"]) == pins(new)
    assert clients.install("pip", first, ["some-thing"]) == pins(old)


@pytest.mark.parametrize("content_type", ["application/octet-stream", "text/plain", None])
@pytest.mark.parametrize("client", INSTALLERS)
def test_pages_with_a_wrong_type(
    client: str,
    content_type: str | None,
    registry: Callable[..., Registry],
    mirror: Callable[..., Mirror],
    clients: Clients,
) -> None:
    index = registry("ngc")
    index.shape = replace(index.shape, content_type=content_type)
    index.upload(THING, DEPENDENCY)
    where = mirror().pin(PIN, index.url)
    assert clients.install(client, where, ["some-thing"]) == pins(THING, DEPENDENCY)


@pytest.mark.parametrize("client", INSTALLERS)
def test_a_pinned_pypi_itself(client: str, filled: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """A PyPI through a pin: JSON for some clients, HTML for others, files on another host."""
    where = mirror().pin("pypi-2024-01-02", filled.url)
    assert clients.install(client, where, ["common"]) == pins(DEPENDENCY)
    for upheaval in upheavals(filled, changes=[wheel("common", "9.0")]):
        for other in INSTALLERS:
            assert clients.install(other, where, ["common"]) == pins(DEPENDENCY), (upheaval, other)


@pytest.mark.parametrize("shape", ["gitlab", "artifactory", "devpi", "ngc"])
@pytest.mark.parametrize("client", INSTALLERS)
def test_a_private_registry(
    client: str,
    shape: str,
    filled: PyPI,
    registry: Callable[..., Registry],
    mirror: Callable[..., Mirror],
    clients: Clients,
) -> None:
    """Credentials in the index URL open it, for those who have them and for nobody else."""
    index = registry(shape, auth=CREDENTIALS)
    index.upload(THING, DEPENDENCY)
    server = mirror(filled)
    private = server.pin(PIN, index.url, IN_URL)
    assert clients.install(client, server.at(DATE), ["some-thing"], private) == pins(THING, DEPENDENCY)
    for upheaval in upheavals(filled, index, changes=CHANGES):
        assert clients.install(client, server.at(DATE), ["some-thing"], private) == pins(THING, DEPENDENCY)
        page = server.pin(PIN, index.url) + "some-thing/"
        assert status(clients, page) == "401", upheaval
        expected = {"shut down": r"50[24]"}.get(upheaval, "401")
        assert re.fullmatch(expected, status(clients, page, "-u", "reader:guess")), upheaval
        with pytest.raises(ClientError):
            clients.install(client, server.at(DATE), ["some-thing"], server.pin(PIN, index.url))
    for upstream in filled.upstreams:
        assert not [request for request in upstream.requests if "authorization" in request.headers]
    assert CREDENTIALS[1] not in server.log()
    assert IN_URL not in server.log()


def test_a_client_without_credentials_sees_the_challenge(
    registry: Callable[..., Registry], mirror: Callable[..., Mirror], clients: Clients
) -> None:
    index = registry("gitlab", auth=CREDENTIALS)
    index.upload(THING)
    page = mirror().pin(PIN, index.url) + "some-thing/"
    shown = clients.curl("-D", "-", "-o", "/dev/null", page).checked().output
    assert shown.startswith("HTTP/1.1 401")
    assert re.search(r'(?im)^www-authenticate: Basic realm="upstream"', shown)


@pytest.mark.parametrize("header", ["Private-Token: t0ken", "Authorization: Bearer t0ken", "X-Api-Key: t0ken"])
def test_a_token_opens_a_private_registry(
    header: str, registry: Callable[..., Registry], mirror: Callable[..., Mirror], clients: Clients
) -> None:
    name, _, value = header.partition(": ")
    index = registry("gitlab", tokens={name: value})
    index.upload(THING)
    server = mirror()
    page = server.pin(PIN, index.url) + "some-thing/"
    file = server.pin(PIN, index.upstream.url + index.file_path(THING))
    assert status(clients, page) == "401"
    assert status(clients, file) == "401"
    for address in (page, file):
        assert status(clients, "-H", header, address) == "200"
        assert status(clients, address) == "401"
        assert status(clients, "-H", f"{name}: other", address) == "401"
    index.upstream.stop()
    assert status(clients, "-H", header, file) == "200"
    assert status(clients, "-H", f"{name}: other", file) != "200"
    assert "t0ken" not in server.log()


def test_the_right_credentials_of_another_person(
    registry: Callable[..., Registry], mirror: Callable[..., Mirror], clients: Clients
) -> None:
    """Whoever the upstream lets in may read what another fetched, and gets the same bytes."""
    index = registry("artifactory", auth=CREDENTIALS, tokens={"X-JFrog-Art-Api": "k"})
    index.upload(THING)
    server = mirror()
    file = server.pin(PIN, index.upstream.url + index.file_path(THING))
    assert status(clients, "-u", ":".join(CREDENTIALS), file) == "200"
    assert status(clients, "-H", "X-JFrog-Art-Api: k", file) == "200"
    assert status(clients, file) == "401"


def status(clients: Clients, *arguments: str) -> str:
    """The status that curl sees."""
    return clients.curl("-o", "body", "-w", "%{http_code}", *arguments).checked().output
