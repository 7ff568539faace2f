"""The environment that an installer resolves for, as its `User-Agent` describes it. Pure.

pip and uv append JSON with the fields that linehaul reads for PyPI's download statistics: the Python version and
implementation, the system, the machine, and the libc. It tells nothing of options such as uv's `--python-version`, so
what follows from it is a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import msgspec
from packaging.tags import compatible_tags, cpython_tags, mac_platforms

MAX_AGENT = 2000  # characters of a User-Agent that is read
AGENTS = 64  # different ones that are remembered

_AGENT = re.compile(r"(pip|uv)/\S+ (\{.*\})")
_PYTHON = re.compile(r"3\.[0-9]{1,2}(?:\.[0-9]{1,2})?(?:[a-z0-9+]{0,12})", re.ASCII)
_LIBC = re.compile(r"([0-9])\.([0-9]{1,2})(?:[.-].{0,20})?", re.ASCII)
_MAC = re.compile(r"([0-9]{1,2})(?:\.([0-9]{1,2})(?:\..{0,20})?)?", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_]{1,20}", re.ASCII)
_SYS_PLATFORMS = {"Linux": "linux", "Darwin": "darwin", "Windows": "win32"}
_LEGACY = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
"""The older names of `manylinux_2_<minor>` (PEP 600)."""
_OLDEST = {"x86_64": 5, "i686": 5}
"""The minor version of glibc from which on there are wheels for a machine; 17 for all others."""


class _Named(msgspec.Struct):
    name: str | None = None
    version: str | None = None


class _Libc(msgspec.Struct):
    lib: str | None = None
    version: str | None = None


class _Distro(msgspec.Struct):
    version: str | None = None
    libc: _Libc | None = None


class _System(msgspec.Struct):
    name: str | None = None


class _Told(msgspec.Struct):
    python: str | None = None
    implementation: _Named | None = None
    system: _System | None = None
    cpu: str | None = None
    distro: _Distro | None = None


@dataclass(frozen=True)
class Environment:
    """A Python on a machine. `version` is the version of the libc on Linux, of the system on macOS, or None.

    `python` is a version such as `3.12.1`, `implementation` a name such as `CPython`, `system` one of Linux, Darwin,
    Windows, `machine` what Python's `platform.machine()` gives, `libc` is glibc, musl or "". `concurrent`: the
    installer asks for pages and METADATA as soon as it knows that it needs them, many at once.
    """

    python: str
    implementation: str
    system: str
    machine: str
    libc: str = ""
    version: tuple[int, int] | None = None
    concurrent: bool = False

    @cached_property
    def release(self) -> tuple[int, int]:
        """The first two parts of the Python version."""
        major, minor = re.findall(r"\d+", self.python)[:2]
        return int(major), int(minor)

    @cached_property
    def markers(self) -> Mapping[str, str]:
        """The variables of environment markers (PEP 508), but for `extra`."""
        return {
            "implementation_name": self.implementation.lower(),
            "implementation_version": self.python,
            "os_name": "nt" if self.system == "Windows" else "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": self.implementation,
            "platform_release": "",
            "platform_system": self.system,
            "platform_version": "",
            "python_full_version": self.python,
            "python_version": "{}.{}".format(*self.release),
            "sys_platform": _SYS_PLATFORMS[self.system],
        }

    @cached_property
    def ranks(self) -> Mapping[str, int]:
        """The tags of wheels that can be installed (PEP 425), each with its place: the lower, the better."""
        platforms = list(self._platforms())
        nodot = "{}{}".format(*self.release)
        own = "cp" if self.implementation == "CPython" else "pp" if self.implementation == "PyPy" else ""
        abi = f"cp{nodot}m" if self.release < (3, 8) else f"cp{nodot}"  # with pymalloc, once a flag of its own
        tags = list(cpython_tags(self.release, [abi], platforms)) if own == "cp" else []
        tags += compatible_tags(self.release, f"{own}{nodot}" if own else None, platforms)
        ranks: dict[str, int] = {}
        for tag in tags:
            ranks.setdefault(str(tag), len(ranks))
        return ranks

    def _platforms(self) -> Iterator[str]:
        machine = self.machine.lower()
        if self.system == "Windows":
            yield {"amd64": "win_amd64", "x86_64": "win_amd64", "arm64": "win_arm64"}.get(machine, "win32")
        elif self.system == "Darwin":
            yield from mac_platforms(self.version or (11, 0), machine)
        else:
            yield f"linux_{machine}"
            major, minor = self.version or (2, 17)
            for each in range(minor, -1 if self.libc == "musl" else _OLDEST.get(machine, 17) - 1, -1):
                yield f"{'musllinux' if self.libc == 'musl' else 'manylinux'}_{major}_{each}_{machine}"
                if self.libc != "musl" and each in _LEGACY:
                    yield f"{_LEGACY[each]}_{machine}"


@lru_cache(maxsize=AGENTS)
def read_environment(agent: str) -> Environment | None:
    """Return the environment that a `User-Agent` of pip or uv describes, None for any other."""
    found = _AGENT.fullmatch(agent) if len(agent) <= MAX_AGENT else None
    if not found:
        return None
    try:
        told = msgspec.json.decode(found[2], type=_Told)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    python, machine = told.python or "", told.cpu or ""
    system = (told.system and told.system.name) or ""
    implementation = (told.implementation and told.implementation.name) or "CPython"
    right = _PYTHON.fullmatch(python) and _WORD.fullmatch(machine) and _WORD.fullmatch(implementation)
    if not right or system not in _SYS_PLATFORMS:
        return None
    libc, version = _version(system, told.distro or _Distro())
    return Environment(python, implementation, system, machine, libc, version, concurrent=found[1] == "uv")


def _version(system: str, distro: _Distro) -> tuple[str, tuple[int, int] | None]:
    """Return the name of the libc, and its version or that of macOS, None if it is not told."""
    if system == "Darwin":
        found = _MAC.fullmatch(distro.version or "")
        return "", (int(found[1]), int(found[2] or 0)) if found else None
    if system == "Windows" or distro.libc is None:
        return "", None
    found = _LIBC.fullmatch(distro.libc.version or "")
    name = "musl" if "musl" in (distro.libc.lib or "") else "glibc"
    return name, (int(found[1]), int(found[2])) if found else None
