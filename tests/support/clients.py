"""The real clients, run as a user would, each in a clean environment with caches of its own.

Every run has an empty home: no cache, no configuration, nothing inherited but the certificates. A proxy that
refuses everything but 127.0.0.1 keeps a client from any index other than the one it was given.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

from tests.support.packages import Dist

ROOT: Final = Path(__file__).resolve().parents[2]
CLIENTS: Final = ROOT / ".clients"
PIP: Final = (str(CLIENTS / "current/bin/python"), "-m", "pip")
MIDDLE_PIP: Final = (str(CLIENTS / "midpip/bin/python"), "-m", "pip")
OLD_PIP: Final = (str(CLIENTS / "oldpip/bin/python"), "-m", "pip")
UV: Final = str(CLIENTS / "current/bin/uv")
POETRY: Final = str(CLIENTS / "poetry/bin/poetry")
POETRY_1: Final = str(CLIENTS / "poetry1/bin/poetry")
PIPENV: Final = str(CLIENTS / "pipenv/bin/pipenv")
PDM: Final = str(CLIENTS / "pdm/bin/pdm")
NOWHERE: Final = "http://127.0.0.1:9"
"""The discard port: nothing listens there."""

INSTALLERS: Final = ("pip", "midpip", "oldpip", "uv", "poetry", "poetry1", "pdm", "pipenv")
"""What `Clients.install` can drive."""

INHERITED: Final = ("LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")


@dataclass(frozen=True)
class Pin:
    """What a client settled on: a version and the sha256 of every file it names for it."""

    version: str
    hashes: frozenset[str] = frozenset()


Pins = dict[str, Pin]


def pins(*dists: Dist) -> Pins:
    """The pins of exactly these files."""
    return {dist.name: Pin(dist.version, frozenset([dist.sha256])) for dist in dists}


class ClientError(Exception):
    """A client failed; the text is all that it printed."""


@dataclass
class Result:
    """How one run of a client ended."""

    command: Sequence[str]
    code: int
    output: str
    errors: str

    def checked(self) -> Result:
        """Itself, or raise what the client printed."""
        if self.code != 0:
            command = re.sub(r"//[^/\s]*@", "//…@", " ".join(self.command))
            raise ClientError(f"{command}\nexit code {self.code}\n{self.output}\n{self.errors}")
        return self


@dataclass
class Clients:
    """Runs clients below `folder`; `direct` ones reach the network, for comparisons with the real PyPI."""

    folder: Path
    direct: bool = False
    timeout: float = 120
    results: list[Result] = field(default_factory=list)

    def place(self) -> Path:
        """A new empty folder, the home and the project of one run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        place = self.folder / f"run-{len(list(self.folder.iterdir()))}"
        place.mkdir()
        return place

    def run(
        self,
        *command: str | Path,
        home: Path,
        cwd: Path | None = None,
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> Result:
        """Run one command to its end, with `home` as its home."""
        ran = subprocess.run(
            [str(part) for part in command],
            cwd=cwd or home,
            env=self._environment(home) | dict(environment or {}),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=self.timeout,
            check=False,
        )
        result = Result([str(part) for part in command], ran.returncode, ran.stdout, ran.stderr)
        self.results.append(result)
        return result

    def _environment(self, home: Path) -> dict[str, str]:
        kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
        walls = {} if self.direct else dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), NOWHERE)
        return {
            **kept,
            **walls,
            "no_proxy": "127.0.0.1",
            "PATH": os.defpath,
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_DATA_HOME": str(home / "data"),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "PIP_RETRIES": "0",
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "UV_NO_CONFIG": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_HTTP_RETRIES": "0",
            "UV_CACHE_DIR": str(home / "cache/uv"),
            "POETRY_CACHE_DIR": str(home / "cache/poetry"),
            "POETRY_CONFIG_DIR": str(home / "config/poetry"),
            "POETRY_VIRTUALENVS_IN_PROJECT": "true",
            "POETRY_KEYRING_ENABLED": "false",
            "POETRY_NO_INTERACTION": "1",
            "PIPENV_CACHE_DIR": str(home / "cache/pipenv"),
            "PIPENV_VENV_IN_PROJECT": "1",
            "PIPENV_IGNORE_VIRTUALENVS": "1",
            "PIPENV_NOSPIN": "1",
            "PDM_CACHE_DIR": str(home / "cache/pdm"),
            "PDM_CONFIG_FILE": str(home / "config/pdm.toml"),
            "PDM_LOG_DIR": str(home / "log"),
            "PDM_CHECK_UPDATE": "false",
            "PDM_NON_INTERACTIVE": "1",
            "VIRTUALENV_NO_PERIODIC_UPDATE": "1",
        }

    def install(self, client: str, index: str, requirements: Sequence[str], extra_index: str | None = None) -> Pins:
        """Resolve and install with one of `INSTALLERS`, as a user with an empty machine would."""
        extra = ("--extra-index-url", extra_index) if extra_index else ()
        match client:
            case "pip":
                return self.pip_install(index, requirements, None, *extra)
            case "midpip":
                return self.pip_install(index, requirements, None, *extra, pip=MIDDLE_PIP)
            case "oldpip":
                return self.old_pip_install(index, requirements, None, *extra)
            case "uv":
                return self.uv_install(index, requirements, None, *extra)
            case "poetry":
                return self.poetry_install(index, self.poetry_lock(index, requirements, extra_index), extra_index)
            case "poetry1":
                locked = self.poetry_lock(index, requirements, extra_index, poetry=POETRY_1)
                return self.poetry_install(index, locked, extra_index, poetry=POETRY_1)
            case "pipenv":
                return self.pipenv_install(index, requirements)
            case "pdm":
                return self.pdm_install(self.pdm_lock(index, requirements, extra_index))
        raise ValueError(client)

    # pip

    def pip_install(
        self,
        index: str,
        requirements: Sequence[str],
        target: Path | None = None,
        *extra: str,
        pip: Sequence[str] = PIP,
    ) -> Pins:
        """`pip install -i index --target target`, as its own report tells it; `pip` is the command."""
        home = self.place()
        where = ("--index-url", index, "--target", target or home / "target")
        options = ["install", "--quiet", "--report", "-", "--only-binary", ":all:"]
        result = self.run(*pip, *options, *where, *extra, *requirements, home=home).checked()
        installed = dict(_reported(item) for item in json.loads(result.output)["install"])
        unknown = [f"{name}=={pin.version}" for name, pin in installed.items() if not pin.hashes]
        if unknown:  # pip reports no hash where the index has none: take that of the file that it downloads
            options = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", "files"]
            self.run(*pip, *options, "--index-url", index, *extra, *unknown, home=home).checked()
            installed |= dict(_downloaded(path) for path in (home / "files").iterdir())
        return installed

    def old_pip_install(self, index: str, requirements: Sequence[str], target: Path | None = None, *extra: str) -> Pins:
        """`pip download` and the install of what came, with the pip of 2021; the hashes are of the files."""
        home = self.place()
        files, target = home / "files", target or home / "target"
        options = ["download", "--quiet", "--only-binary", ":all:", "--dest", "files", "--index-url"]
        self.run(*OLD_PIP, *options, index, *extra, *requirements, home=home).checked()
        options = ["install", "--quiet", "--no-index", "--find-links", "files", "--target"]
        self.run(*OLD_PIP, *options, target, *requirements, home=home).checked()
        return dict(_downloaded(path) for path in files.iterdir())

    # uv

    def uv_compile(
        self, index: str, requirements: Sequence[str], *extra: str, only_binary: Sequence[str] = (":all:",)
    ) -> Pins:
        """The pins of `uv_lock`."""
        return parse_requirements(self.uv_lock(index, requirements, *extra, only_binary=only_binary))

    def uv_lock(
        self, index: str, requirements: Sequence[str], *extra: str, only_binary: Sequence[str] = (":all:",)
    ) -> str:
        """The text that `uv pip compile --generate-hashes` writes."""
        options = ["--quiet", "--no-annotate", "--no-header", "--generate-hashes", "--python", PIP[0]]
        options += [f"--only-binary={name}" for name in only_binary]
        command = (UV, "pip", "compile", *options, "--index-url", index, *extra, "-")
        return self.run(*command, home=self.place(), stdin="\n".join(requirements)).checked().output

    def uv_install(self, index: str, requirements: Sequence[str], target: Path | None = None, *extra: str) -> Pins:
        """Compile with hashes, then install exactly that into `target` with an empty cache again."""
        locked = self.uv_lock(index, requirements, *extra)
        home = self.place()
        (home / "locked.txt").write_text(locked)
        options = ["--quiet", "--require-hashes", "--only-binary", ":all:", "-r", "locked.txt", "--python"]
        where: tuple[str | Path, ...] = ("--index-url", index, *extra, "--target", target or home / "target")
        self.run(UV, "pip", "install", *options, PIP[0], *where, home=home).checked()
        return parse_requirements(locked)

    # Poetry, PDM and pipenv

    def poetry_lock(
        self, index: str, requirements: Sequence[str], extra_index: str | None = None, *, poetry: str = POETRY
    ) -> Path:
        """A project whose `poetry.lock` Poetry wrote from `index`, and from `extra_index` beside it."""
        home = self.place()
        sources = [_source("main", index, "primary")]
        if extra_index is not None:
            sources.append(_source("extra", extra_index, "supplemental"))
        project = _poetry_1_project(requirements) if poetry == POETRY_1 else _poetry_project(requirements)
        (home / "pyproject.toml").write_text(project + "".join(sources))
        self.run(poetry, "lock", home=home, environment=_poetry_credentials(index, extra_index)).checked()
        return home

    def poetry_install(self, index: str, locked: Path, extra_index: str | None = None, *, poetry: str = POETRY) -> Pins:
        """`poetry install` of a locked project, from a copy with an empty cache."""
        home = self.place()
        for name in ("pyproject.toml", "poetry.lock"):
            (home / name).write_bytes((locked / name).read_bytes())
        credentials = _poetry_credentials(index, extra_index)
        self.run(poetry, "install", home=home, environment=credentials).checked()
        return _installed(home / ".venv", parse_lock(locked / "poetry.lock"))

    def pdm_lock(self, index: str, requirements: Sequence[str], extra_index: str | None = None) -> Path:
        """A project whose `pdm.lock` PDM wrote from `index`, and from `extra_index` beside it."""
        home = self.place()
        sources = [_pdm_source("pypi", index)]  # of that name it replaces PDM's own default
        if extra_index is not None:
            sources.append(_pdm_source("extra", extra_index))
        (home / "pyproject.toml").write_text(
            _project(requirements) + "[tool.pdm]\ndistribution = false\n" + "".join(sources)
        )
        self.run(PDM, "lock", home=home).checked()
        return home

    def pdm_install(self, locked: Path) -> Pins:
        """`pdm sync` of a locked project (what `pdm install` does once there is a lock), cache empty."""
        home = self.place()
        for name in ("pyproject.toml", "pdm.lock"):
            (home / name).write_bytes((locked / name).read_bytes())
        self.run(PDM, "install", "--frozen-lockfile", home=home).checked()
        return _installed(home / ".venv", parse_lock(locked / "pdm.lock"))

    def pipenv_install(self, index: str, requirements: Sequence[str]) -> Pins:
        """`pipenv install` of a new project: it locks, and installs what it locked."""
        home = self.place()
        (home / "Pipfile").write_text(_pipfile(index, requirements))
        self.run(PIPENV, "install", "--python", PIP[0], home=home).checked()
        return _installed(home / ".venv", parse_pipfile_lock(home / "Pipfile.lock"))

    # Plain HTTP

    def curl(self, *arguments: str | Path, cwd: Path | None = None) -> Result:
        """`curl -sS` with the arguments."""
        home = self.place()
        return self.run("curl", "-q", "-sS", *arguments, home=home, cwd=cwd or home)

    def wget(self, *arguments: str | Path, cwd: Path | None = None) -> Result:
        """`wget` with the arguments; no retries."""
        home = self.place()
        return self.run("wget", "--no-config", "-nv", "-t", "1", *arguments, home=home, cwd=cwd or home)


