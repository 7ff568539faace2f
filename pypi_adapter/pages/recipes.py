"""Lines to copy for Python's package managers, as of a date."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from httpcache.adapter import Recipe

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Hosts that pip trusts over plain HTTP."""


def recipes(address: str, date: str) -> Sequence[Recipe]:
    """Return how each package manager installs from the index as of a date; `address` is the mirror's."""
    index, host = f"{address}/{date}/", urlsplit(address).hostname or ""
    is_trusted = address.startswith("https:") or host in LOOPBACK
    trusted = "" if is_trusted else f" --trusted-host {host}"
    return [
        Recipe("pip", "Once.", f"pip install -i {index}{trusted} PACKAGE"),
        Recipe(
            "pip",
            "For all that follows in this shell.",
            _lines(f"export PIP_INDEX_URL={index}", _pip_trust(trusted, host)),
        ),
        Recipe("uv", "Once.", f"uv pip install --default-index {index} PACKAGE"),
        Recipe("uv", "In pyproject.toml. After a change of the date: uv lock --upgrade.", _uv(index)),
        Recipe("Poetry", "Adds the source to pyproject.toml.", f"poetry source add --priority=primary mirror {index}"),
        Recipe("Poetry", "After a change of the date.", "poetry lock --regenerate"),
        Recipe("PDM", "In pyproject.toml. After a change of the date: pdm lock.", _pdm(index)),
        Recipe("pipenv", "Once, or with every command of this shell.", f"export PIPENV_PYPI_MIRROR={index}"),
        Recipe("pipenv", "In the Pipfile, for good.", _pipenv(index)),
        Recipe(
            "conda",
            "The pip section of environment.yml; conda's own channels go through a pin.",
            _conda(index, trusted),
        ),
        Recipe("Docker", "In a Dockerfile, for packages.", _docker(index, trusted, host)),
    ]


def _lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line)


def _pip_trust(trusted: str, host: str) -> str:
    return f"export PIP_TRUSTED_HOST={host}" if trusted else ""


def _uv(index: str) -> str:
    return _lines("[[tool.uv.index]]", 'name = "mirror"', f'url = "{index}"', "default = true")


def _pdm(index: str) -> str:
    return _lines("[[tool.pdm.source]]", 'name = "pypi"', f'url = "{index}"')


def _pipenv(index: str) -> str:
    secure = "true" if index.startswith("https:") else "false"
    return _lines("[[source]]", 'name = "mirror"', f'url = "{index}"', f"verify_ssl = {secure}")


def _conda(index: str, trusted: str) -> str:
    return _lines(
        "dependencies:",
        "  - pip",
        "  - pip:",
        f"      - --index-url {index}",
        trusted and f"      -{trusted}",
        "      - PACKAGE",
    )


def _docker(index: str, trusted: str, host: str) -> str:
    return _lines(
        f"ARG INDEX={index}",
        f"ENV PIP_INDEX_URL=${{INDEX}} UV_DEFAULT_INDEX=${{INDEX}}{f' PIP_TRUSTED_HOST={host}' if trusted else ''}",
        "RUN pip install PACKAGE",
    )
