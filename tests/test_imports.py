"""Imports run one way: a room of a package imports the rooms below it, and what is easiest to test does no I/O."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# The rooms of each package, from the top. A room is a folder, or a module beside the folders; those of one line know
# nothing of each other. All other modules beside the folders are the ground.
GROUND = "the ground"
FLOORS = {
    "httpcache": [
        ["__main__"],
        ["command"],
        ["archive", "sbom", "web"],
        ["pages"],
        ["adapter"],
        ["freezing", "audit", "keys"],
        ["store", "upstream"],
        [GROUND],
    ],
    "pypi_adapter": [
        ["__init__"],
        ["adapter"],
        ["bound", "belongings", "described"],
        ["config", "commands", "tools"],
        ["settings", "operations", "comparing", "auditing", "resurrecting", "story", "importing"],
        ["bisecting"],
        ["web", "capture", "pages", "warming"],
        ["registry"],
        ["history"],
        ["addresses", "installers", "policy"],
        ["simple", GROUND],
    ],
    "npm_adapter": [
        ["__init__"],
        ["adapter"],
        ["bound", "package_lock", "described"],
        ["pinned"],
        ["announcements", "packument"],
    ],
}
RANK = {
    (package, room): rank for package, floors in FLOORS.items() for rank, rooms in enumerate(floors) for room in rooms
}
ADAPTERS = sorted(set(FLOORS) - {"httpcache"})
MODULES = sorted(path for package in FLOORS for path in (ROOT / package).rglob("*.py"))

PURE = [
    "httpcache/audit/note.py",
    "httpcache/audit/tiles.py",
    "httpcache/audit/tree.py",
    "httpcache/credentials.py",
    "httpcache/errors.py",
    "httpcache/settings.py",
    "httpcache/target.py",
    "httpcache/units.py",
    "httpcache/web/conditional.py",
    "pypi_adapter/history/history.py",
    "pypi_adapter/history/snapshot.py",
    "pypi_adapter/history/timeline.py",
    "pypi_adapter/installers/*.py",
    "pypi_adapter/instants.py",
    "pypi_adapter/policy/rules.py",
    "pypi_adapter/simple/*.py",
]
IO = {"anyio", "asyncio", "httpcore", "httpx", "os", "socket", "starlette"}


def label(path: Path) -> str:
    """The path of a module below the root."""
    return str(path.relative_to(ROOT))


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def imported(path: Path) -> Iterator[str]:
    """The absolute names of all modules that a file imports, also inside functions."""
    folder = ".".join(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{label(path)}: a relative import that leaves its room"
            base = ".".join(part for part in (folder if node.level else "", node.module) if part)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in NAMES else base


def room_of(name: str) -> tuple[str, str]:
    """The package of a module, and its room."""
    package, *parts = name.split(".")
    room = parts[0] if parts else "__init__"
    return (package, room) if (package, room) in RANK else (package, GROUND)


@pytest.mark.parametrize(("package", "room"), RANK)
def test_every_room_is_there(package: str, room: str) -> None:
    modules = [path for path in MODULES if room_of(name_of(path)) == (package, room)]
    if (ROOT / package / room).is_dir():
        modules.remove(ROOT / package / room / "__init__.py")
    assert modules


def test_every_folder_is_a_room() -> None:
    folders = {path.parent for path in MODULES} - {ROOT / package for package in FLOORS}
    assert {(folder.parent.name, folder.name) for folder in folders} <= set(RANK)
    assert all((folder / "__init__.py").is_file() for folder in folders)


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_a_room_imports_what_is_below_it(path: Path) -> None:
    own = package, _ = room_of(name_of(path))
    rooms = {room_of(name) for name in imported(path) if name in NAMES and name != package} - {own}
    above = sorted(room for of, room in rooms if of == package and RANK[of, room] <= RANK[own])
    assert not above, f"{label(path)} imports {', '.join(above)}, which is not below it"


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name_of(path): set(imported(path)) & NAMES for path in MODULES}
    for package in FLOORS:
        for name in graph:
            graph[name].discard(package)  # of a package itself only its version is imported
    list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("path", [path for path in MODULES if path.is_relative_to(ROOT / "httpcache")], ids=label)
def test_the_mirror_knows_nothing_of_its_adapters(path: Path) -> None:
    """They are found through the entry point."""
    assert not [name for name in imported(path) if name.split(".")[0] in ADAPTERS]


@pytest.mark.parametrize("path", [path for path in MODULES if not path.is_relative_to(ROOT / "httpcache")], ids=label)
def test_adapters_know_nothing_of_each_other_and_of_commands(path: Path) -> None:
    """Each ecosystem is a package of its own beside the mirror."""
    others = {*ADAPTERS, "httpcache.command"} - {room_of(name_of(path))[0]}
    assert not [name for name in imported(path) if {name.split(".")[0], ".".join(name.split(".")[:2])} & others]


@pytest.mark.parametrize("pattern", PURE)
def test_the_pure_modules_do_no_io(pattern: str) -> None:
    """What is easiest to test stays so."""
    paths = [path for path in ROOT.glob(pattern) if path.name != "__init__.py"]
    assert paths
    for path in paths:
        assert not {name.split(".")[0] for name in imported(path)} & IO, path


def test_only_the_command_reads_the_environment() -> None:
    readers = {
        label(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
    }
    assert readers == {"httpcache/command/running.py"}


def test_the_http_client_is_imported_by_upstream_alone() -> None:
    clients = {"httpx", "httpcore", "httpx2", "httpcore2"}
    readers = {room_of(name_of(path)) for path in MODULES if {name.split(".")[0] for name in imported(path)} & clients}
    assert readers == {("httpcache", "upstream")}


def test_the_client_of_postgresql_is_imported_by_its_index_alone() -> None:
    """It comes with an extra, which an embedded mirror does not have."""
    clients = {"psycopg", "psycopg_pool"}
    readers = {path for path in MODULES if {name.split(".")[0] for name in imported(path)} & clients}
    assert readers
    assert readers <= set((ROOT / "httpcache/store").glob("postgres_*.py"))


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_every_module_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert docstring.splitlines()[0].rstrip(":").strip()