def _reported(item: Mapping[str, Any]) -> tuple[str, Pin]:
    metadata, archive = item["metadata"], item["download_info"].get("archive_info", {})
    digest = archive.get("hashes", {}).get("sha256")
    hashes = frozenset([digest] if digest else [])
    return canonicalize_name(metadata["name"]), Pin(metadata["version"], hashes)


def _downloaded(path: Path) -> tuple[str, Pin]:
    parse = parse_wheel_filename if path.suffix == ".whl" else parse_sdist_filename
    name, version = parse(path.name)[:2]
    return name, Pin(str(version), frozenset([hashlib.sha256(path.read_bytes()).hexdigest()]))


def parse_requirements(text: str) -> Pins:
    """The pins of a requirements file with hashes."""
    pins: Pins = {}
    for entry in text.replace("\\\n", " ").splitlines():
        if match := re.match(r"([\w.-]+)==([^\s;]+)", entry):
            hashes = frozenset(re.findall(r"--hash=sha256:(\w+)", entry))
            pins[canonicalize_name(match[1])] = Pin(match[2], hashes)
    return pins


def parse_lock(path: Path) -> Pins:
    """The pins of a `poetry.lock`, `pdm.lock` or `uv.lock`."""
    pins: Pins = {}
    for package in tomllib.loads(path.read_text())["package"]:
        files = package.get("files", []) + package.get("wheels", [])
        hashes = frozenset(file["hash"].removeprefix("sha256:") for file in files if "hash" in file)
        pins[canonicalize_name(package["name"])] = Pin(package["version"], hashes)
    return pins


