"""Reads what pyproject.toml (PEP 621, Poetry, flit, PDM) and Pipfile ask for."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from httpcache.errors import MirrorError

from .asked import Wanted
from .requirement_files import read_text
from .setup_files import named
from .specifiers import alternatives

_MARKERS = (
    *("implementation_name", "implementation_version", "os_name", "platform_machine", "platform_python_implementation"),
    *("platform_release", "platform_system", "python_full_version", "python_version", "sys_platform"),
)
_PLACES = ("git", "hg", "svn", "url", "file", "path")


def read_pyproject(file: Path, base: Path, wanted: Wanted) -> None:
    """Add what a pyproject.toml asks for; its groups and extras are left out."""
    _read(file, wanted, lambda document: _pyproject(document, file.name, base, wanted))


def read_pipfile(file: Path, wanted: Wanted) -> None:
    """Add what a Pipfile asks for; what is for developers is left out."""

    def read(document: Mapping[str, Any]) -> None:
        requires = document.get("requires", {})
        version = requires.get("python_version") or ".".join(requires.get("python_full_version", "").split(".")[:2])
        if version:
            wanted.python(f"=={version}.*", file.name)
        _table(document.get("packages", {}), file.name, wanted)

    _read(file, wanted, read)


def _read(file: Path, wanted: Wanted, read: Callable[[Mapping[str, Any]], None]) -> None:
    try:
        document = tomllib.loads(read_text(file))
        wanted.files.append(file.name)
        read(document)
    except (MirrorError, tomllib.TOMLDecodeError, AttributeError, TypeError, RecursionError) as error:
        wanted.leave(file.name, file.name, f"it cannot be read: {error}")


def _pyproject(document: Mapping[str, Any], where: str, base: Path, wanted: Wanted) -> None:
    project, tool = document.get("project", {}), document.get("tool", {})
    flit = tool.get("flit", {}).get("metadata", {})
    for text in [*project.get("dependencies", []), *flit.get("requires", [])]:
        wanted.ask(text, where)
    for text in (project.get("requires-python"), flit.get("requires-python")):
        if text:
            wanted.python(text, where)
    dynamic = tool.get("setuptools", {}).get("dynamic", {}).get("dependencies", {}).get("file", [])
    for name in [dynamic] if isinstance(dynamic, str) else dynamic:
        named(name, where, base, wanted)
    poetry = {} if "dependencies" in project else tool.get("poetry", {}).get("dependencies", {})
    for dependencies in (poetry, tool.get("pdm", {}).get("dependencies", {})):
        python = {name: each for name, each in dependencies.items() if name.lower() == "python"}
        for each in python.values():
            _python(each, where, wanted)
        _table({name: each for name, each in dependencies.items() if name not in python}, where, wanted)


def _python(text: str, where: str, wanted: Wanted) -> None:
    try:
        wanted.pythons.append(alternatives(text))
    except ValueError as error:
        wanted.leave(f"python = {text}", where, str(error))


def _table(table: Mapping[str, Any], where: str, wanted: Wanted) -> None:
    """Add what a table of Poetry, PDM or Pipenv asks for: names, each with versions or with a table of its own."""
    for name, given in table.items():
        for each in given if isinstance(given, list) else [given]:
            found = {"version": each} if isinstance(each, str) else each
            place = next((str(found[key]) for key in _PLACES if key in found), None)
            if place is not None:
                if place not in (".", "./"):
                    wanted.leave(f"{name} = {place}", where, "it does not come from an index")
            elif not found.get("optional"):
                _entry(name, found, where, wanted)


def _entry(name: str, found: Mapping[str, Any], where: str, wanted: Wanted) -> None:
    version = found.get("version", "*")
    try:
        allowed = alternatives(version)
        markers = [_marker(each) for each in (alternatives(found["python"]) if "python" in found else ())]
    except ValueError as error:
        wanted.leave(f"{name} = {version}", where, str(error))
        return
    if len(allowed) > 1:
        wanted.leave(f"{name} = {version}", where, "it allows versions that one requirement cannot say")
        return
    parts = [f"({' or '.join(each for each in markers)})"] if all(markers) and markers else []
    parts += [f"({found['markers']})"] if "markers" in found else []
    parts += [f"{key} {found[key]}" for key in _MARKERS if key in found]
    extras = f"[{','.join(found['extras'])}]" if found.get("extras") else ""
    wanted.ask(f"{name}{extras}{allowed[0]}{' ; ' if parts else ''}{' and '.join(parts)}", where)


def _marker(python: SpecifierSet) -> str:
    return " and ".join(f'python_full_version {each.operator} "{each.version}"' for each in python)
