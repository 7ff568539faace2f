"""Resolves requirements at an instant with uv, installs what they resolve to, and runs a command in the environment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from httpcache.errors import MirrorError
from pypi_adapter.warming.locks import Locked
from pypi_adapter.warming.requirements_file import read_pinned
from pypi_adapter.warming.resolving import compiled, find_uv

from .search import Verdict

SKIPPED = 125  # the exit code of a command that cannot judge, as for `git bisect run`


@dataclass(frozen=True)
class Resolution:
    """What requirements resolve to: `text` as requirements with hashes, or why they do not resolve."""

    text: str
    problem: str = ""

    @cached_property
    def digest(self) -> str:
        """A name for it, and for its environment."""
        return sha256(f"{self.text}\n{self.problem and 'unresolved'}".encode()).hexdigest()[:16]

    @cached_property
    def pins(self) -> Mapping[str, Locked]:
        """The releases, by project."""
        return {each.name: each for each in read_pinned(self.text) or ()}

    def with_pins(self, pins: Mapping[str, Locked]) -> Resolution:
        """Return the resolution with some pins in place of its own."""
        mixed = {**self.pins, **pins}
        lines = [_line(mixed[name]) for name in sorted(mixed)]
        return Resolution("".join(lines))


def _line(pin: Locked) -> str:
    marker = f" ; {pin.marker}" if pin.marker else ""
    return f"{pin.name}=={pin.version}{marker}" + "".join(f" --hash={each}" for each in sorted(pin.hashes)) + "\n"


class Builds:
    """Environments in a folder, one for each resolution, in which a command is run.

    `python` is what `uv --python` takes. The command runs up to `repeat` times: it is good if all runs are.
    `environment` has the variables that it inherits.
    """

    def __init__(
        self, folder: Path, python: str, command: Sequence[str], repeat: int, environment: Mapping[str, str]
    ) -> None:
        self._environment = environment
        self._folder = folder
        self._python = python
        self._command = command
        self._repeat = repeat

    def resolution(self, file: Path, index: str) -> Resolution:
        """Return what a requirements file resolves to at an index. Raises MirrorError if uv is missing."""
        find_uv()
        try:
            text = compiled(file, index, "--python", self._python)
        except MirrorError as error:
            return Resolution("", error.text)
        found = Resolution(text)
        return found.with_pins({}) if found.pins else found  # written in one way, whatever it comes from

    def verdict(self, resolution: Resolution, index: str) -> Verdict:
        """Install a resolution from an index, unless that was done before, and run the command.

        What cannot be resolved or installed is bad. What was said is in the file `log` of the environment's folder.
        """
        if resolution.problem:
            return Verdict.BAD
        place = self._folder / resolution.digest
        place.mkdir(parents=True, exist_ok=True)
        with (place / "log").open("w") as log:
            if not (place / "installed").exists():
                if self._install(place, resolution, index, log.fileno()) != 0:
                    return Verdict.BAD
                (place / "installed").touch()
            for _ in range(self._repeat):
                code = self._run(place / "venv", log.fileno())
                if code:
                    return Verdict.SKIP if code == SKIPPED else Verdict.BAD
        return Verdict.GOOD

    def _install(self, place: Path, resolution: Resolution, index: str, log: int) -> int:
        code = make_environment(place / "venv", self._python, log)
        return code or install(place, resolution, index, log)

    def _run(self, venv: Path, log: int) -> int:
        path = f"{venv.absolute() / 'bin'}{os.pathsep}{self._environment.get('PATH', '')}"
        environment = {**self._environment, "VIRTUAL_ENV": str(venv.absolute()), "PATH": path}
        environment.pop("PYTHONHOME", None)
        try:
            ran = subprocess.run(self._command, stdout=log, stderr=log, env=environment, check=False)  # noqa: S603
        except OSError as error:
            raise MirrorError(f"{self._command[0]} cannot be run: {error.strerror}") from error
        return ran.returncode


def make_environment(venv: Path, python: str, log: int) -> int:
    """Make an environment with uv, which installs a Python that is not there if it can; return its exit code.

    `python` is what `uv --python` takes, `log` an open file for what uv says. Raises MirrorError if uv is missing.
    """
    command = [find_uv(), "venv", "--clear", "--no-config", "--python", python, str(venv)]
    return subprocess.run(command, stdout=log, stderr=log, check=False).returncode  # noqa: S603


def install(place: Path, resolution: Resolution, index: str, log: int, *options: str) -> int:
    """Install a resolution from an index in the environment `venv` of a folder with uv; return its exit code.

    The folder gets it as a `requirements.txt` with hashes. Raises MirrorError if uv is missing.
    """
    file = place / "requirements.txt"
    file.write_text(resolution.text)
    command = [find_uv(), "pip", "install", "--no-config", "--no-deps", "--require-hashes", "--default-index", index]
    command += ["--python", str(place / "venv"), "-r", str(file), *options]
    return subprocess.run(command, stdout=log, stderr=log, check=False).returncode  # noqa: S603
