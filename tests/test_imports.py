"""Imports run one way. The order is `ORDER`: a module imports what stands above it and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Modules of one line know nothing of each other.
ORDER = [
    ["errors", "files"],
    ["locks"],
    [
        "target",
        "accept",
        "guard",
        "credentials",
        "conditional",
        "store",
        "limits",
        "codings",
        "decoding",
        "sockets",
        "kept",
        "changes",
        "threads",
        "telling",
        "units",
    ],
    ["logs", "fields", "settings", "record", "blobs", "spool", "folder", "progress", "reader", "ready"],
    ["transport", "sign_in", "local", "options", "access"],
    ["upstream", "challenges"],
    ["download"],
    ["flight"],
    ["cache"],
    ["mirror"],
    ["incoming", "responses", "cors"],
    ["adapter", "git", "ending"],
    ["pages"],
    ["operate", "app", "daily"],
    ["server"],
    ["cli"],
    ["__main__"],
]

RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
MODULES = sorted(ROOT.glob("httpcache/*.py")) + sorted(ROOT.glob("*_adapter/*.py"))


def imported(path: Path) -> Iterator[str]:
    """The absolute names of all modules that a file imports, also inside functions."""
    package = path.parent.name
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{path}: a relative import out of its package"
            base = ".".join(part for part in (package if node.level else "", node.module) if part)
            yield from (f"{base}.{alias.name}" if base == package else base for alias in node.names)


def of_package(path: Path, package: str) -> set[str]:
    """The modules of a package that a file imports."""
    return {name.split(".")[1] for name in imported(path) if name.startswith(f"{package}.")} - {"__version__"}


def test_every_module_has_its_place() -> None:
    assert set(RANK) == {path.stem for path in ROOT.glob("httpcache/*.py")} - {"__init__"}


@pytest.mark.parametrize("name", RANK)
def test_a_module_imports_what_is_above_it(name: str) -> None:
    found = of_package(ROOT / "httpcache" / f"{name}.py", "httpcache")
    below = sorted(other for other in found if RANK[other] >= RANK[name])
    assert not below, f"httpcache/{name}.py imports {', '.join(below)}, which do not stand above it"


@pytest.mark.parametrize("path", sorted(ROOT.glob("httpcache/*.py")), ids=lambda path: path.stem)
def test_the_mirror_knows_nothing_of_its_adapters(path: Path) -> None:
    """They are found through the entry point."""
    assert not [name for name in imported(path) if name.split(".")[0] in ("pypi_adapter", "npm_adapter")]


def test_the_pure_modules_do_no_io() -> None:
    """What is easiest to test stays so."""
    for name in ("errors", "target", "conditional", "credentials", "settings"):
        outside = {name.split(".")[0] for name in imported(ROOT / "httpcache" / f"{name}.py")}
        assert not outside & {"anyio", "asyncio", "httpx", "httpcore", "os", "socket", "starlette"}, name


def test_only_the_command_reads_the_environment() -> None:
    readers = {
        f"{path.parent.name}/{path.name}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
    }
    assert readers == {"httpcache/cli.py"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_every_module_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert docstring.splitlines()[0].rstrip(":").strip()


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("*_adapter/*.py")), ids=lambda path: f"{path.parent.name}.{path.stem}"
)
def test_adapters_know_nothing_of_each_other(path: Path) -> None:
    """Each ecosystem is a package of its own beside the mirror."""
    others = {other.name for other in ROOT.glob("*_adapter")} - {path.parent.name}
    assert not [name for name in imported(path) if name.split(".")[0] in others]
