"""Registries that the operator names: their dates, their files, and the operator's credentials for them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support import http
from tests.support.clients import Clients, pins
from tests.support.command import run
from tests.support.config import configured, table
from tests.support.index import ago, ask, document, filenames, instant
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI, Registry
from tests.support.upstream import Upstream, redirect

CREDENTIALS = ("ci", "S3CRET-token")
DATE = "2024-01-02"
OLD = "2023-06-01T00:00:00Z"
OWN = wheel("own-thing", "1.0", ["common"])
NEWER = wheel("own-thing", "2.0", ["common"])
COMMON = wheel("common", "1.0")
Start = Callable[..., Registry]


def internal(index: str, *, password: object = None, **keys: object) -> str:
    """The registry with Basic credentials, from the environment unless it is said otherwise."""
    return table(
        "registry", name="internal", index=index, user=CREDENTIALS[0], password=password or {"env": "TOKEN"}, **keys
    )


def sent(upstream: Upstream) -> set[str | None]:
    """The credentials of every request that reached an upstream."""
    return {request.headers.get("authorization") for request in upstream.requests}


@pytest.mark.parametrize("source", ["env", "file"])
@pytest.mark.parametrize("client", ["pip", "uv"])
def test_an_instant_of_a_private_registry(
    client: str, source: str, registry: Start, pypi: PyPI, clients: Clients, tmp_path: Path
) -> None:
    """It needs nothing from the client, and installs what was there, though it is deleted and replaced since."""
    private = registry("gitlab", auth=CREDENTIALS)
    private.upload(OWN, COMMON)
    (tmp_path / "token").write_text(f"{CREDENTIALS[1]}\n")
    password = {"env": "TOKEN"} if source == "env" else {"file": str(tmp_path / "token")}
    config = internal(private.url, password=password)
    with configured(tmp_path / "m", config, pypi.url, environment={"TOKEN": CREDENTIALS[1]}) as server:
        assert clients.install(client, server.at("internal/live"), ["own-thing"]) == pins(OWN, COMMON)
        then = server.at(f"internal/{quote(instant())}")
        assert clients.install(client, then, ["own-thing"]) == pins(OWN, COMMON)
        del private.dists[OWN.filename]
        private.upload(NEWER)
        assert clients.install(client, server.at("internal/live"), ["own-thing"]) == pins(NEWER, COMMON)
        assert clients.install(client, then, ["own-thing"]) == pins(OWN, COMMON)
        private.upstream.stop()
        assert clients.install(client, then, ["own-thing"]) == pins(OWN, COMMON)
        assert sent(private.upstream) == {private.upstream.basic()}  # straight away, each time
        assert CREDENTIALS[1] not in server.log()


@pytest.mark.parametrize("header", ["Private-Token", "Authorization"])
def test_a_token_in_a_header(header: str, registry: Start, pypi: PyPI, tmp_path: Path) -> None:
    private = registry("gitlab", tokens={header: "Bearer t0ken"})
    private.upload(OWN)
    config = table("registry", name="internal", index=private.url, header=header, value={"env": "TOKEN"})
    with configured(tmp_path, config, pypi.url, environment={"TOKEN": "Bearer t0ken"}) as server:
        assert filenames(f"{server.at('internal/live')}own-thing/") == [OWN.filename]


def test_what_is_fetched_is_for_everybody(registry: Start, pypi: PyPI, tmp_path: Path) -> None:
    """It is frozen as public, under the registry's name."""
    private = registry("gitlab", auth=CREDENTIALS)
    private.upload(OWN)
    with configured(tmp_path, internal(private.url), pypi.url, environment={"TOKEN": CREDENTIALS[1]}) as server:
        page = document(f"{server.at('internal/live')}own-thing/")
        (link,) = [file["url"] for file in page["files"]]
        assert link == f"/internal/files/own-thing/{OWN.sha256}/{OWN.filename}"
        assert http.get(f"{server.url}{link}.metadata").content == OWN.metadata
        assert http.get(f"{server.url}{link}").content == OWN.data
        private.upstream.stop()
        assert http.get(f"{server.url}{link}").content == OWN.data
        assert http.get(f"{server.url}/files/own-thing/{OWN.sha256}/{OWN.filename}").status_code == 404
        listed = run("ls", "--data", server.data, "internal").stdout.splitlines()
        assert [line.rpartition(" ")[2] for line in sorted(listed, key=len)] == [link, f"{link}.metadata"]
        assert "readers   everyone" in run("show", "--data", server.data, f"{server.url}{link}").stdout