def parse_pipfile_lock(path: Path) -> Pins:
    """The pins of a `Pipfile.lock`."""
    locked = json.loads(path.read_text())["default"]
    return {
        canonicalize_name(name): Pin(
            found["version"].removeprefix("=="), frozenset(item.removeprefix("sha256:") for item in found["hashes"])
        )
        for name, found in locked.items()
    }


def _installed(environment: Path, locked: Pins) -> Pins:
    """The locked pins at the version that the environment really has (PDM locks 1.0+cu121 as 1.0)."""
    found: Pins = {}
    for info in environment.glob("lib/python*/site-packages/*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        pin = locked.get(canonicalize_name(name))
        if pin is not None and version.partition("+")[0] == pin.version.partition("+")[0]:
            found[canonicalize_name(name)] = Pin(version, pin.hashes)
    return found


def _project(requirements: Iterable[str]) -> str:
    dependencies = json.dumps(list(requirements))
    return f'[project]\nname = "project"\nversion = "1"\nrequires-python = ">=3.11,<4"\ndependencies = {dependencies}\n'


def _poetry_project(requirements: Iterable[str]) -> str:
    return _project(requirements) + "[tool.poetry]\npackage-mode = false\n"


def _poetry_1_project(requirements: Iterable[str]) -> str:
    """As Poetry has it before version 2, which does not read `[project]`."""
    head = '[tool.poetry]\npackage-mode = false\n[tool.poetry.dependencies]\npython = ">=3.11,<4"\n'
    return head + _versions(requirements)


def _versions(requirements: Iterable[str]) -> str:
    wanted = map(Requirement, requirements)
    return "".join(f"{each.name} = {json.dumps(str(each.specifier) or '*')}\n" for each in wanted)


def _pipfile(index: str, requirements: Iterable[str]) -> str:
    head = f'[[source]]\nname = "main"\nurl = "{index}"\nverify_ssl = false\n[packages]\n'
    return head + _versions(requirements)


def _source(name: str, url: str, priority: str) -> str:
    url = _without_credentials(url)
    return f'[[tool.poetry.source]]\nname = "{name}"\nurl = "{url}"\npriority = "{priority}"\n'


def _pdm_source(name: str, url: str) -> str:
    return f'[[tool.pdm.source]]\nname = "{name}"\nurl = "{url}"\n'


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _poetry_credentials(index: str, extra_index: str | None) -> dict[str, str]:
    """The URL's user and password as Poetry wants them: one pair for each source, in the environment."""
    credentials = {}
    for name, url in (("MAIN", index), ("EXTRA", extra_index)):
        parts = urlsplit(url or "")
        if parts.username is not None:
            credentials[f"POETRY_HTTP_BASIC_{name}_USERNAME"] = unquote(parts.username)
            credentials[f"POETRY_HTTP_BASIC_{name}_PASSWORD"] = unquote(parts.password or "")
    return credentials
