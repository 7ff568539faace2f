"""An npm registry that the test changes at any time, and the real npm, pnpm and both Yarns."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tests.support.clients import CLIENTS, Clients, Result
from tests.support.upstream import Request, Response, Upstream

ABBREVIATED: Final = "application/vnd.npm.install-v1+json"
ASKED: Final = f"{ABBREVIATED}; q=1.0, application/json; q=0.8, */*"
"""The `Accept` of installers."""
NPM_CLIENTS: Final = ("npm", "pnpm", "yarn", "berry")
_MODULES: Final = CLIENTS / "npm/node_modules"
_PROGRAMS: Final = {
    "pnpm": ("node", str(_MODULES / "pnpm/bin/pnpm.cjs")),
    "yarn": ("node", str(_MODULES / "yarn/bin/yarn.js")),
    "berry": ("node", str(_MODULES / "@yarnpkg/cli-dist/bin/yarn.js")),
}


def integrity(body: bytes, algorithm: str = "sha512") -> str:
    """The digest as W3C's Subresource Integrity writes it."""
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, body).digest()).decode()}"


def tarball(name: str, version: str, *, content: str = "", **manifest: Any) -> bytes:
    """What `npm pack` makes of a package, with an index.js of `content`."""
    buffer = io.BytesIO()
    files = {"package.json": json.dumps({"name": name, "version": version, **manifest}), "index.js": content}
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, text in files.items():
            info = tarfile.TarInfo(f"package/{path}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


@dataclass
class NpmRegistry:
    """A registry below `prefix`: packuments in both forms, manifests of versions, tarballs (on `files` if given)."""

    upstream: Upstream
    prefix: str = "/npm/"
    files: Upstream | None = None
    packuments: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.upstream.otherwise = self._answer

    @property
    def url(self) -> str:
        """The address that clients are given."""
        return self.upstream.url + self.prefix

    def publish(self, name: str, version: str, *, content: str = "", link: str = "", **manifest: Any) -> bytes:
        """Publish a version, tag it as the latest, and return its tarball."""
        body = tarball(name, version, content=content, **manifest)
        host = self.files or self.upstream
        path = f"{self.prefix}{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
        host.pages[path] = Response(body, headers={"Content-Type": "application/octet-stream"})
        dist = {
            "tarball": link or host.url + path,
            "shasum": hashlib.sha1(body).hexdigest(),
            "integrity": integrity(body),
        }
        new = {"_id": name, "name": name, "dist-tags": {}, "versions": {}, "time": {}, "readme": "# Long"}
        packument = self.packuments.setdefault(name, new)
        packument["versions"][version] = {"name": name, "version": version, "_npmUser": {}, **manifest, "dist": dist}
        packument["dist-tags"]["latest"] = version
        packument["time"] |= {version: "2024-01-01T00:00:00.000Z", "modified": "2024-01-01T00:00:00.000Z"}
        return body

    def empty(self) -> None:
        """From now on there is nothing here."""
        self.packuments.clear()
        for host in {id(h): h for h in (self.upstream, self.files) if h}.values():
            host.pages.clear()

    def _answer(self, request: Request) -> Response:
        found = re.fullmatch(r"((?:@[^/%]+(?:/|%2[fF]))?[^/@]+)(?:/([^/]+))?", request.path.removeprefix(self.prefix))
        packument = self.packuments.get(re.sub("(?i)%2f", "/", found[1])) if found else None
        if found is None or packument is None:
            return Response(b'{"error":"not_found"}', 404, {"Content-Type": "application/json"})
        if found[2]:
            manifest = packument["versions"][packument["dist-tags"].get(found[2], found[2])]
            return Response(json.dumps(manifest).encode(), headers={"Content-Type": "application/json"})
        if ABBREVIATED in request.headers.get("accept", ""):
            short = {key: packument[key] for key in ("name", "dist-tags", "versions")}
            return Response(json.dumps(short).encode(), headers={"Content-Type": ABBREVIATED, "Vary": "Accept"})
        body = json.dumps(packument).encode()
        return Response(body, headers={"Content-Type": "application/json", "Vary": "Accept"})


Installed = dict[str, tuple[str, str]]
"""Packages with their version and their index.js."""


@dataclass
class NpmClients:
    """Runs the clients, each time in a new empty home."""

    clients: Clients

    def install(
        self, client: str, registry: str, wanted: Mapping[str, str], token: str = "", home: Path | None = None
    ) -> Installed:
        """Install into a new project; return what is in `node_modules`."""
        home = home or self.clients.place()
        self.prepare(home, client, registry, wanted, token)
        self.run(client, home, "install", *_options(client, registry)).checked()
        return installed(client, home)

    def prepare(self, home: Path, client: str, registry: str, wanted: Mapping[str, str], token: str = "") -> None:
        """Write a project, and the client's settings."""
        project = {"name": "project", "version": "1.0.0", "license": "MIT", "dependencies": dict(wanted)}
        (home / "package.json").write_text(json.dumps(project))
        settings = f"registry={registry}\n"
        if token:
            settings += f"//{urlsplit(registry).netloc}{urlsplit(registry).path}:_authToken={token}\n"
        (home / ".npmrc").write_text(settings + ("always-auth=true\n" if client == "yarn" else ""))
        if client == "berry":
            (home / ".yarnrc.yml").write_text(_BERRY.format(registry=registry))
            if token:
                with (home / ".yarnrc.yml").open("a") as file:
                    file.write(f"npmAlwaysAuth: true\nnpmAuthToken: {token}\n")

    def run(self, client: str, home: Path, *arguments: str) -> Result:
        """Run one command of a client in `home`."""
        program = _PROGRAMS.get(client, ("npm",))
        environment = {
            "npm_config_globalconfig": str(home / "none"),
            "npm_config_update_notifier": "false",
            "npm_config_cache": str(home / "cache/npm"),
            "npm_config_fetch_retries": "0",
            "YARN_CACHE_FOLDER": str(home / "cache/yarn"),
            "CI": "true" if client != "berry" else "",
        }
        return self.clients.run(*program, *arguments, home=home, environment=environment)


_BERRY: Final = """npmRegistryServer: "{registry}"
unsafeHttpWhitelist: ["127.0.0.1"]
enableTelemetry: false
nodeLinker: node-modules
enableGlobalCache: false
httpRetry: 0
"""


def _options(client: str, registry: str) -> Sequence[str]:
    match client:
        case "npm":
            return ("--no-audit", "--no-fund")
        case "pnpm":
            return ("--no-frozen-lockfile", "--store-dir", "store")
        case "yarn":
            return ("--no-progress", "--registry", registry)
    return ()


def installed(client: str, home: Path) -> Installed:
    """What a client has installed."""
    names = [path.parent for path in home.glob("node_modules/*/package.json")]
    names += [path.parent for path in home.glob("node_modules/@*/*/package.json")]
    found = {}
    for folder in names:
        manifest = json.loads((folder / "package.json").read_text())
        found[manifest["name"]] = (manifest["version"], (folder / "index.js").read_text())
    return found


def lock(client: str, home: Path) -> str:
    """The text of the lock file of a project."""
    names = {"npm": "package-lock.json", "pnpm": "pnpm-lock.yaml"}
    return (home / names.get(client, "yarn.lock")).read_text()