def test_credentials_of_a_client_do_not_go_there(registry: Start, pypi: PyPI, tmp_path: Path) -> None:
    private = registry("gitlab", auth=CREDENTIALS)
    private.upload(OWN)
    clients_own = {"Authorization": "Bearer of-the-client", "Private-Token": "of-the-client"}
    with configured(tmp_path, internal(private.url), pypi.url, environment={"TOKEN": CREDENTIALS[1]}) as server:
        page = ask(f"{server.at('internal/live')}own-thing/", JSON, **clients_own).json()
        assert http.get(f"{server.url}{page['files'][0]['url']}", headers=clients_own).content == OWN.data
        listed = http.get(server.at("internal/live"), headers=clients_own)
        assert "own-thing" in listed.text  # by its log: the registry has no list
    assert len(private.upstream.requests) > 2
    assert sent(private.upstream) == {private.upstream.basic()}
    assert not [seen for seen in private.upstream.requests if "private-token" in seen.headers]


def test_credentials_go_to_the_origin_of_the_index_alone(
    pypi: PyPI, upstreams: Callable[..., Upstream], tmp_path: Path
) -> None:
    """Not to the host of the files, and not to where the registry redirects; a page from there is not the registry's.

    GitLab redirects so to PyPI: what was deleted there would be PyPI's from then on.
    """
    private = PyPI(upstreams(auth=CREDENTIALS), upstreams(ranges=True))
    private.upload(OWN, OLD)
    elsewhere = upstreams()
    elsewhere.otherwise = private._page
    private.index.pages["/simple/moved/"] = redirect(f"{elsewhere.url}/simple/own-thing/")
    with configured(tmp_path, internal(private.url), pypi.url, environment={"TOKEN": CREDENTIALS[1]}) as server:
        page = document(f"{server.at('internal/live')}own-thing/")
        assert http.get(f"{server.url}{page['files'][0]['url']}").content == OWN.data
        answer = ask(f"{server.at('internal/live')}moved/")
        assert (answer.status_code, f"redirects to {elsewhere.url} for" in answer.text) == (502, True)
    assert sent(private.index) == {private.index.basic()}
    assert sent(private.files) == sent(elsewhere) == {None}
    assert elsewhere.count("/simple/own-thing/") == 1


def test_wrong_credentials(registry: Start, pypi: PyPI, tmp_path: Path) -> None:
    """They are the operator's: the client is not asked for any."""
    private = registry("gitlab", auth=CREDENTIALS)
    with configured(tmp_path, internal(private.url), pypi.url, environment={"TOKEN": "revoked"}) as server:
        for when in ("live", DATE):
            answer = ask(f"{server.at(f'internal/{when}')}own-thing/")
            assert answer.status_code == 502
            assert "answered 401" in answer.text
            assert "www-authenticate" not in answer.headers


def test_before_the_first_observation(registry: Start, pypi: PyPI, tmp_path: Path) -> None:
    """Without upload times nothing is known of then; the text says what can be asked for."""
    private = registry("gitlab")
    private.upload(OWN)
    with configured(tmp_path, table("registry", name="internal", index=private.url), pypi.url) as server:
        before = instant()
        page = document(f"{server.at('internal/live')}own-thing/")
        private.upload(NEWER)
        for when in (DATE, before):
            answer = ask(f"{server.at(f'internal/{when}')}own-thing/")
            assert answer.status_code == 400
            earliest, date = re.findall(r"\d{4}-\d\d-\d\d(?:T[0-9:.]+Z)?(?!T)", answer.text)
            assert document(f"{server.at(f'internal/{earliest}')}own-thing/") == page
            assert before < earliest < date
        assert ask(f"{server.at(f'internal/{DATE}')}nothing/").status_code == 404
        assert ask(f"{server.at(f'internal/{DATE}')}nothing/").status_code == 404


def test_upload_times_make_earlier_dates(
    pypi: PyPI, upstreams: Callable[..., Upstream], clients: Clients, tmp_path: Path
) -> None:
    """Those of PEP 700: then it is like PyPI."""
    private = PyPI(upstreams(), upstreams(ranges=True))
    private.upload(OWN, OLD)
    private.upload(COMMON, OLD)
    private.upload(NEWER, ago(days=3))
    with configured(tmp_path / "m", table("registry", name="internal", index=private.url), pypi.url) as server:
        assert clients.install("pip", server.at(f"internal/{DATE}"), ["own-thing"]) == pins(OWN, COMMON)
        assert ask(f"{server.at('internal/2023-05-01')}own-thing/").status_code == 404
        assert filenames(f"{server.at('internal/live')}own-thing/") == [OWN.filename, NEWER.filename]
        assert filenames(f"{server.at('internal/live-7d')}own-thing/") == [OWN.filename]
        names = [each["name"] for each in document(server.at(f"internal/{instant()}"))["projects"]]
        assert names == ["common", "own-thing"]


