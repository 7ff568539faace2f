"""The dated PyPI with real clients: what a date gave once it gives for ever."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clients import PIP, UV, ClientError, Clients, Pin, parse_requirements, pins
from tests.support.mirror import Mirror
from tests.support.packages import Dist, sdist, wheel
from tests.support.registries import PyPI, upheavals

LIB_1 = wheel("Some.Lib", "1.0")
LIB_2 = wheel("some-lib", "2.0", requires_python=">=3.8")
APP = wheel("app", "1.0", ["some_lib>=1"])
CHANGES = [wheel("some-lib", "3.0"), wheel("app", "1.0", salt="other"), wheel("app", "1.1", ["some-lib<2"])]


@pytest.fixture
def filled(pypi: PyPI) -> PyPI:
    pypi.upload(LIB_1, "2024-01-01T00:00:00.000000Z")
    pypi.upload(APP, "2024-01-02T12:00:00.500000Z")
    pypi.upload(LIB_2, "2024-01-03T00:00:00.000000Z")
    return pypi


@pytest.mark.parametrize("client", ["pip", "oldpip", "uv"])
def test_a_date_stays_as_it_was(client: str, filled: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    index = mirror(filled).at("2024-01-04")
    assert clients.install(client, index, ["app"]) == pins(APP, LIB_2)
    for upheaval in upheavals(filled, changes=CHANGES):
        assert clients.install(client, index, ["app"]) == pins(APP, LIB_2), upheaval


@pytest.mark.parametrize("first", ["pip", "oldpip", "uv"])
def test_what_one_client_froze_serves_all_others(
    first: str, filled: PyPI, mirror: Callable[..., Mirror], clients: Clients
) -> None:
    server = mirror(filled)
    index = server.at("2024-01-04")
    assert clients.install(first, index, ["app"]) == pins(APP, LIB_2)
    for upstream in filled.upstreams:
        upstream.stop()
    server.restart("--offline")
    for client in {"pip", "oldpip", "uv"} - {first}:
        assert clients.install(client, index, ["app"]) == pins(APP, LIB_2), client


CUTOFFS = [
    ("2024-01-02T12:00:00Z", "2024-01-02T12:00:00Z", None),
    ("2024-01-02T12:00:01Z", "2024-01-02T12:00:01Z", [APP, LIB_1]),
    ("2024-01-03", "2024-01-03T00:00:00Z", [APP, LIB_1]),
    ("2024-01-03T00:00:01Z", "2024-01-03T00:00:01Z", [APP, LIB_2]),
    ("2024-01-04", "2024-01-04T00:00:00Z", [APP, LIB_2]),
]


@pytest.mark.parametrize(("address", "instant", "wanted"), CUTOFFS)
def test_dates_mean_what_the_flags_of_pip_and_uv_mean(
    address: str, instant: str, wanted: list[Dist] | None, filled: PyPI, mirror: Callable[..., Mirror], clients: Clients
) -> None:
    """A file uploaded at the very instant is not in it, for all three."""

    def outcome(client: str, index: str, *flags: str) -> dict[str, Pin] | None:
        try:
            if client == "pip":
                return clients.pip_install(index, ["app"], None, "--dry-run", *flags)
            return clients.uv_compile(index, ["app"], *flags)
        except ClientError:
            return None

    expected = pins(*wanted) if wanted else None
    index = mirror(filled).at(address)
    assert outcome("pip", filled.url, f"--uploaded-prior-to={instant}") == expected
    assert outcome("uv", filled.url, "--exclude-newer", instant) == expected
    assert outcome("pip", index) == expected
    assert outcome("uv", index) == expected


def test_the_flags_work_on_a_dated_index(filled: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """The pages keep the original upload times, so a client may look further back from a later date."""
    index = mirror(filled).at("2024-01-04")
    flag = "--uploaded-prior-to=2024-01-03T00:00:00Z"
    assert clients.pip_install(index, ["app"], None, "--dry-run", flag) == pins(APP, LIB_1)
    assert clients.uv_compile(index, ["app"], "--exclude-newer", "2024-01-03T00:00:00Z") == pins(APP, LIB_1)


def test_resolving_downloads_no_wheel(filled: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """The mirror advertises metadata although the upstream does not, and reads it by ranges."""
    filled.upload(big := wheel("big", "1.0", ["app"], padding=3_000_000), "2024-01-02T00:00:00Z")
    index = mirror(filled).at("2024-01-04")
    locked = clients.uv_compile(index, ["big"])
    assert locked == pins(big, APP, LIB_2)
    asked = [request for request in filled.files.requests if request.path == filled.release(big).path]
    assert asked
    assert all(request.method == "HEAD" or "range" in request.headers for request in asked)


def test_all_dates_share_one_file(filled: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    server = mirror(filled)
    for date in ("2024-01-04", "2024-02-01"):
        assert clients.pip_install(server.at(date), ["some-lib"]) == pins(LIB_2)
    whole = [
        request
        for request in filled.files.requests
        if request.path == filled.release(LIB_2).path and "range" not in request.headers
    ]
    assert len([request for request in whole if request.method == "GET"]) == 1


def test_lock_files_do_not_change_with_the_date(filled: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """A file has one address at all dates."""
    server = mirror(filled)
    files = []
    for date in ("2024-01-04", "2024-02-01"):
        home = uv_project(clients)
        clients.run(UV, "lock", *uv_options(server.at(date)), home=home).checked()
        files.append(re.findall(r'\{ url = "(.*?)"', (home / "uv.lock").read_text()))
    expected = [f"{server.url}/files/{dist.name}/{dist.sha256}/{dist.filename}" for dist in (APP, LIB_2)]
    assert files == [expected, expected]


def test_yanked_and_deleted_later_changes_nothing(
    filled: PyPI, mirror: Callable[..., Mirror], clients: Clients
) -> None:
    index = mirror(filled).at("2024-01-04")
    assert clients.install("pip", index, ["app"]) == pins(APP, LIB_2)
    filled.yank(LIB_2, "broken")
    filled.delete(APP)
    for client in ("pip", "uv"):
        assert clients.install(client, index, ["app"]) == pins(APP, LIB_2), client


def test_yanked_before_is_not_chosen(filled: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    filled.yank(LIB_2, "broken")
    index = mirror(filled).at("2024-01-04")
    for client in ("pip", "oldpip", "uv"):
        assert clients.install(client, index, ["app"]) == pins(APP, LIB_1), client


def test_sdists_are_served_too(filled: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """uv has to download an sdist to read its metadata."""
    filled.upload(source := sdist("sources", "1.0", ["some-lib"]), "2024-01-03T00:00:00Z")
    index = mirror(filled).at("2024-01-04")
    path = filled.release(source).path
    assert clients.uv_compile(index, ["sources"], only_binary=()) == pins(source, LIB_2)
    for upheaval in upheavals(filled, changes=CHANGES):
        assert clients.uv_compile(index, ["sources"], only_binary=()) == pins(source, LIB_2), upheaval
    assert filled.files.count(path) == 1


def test_uv_project_locks_and_syncs(filled: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """`uv lock` and `uv sync`, from an empty cache each time, also when the upstream is gone."""
    index = mirror(filled).at("2024-01-04")
    home = uv_project(clients)
    clients.run(UV, "lock", *uv_options(index), home=home).checked()
    clients.run(UV, "sync", "--locked", *uv_options(index), home=home).checked()
    for upheaval in upheavals(filled, changes=CHANGES):
        again = uv_project(clients)
        (again / "uv.lock").write_bytes((home / "uv.lock").read_bytes())
        clients.run(UV, "sync", "--locked", *uv_options(index), home=again).checked()
        listed = clients.run(UV, "pip", "freeze", "--python", again / ".venv/bin/python", home=again)
        assert listed.checked().output.split() == ["app==1.0", "some-lib==2.0"], upheaval


def test_two_worker_processes(filled: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """They share what is frozen: each file comes from the upstream once."""
    index = mirror(filled, "--workers", "2").at("2024-01-04")
    for client in ("oldpip", "oldpip", "uv", "pip"):
        assert clients.install(client, index, ["app"]) == pins(APP, LIB_2), client
    for dist in (APP, LIB_2):
        path = filled.release(dist).path
        whole = [seen for seen in filled.files.requests if seen.path == path and "range" not in seen.headers]
        assert [seen.method for seen in whole].count("GET") == 1


def test_an_unknown_project_is_an_error_the_client_understands(
    filled: PyPI, mirror: Callable[..., Mirror], clients: Clients
) -> None:
    index = mirror(filled).at("2024-01-04")
    with pytest.raises(ClientError, match="No matching distribution"):
        clients.pip_install(index, ["no-such-project"])
    with pytest.raises(ClientError, match="not found in the package registry"):
        clients.uv_compile(index, ["no-such-project"])


def test_a_name_claimed_later_stays_out_of_an_earlier_date(
    filled: PyPI, mirror: Callable[..., Mirror], clients: Clients
) -> None:
    index = mirror(filled).at("2024-01-04")
    with pytest.raises(ClientError):
        clients.pip_install(index, ["newcomer"])
    filled.upload(wheel("newcomer", "1.0"), "2024-01-05T00:00:00Z")
    with pytest.raises(ClientError):
        clients.pip_install(index, ["newcomer"])


@pytest.mark.parametrize("requires", [[], ["injected"]], ids=["same metadata", "other metadata"])
def test_wrong_bytes_from_the_file_host_never_install(
    requires: list[str], filled: PyPI, mirror: Callable[..., Mirror], clients: Clients
) -> None:
    """Bytes that are not what the index announced are refused and nothing of them is kept."""
    server = mirror(filled)
    index = server.at("2024-01-04")
    path = filled.release(LIB_2).path
    filled.files.pages[path] = wheel("some-lib", "2.0", requires, requires_python=">=3.8", salt="tampered").data
    with pytest.raises(ClientError):
        clients.pip_install(index, ["some-lib==2.0"])
    del filled.files.pages[path]
    assert clients.pip_install(index, ["some-lib==2.0"]) == pins(LIB_2)


@pytest.mark.parametrize("client", ["pip_install", "old_pip_install"])
def test_a_requirements_file_with_hashes_holds(
    client: str, filled: PyPI, mirror: Callable[..., Mirror], clients: Clients
) -> None:
    index = mirror(filled).at("2024-01-04")
    locked = clients.place() / "locked.txt"
    locked.write_text(clients.uv_lock(index, ["app"]))
    assert parse_requirements(locked.read_text()) == pins(APP, LIB_2)
    install = getattr(clients, client)
    install(index, ["-r", str(locked)], None, "--require-hashes")
    for upheaval in upheavals(filled, changes=CHANGES):
        assert install(index, ["-r", str(locked)], None, "--require-hashes") == pins(APP, LIB_2), upheaval


def uv_project(clients: Clients) -> Path:
    """A project of uv's that wants `app`."""
    home = clients.place()
    (home / "pyproject.toml").write_text(
        '[project]\nname = "project"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["app"]\n'
    )
    return home


def uv_options(index: str) -> list[str]:
    """What uv needs to know beside the project."""
    return ["--quiet", "--default-index", index, "--python", PIP[0]]
