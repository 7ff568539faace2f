"""What a command imports: one that lists something starts quickly, because it loads no server and no HTTP client."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from httpcache.adapter import adapters
from httpcache.store.local import LocalStore
from pypi_adapter.config import Document

SLOW = {"distlib", "granian", "httpcore", "httpx", "jinja2", "lxml", "obstore", "psycopg", "rich", "starlette"}
STORE = {"anyio", "asyncio", "httpcache.store.local", "ssl"}
"""What a command imports that opens the store: it takes as long as everything else that `httpcache ls` needs."""


def imported(folder: Path, *arguments: str) -> set[str]:
    """The modules that the command imports."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "httpcache", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(re.findall(r"\| +([\w.]+)$", ran.stderr, re.MULTILINE))


def found(modules: set[str]) -> set[str]:
    """Those of the packages that are slow to import."""
    return {name.partition(".")[0] for name in modules} & SLOW


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a store, and a settings file that names a registry and a rule."""
    LocalStore(tmp_path / "data").close()
    (tmp_path / "httpcache.toml").write_text(
        'data = "data"\n[[block]]\nproject = "evil"\n[[registry]]\nname = "other"\nindex = "https://example.com/"\n'
    )
    return tmp_path


@pytest.mark.parametrize("arguments", [["ls"], ["stats"], ["blocks"], ["ls", "--help"], ["--version"], ["--help"]])
def test_what_only_a_server_needs_is_not_imported(arguments: list[str], folder: Path) -> None:
    assert found(imported(folder, *arguments)) == set()


def test_what_a_command_needs_is_seen_to_be_imported(folder: Path) -> None:
    """Else the test above could not fail."""
    assert found(imported(folder, "settings")) >= {"httpx", "httpcore"}
    assert imported(folder, "stats") >= STORE


@pytest.mark.parametrize("arguments", [["ls"], ["ls", "--json"], ["ls", "--help"], ["--version"], ["--help"]])
def test_what_only_reads_totals_opens_no_store(arguments: list[str], folder: Path) -> None:
    assert imported(folder, *arguments) & STORE == set()


def test_adapters_name_the_tables_that_they_read() -> None:
    """Without importing what reads them."""
    named = [name for adapter in adapters() for name in adapter.tables]
    assert named == [field.encode_name for field in msgspec.structs.fields(Document)]