def test_addresses(registry: Start, pypi: PyPI, tmp_path: Path) -> None:
    """The registry's name comes before all of them, and before a pin of that name."""
    private = registry("gitlab")
    private.upload(OWN)
    pypi.upload(COMMON, OLD)
    config = table("registry", name="internal", index=private.url)
    with configured(tmp_path, config, pypi.url, "--root-path", "/mirror") as server:
        base = f"{server.url}/mirror/internal"
        for address, to in (
            ("live/Own_Thing/", "live/own-thing/"),
            ("live/own-thing", "live/own-thing/"),
            (f"{DATE}/Own.Thing", f"{DATE}/own-thing/"),
        ):
            answer = ask(f"{base}/{address}")
            assert answer.status_code in (302, 307)
            assert answer.headers["location"] == f"/mirror/internal/{to}"
        (file,) = document(f"{base}/live/own-thing/")["files"]
        assert file["url"] == f"/mirror/internal/files/own-thing/{OWN.sha256}/{OWN.filename}"
        for address in (
            "", "/", "/foo/", "/own-thing/", "/files", "/files/own-thing/",
            f"/{private.upstream.url}/", "/live/own-thing/more/", "/files/own-thing/x/y",
        ):  # fmt: skip
            answer = ask(f"{base}{address}")
            assert answer.status_code == 404, address
            assert "/mirror/internal/" in answer.text, address
        answer = ask(f"{base}/simple/own-thing/")
        assert (answer.status_code, "/mirror/internal/live/" in answer.text) == (400, True), answer.text
        for address in (f"{base}/2999-01-01/own-thing/", f"{base}/2024-02-30/own-thing/"):
            assert ask(address).status_code == 400
        answer = ask(f"{base}/live/nothing/")
        assert (answer.status_code, "the registry internal has no project nothing now" in answer.text) == (404, True)
        assert filenames(f"{server.url}/mirror/{DATE}/common/") == [COMMON.filename]
        assert ask(f"{server.url}/mirror/live/own-thing/").status_code == 404


def test_rules_are_for_every_registry_and_advisories_for_the_built_in_one(
    registry: Start, pypi: PyPI, tmp_path: Path
) -> None:
    """A private project may have the name of a public piece of malware."""
    private = PyPI(pypi.index, pypi.files)  # the same registry under two names
    fresh = wheel("fresh", "1.0")
    for dist in (OWN, COMMON):
        private.upload(dist, OLD)
    private.upload(fresh, ago(hours=1))
    (tmp_path / "osv").mkdir()
    advisory = {"id": "MAL-1", "affected": [{"package": {"ecosystem": "PyPI", "name": "own-thing"}}]}
    (tmp_path / "osv/MAL-1.json").write_text(json.dumps(advisory | {"modified": "2024-01-01T00:00:00Z"}))
    config = (
        table("registry", name="internal", index=private.url)
        + table("block", project="common", reason="ours")
        + table("advisories", path="osv")
        + '[cooldown]\nexempt = ["fresh"]\n'
    )
    with configured(tmp_path, config, private.url) as server:
        for prefix in ("", "internal/"):
            assert document(f"{server.at(f'{prefix}{DATE}')}common/")["project-status"]["status"] == "quarantined"
            assert filenames(f"{server.at(f'{prefix}live-7d')}fresh/") == [fresh.filename]
            files = f"{server.url}/{prefix}files"
            assert http.get(f"{files}/common/{COMMON.sha256}/{COMMON.filename}").status_code == 403
            own = http.get(f"{files}/own-thing/{OWN.sha256}/{OWN.filename}")
            assert own.status_code == (200 if prefix else 403)
        assert filenames(f"{server.at(DATE)}own-thing/") == []
        assert filenames(f"{server.at(f'internal/{DATE}')}own-thing/") == [OWN.filename]
        listed = [each["name"] for each in document(server.at("internal/live"))["projects"]]
        assert listed == ["fresh", "own-thing"]
