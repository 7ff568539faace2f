"""The platforms that builds can be planned for, by the names of `httpcache warm --platform`. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from httpcache.errors import MirrorError
from pypi_adapter.installers.environment import Environment

_PYTHON = re.compile(r"3\.[0-9]{1,2}(?:\.[0-9]{1,2})?", re.ASCII)
NEWEST_GLIBC, NEWEST_MUSL, NEWEST_MACOS = (2, 50), (1, 5), (30, 0)
"""Newer than any: which version a build has is not known, so wheels for all of them are wanted."""


class Platform(NamedTuple):
    """A platform: as Python's `platform` module describes it, and as a target of `uv pip compile --python-platform`."""

    system: str
    machine: str
    libc: str
    version: tuple[int, int] | None
    target: str


PLATFORMS = {
    "linux-x86_64": Platform("Linux", "x86_64", "glibc", NEWEST_GLIBC, "x86_64-unknown-linux-gnu"),
    "linux-aarch64": Platform("Linux", "aarch64", "glibc", NEWEST_GLIBC, "aarch64-unknown-linux-gnu"),
    "musl-x86_64": Platform("Linux", "x86_64", "musl", NEWEST_MUSL, "x86_64-unknown-linux-musl"),
    "musl-aarch64": Platform("Linux", "aarch64", "musl", NEWEST_MUSL, "aarch64-unknown-linux-musl"),
    "macos-arm64": Platform("Darwin", "arm64", "", NEWEST_MACOS, "aarch64-apple-darwin"),
    "macos-x86_64": Platform("Darwin", "x86_64", "", NEWEST_MACOS, "x86_64-apple-darwin"),
    "windows-amd64": Platform("Windows", "AMD64", "", None, "x86_64-pc-windows-msvc"),
    "windows-arm64": Platform("Windows", "ARM64", "", None, "aarch64-pc-windows-msvc"),
}


def environment(python: str, platform: str) -> Environment:
    """Return the environment of a CPython, such as 3.12, on a platform. Raises MirrorError."""
    if not _PYTHON.fullmatch(python):
        raise MirrorError(f"--python {python}: use a version of Python 3, such as 3.12")
    found = _known(platform)
    full = python if python.count(".") == 2 else f"{python}.99"
    return Environment(full, "CPython", found.system, found.machine, found.libc, found.version)


def target(platform: str) -> str:
    """Return what `uv pip compile --python-platform` calls a platform. Raises MirrorError."""
    return _known(platform).target


def _known(platform: str) -> Platform:
    found = PLATFORMS.get(platform)
    if found is None:
        raise MirrorError(f"--platform {platform}: use one of {', '.join(PLATFORMS)}")
    return found


def named(system: str, machine: str, libc: str) -> str | None:
    """Return the name of a platform that Python's `platform` module describes, None if it has none."""
    for name, each in PLATFORMS.items():
        if (each.system, each.machine.lower(), each.libc == "musl") == (system, machine.lower(), libc == "musl"):
            return name
    return None
