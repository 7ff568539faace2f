"""Labelled builds with real clients: what each of them takes is recorded, and everything stays in the label."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.json import json_parser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from tests.support import http
from tests.support.clients import Clients, pins
from tests.support.command import run
from tests.support.config import table
from tests.support.index import hrefs
from tests.support.mirror import Mirror
from tests.support.npm import NpmClients, NpmRegistry
from tests.support.packages import sdist, wheel
from tests.support.registries import PyPI
from tests.support.upstream import Response, Upstream

LIB, APP = wheel("lib", "2.0"), wheel("app", "1.0", ["lib>=1"], licence="MIT OR Apache-2.0")
SDIST = sdist("other", "3.0")
ADVISORY = {
    "id": "PYSEC-2024-1",
    "summary": "it is not safe",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "Lib"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "1.0"}, {"fixed": "2.1"}]}],
        }
    ],
}
DATE, PIN = "2024-01-04", "tools-2024-01-04"


def test_what_each_client_takes_is_recorded(
    pypi: PyPI, upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror], clients: Clients, tmp_path: Path
) -> None:
    pypi.upload(LIB, "2024-01-01T00:00:00Z")
    for dist in (APP, SDIST):
        pypi.upload(dist, "2024-01-02T00:00:00Z")
    (tmp_path / "osv").mkdir()
    (tmp_path / "osv/PYSEC-2024-1.json").write_text(json.dumps(ADVISORY))
    config = tmp_path / "mirror.toml"
    config.write_text(table("advisories", path="osv"))
    upstream = upstreams()
    npm, registry, server = NpmClients(clients), NpmRegistry(upstream), mirror(pypi, "--config", str(config))
    registry.publish("@acme/left", "1.0.0", content="left 1", license="ISC")
    other = upstreams()
    other.pages["/tool.tar.gz"] = Response(b"tool")
    for client in ("pip", "oldpip", "uv"):
        assert clients.install(client, server.at(f"{DATE}--{client}"), ["app"]) == pins(APP, LIB)
    assert npm.install("npm", server.pin(f"{PIN}--npm", registry.url), {"@acme/left": "*"}) == {
        "@acme/left": ("1.0.0", "left 1")
    }
    assert http.get(server.pin(f"{PIN}--npm", f"{other.url}/tool.tar.gz")).content == b"tool"
    [link] = hrefs(http.get(f"{server.at(f'{DATE}--npm')}other/", headers={"accept": "text/html"}).text)
    assert http.get(server.same(link)).content == SDIST.data
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
        SDIST.filename: "python-httpx",
    }

    def sbom(*arguments: str) -> str:
        ran = run("sbom", *arguments, "--data", server.data, "--config", config)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    for label, form in product(("pip", "npm"), ("cyclonedx", "spdx")):
        text = sbom(label, "--format", form, "--mirror", "https://mirror.example")
        document = json.loads(text)
        (check_cyclonedx if form == "cyclonedx" else check_spdx)(text, tmp_path)
        (expect_cyclonedx if form == "cyclonedx" else expect_spdx)(label, document)
    assert text == sbom("npm", "--format", "spdx", "--mirror", "https://mirror.example")
    assert sbom("--compare", "pip", "uv") == "both took the same\n"
    changes = {line["name"]: line for line in map(json.loads, sbom("--compare", "pip", "npm", "--json").splitlines())}
    assert {name: change["kind"] for name, change in changes.items()} == {
        "app": "removed",
        "lib": "removed",
        "@acme/left": "added",
        "other": "added",
        f"{other.url}/tool.tar.gz": "added",
    }
    assert changes["app"]["files_before"] == [{"name": APP.filename, "sha256": APP.sha256}]
    assert (changes["app"]["before"], changes["app"]["after"]) == (["1.0"], [])


def check_cyclonedx(text: str, folder: Path) -> None:
    """By the schema that the library brings."""
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def check_spdx(text: str, folder: Path) -> None:
    """By the library's reader and its validator."""
    (folder / "document.spdx.json").write_text(text)
    document = json_parser.parse_from_file(str(folder / "document.spdx.json"))
    assert validate_full_spdx_document(document) == []


def expect_cyclonedx(label: str, document: Any) -> None:
    found = {each["name"]: each for each in document["components"]}
    assert document["metadata"]["component"]["name"] == label
    if label == "npm":
        assert found["left"]["purl"] == "pkg:npm/%40acme/left@1.0.0"
        assert found["left"]["licenses"] == [{"license": {"id": "ISC"}}]
        assert found["other"]["purl"] == f"pkg:pypi/other@3.0?file_name={SDIST.filename}"
        assert found["tool.tar.gz"]["type"] == "file"
        assert set(found) == {"left", "other", "tool.tar.gz"}
        return
    assert set(found) == {"app", "lib"}
    app = found["app"]
    assert app["purl"] == f"pkg:pypi/app@1.0?file_name={APP.filename}"
    assert app["hashes"] == [{"alg": "SHA-256", "content": APP.sha256}]
    assert app["licenses"] == [{"expression": "MIT OR Apache-2.0"}]
    assert app["externalReferences"][0]["url"] == f"https://mirror.example/files/app/{APP.sha256}/{APP.filename}"
    facts = {each["name"]: each["value"] for each in app["properties"]}
    assert (facts["httpcache:through"], facts["httpcache:client"].partition("/")[0]) == (DATE, "pip")
    [known] = document["vulnerabilities"]
    assert (known["id"], known["affects"]) == ("PYSEC-2024-1", [{"ref": found["lib"]["bom-ref"]}])


def expect_spdx(label: str, document: Any) -> None:
    found = {each["name"]: each for each in document["packages"]}
    if label == "npm":
        assert set(found) == {"npm", "@acme/left", "other", "tool.tar.gz"}
        return
    app, lib = found["app"], found["lib"]
    assert app["downloadLocation"] == f"https://mirror.example/files/app/{APP.sha256}/{APP.filename}"
    assert app["checksums"] == [{"algorithm": "SHA256", "checksumValue": APP.sha256}]
    assert (app["licenseDeclared"], lib["licenseDeclared"]) == ("MIT OR Apache-2.0", "NOASSERTION")
    assert f"httpcache:through={DATE}" in app["sourceInfo"]
    assert [each["referenceType"] for each in lib["externalRefs"]] == ["purl", "advisory"]
