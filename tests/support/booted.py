"""A bare Debian with systemd as its first process, in a container of systemd-nspawn on the network of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.container import DEBIAN
from tests.support.inside import until

NSPAWN: Final = ("systemd-nspawn", "--register=no", "--keep-unit")
WITHOUT: Final = ("console-getty.service", "apt-daily.timer", "apt-daily-upgrade.timer", "systemd-logind.service")
"""What is of no use here."""
OLD_CGROUPS: Final = "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"
"""Lets a systemd of today start on a kernel with control groups of version 1."""


class Booted:
    """A root folder that has been started; it ends with the context."""

    def __init__(self, root: Path, log: Path) -> None:
        """Start it, and wait until it answers."""
        line = [
            "systemd-nspawn",
            "--register=no",
            "--keep-unit",
            f"--machine=test-{os.getpid()}",
            f"--directory={root}",
        ]
        line += ["--console=pipe", "--boot"]
        line += [*(f"systemd.mask={name}" for name in WITHOUT), OLD_CGROUPS]
        self._log = log
        with log.open("wb") as output:
            self._nspawn = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            until(lambda: self._nspawn.poll() is not None or self._is_up(), "systemd in the container")
            assert self._nspawn.poll() is None, self.log()
        except BaseException:
            self.close()
            raise

    def log(self) -> str:
        """What came to the console."""
        return self._log.read_text(errors="replace")

    def run(self, *command: str) -> str:
        """Run a command in it as root, and return what it says; raises CalledProcessError."""
        line = ["nsenter", "--target", str(self._first()), "--all", *command]
        ran = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=90, check=False)
        if ran.returncode:
            raise subprocess.CalledProcessError(ran.returncode, command, ran.stdout)
        return ran.stdout

    def property(self, unit: str, name: str) -> str:
        """What systemd knows of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def close(self) -> None:
        """Halt it."""
        try:
            os.kill(self._first(), signal.SIGRTMIN + 4)  # poweroff
            self._nspawn.wait(30)
        except (ValueError, ProcessLookupError, subprocess.TimeoutExpired):
            self._nspawn.kill()
            self._nspawn.wait()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Halt it."""
        self.close()

    def _first(self) -> int:
        """The container's process 1; raises ValueError before there is one."""
        return int(Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()[-1])

    def _is_up(self) -> bool:
        try:
            return self.run("systemctl", "is-system-running") in ("running\n", "degraded\n")
        except (ValueError, IndexError, subprocess.CalledProcessError) as error:
            return "degraded" in str(getattr(error, "output", ""))


def refused() -> str:
    """Why nothing can be booted here; "" if it can."""
    if shutil.which("systemd-nspawn") is None:
        return "there is no systemd-nspawn (Debian: apt-get install systemd-container)"
    tried = subprocess.run([*NSPAWN, f"--directory={DEBIAN}", "--read-only", "true"], capture_output=True, text=True)
    return tried.stderr.strip() if tried.returncode else ""


def installed(commands: Sequence[str]) -> str:
    """What makes the root folder that is booted, from commands as a page has them."""
    lines = [
        "FROM debian",
        "RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends systemd-sysv dbus",
        "WORKDIR /src",
        "COPY requirements requirements",
        "COPY pyproject.toml README.md LICENSE ./",
        *(f"COPY {name} {name}" for name in ("httpcache", "npm_adapter", "pypi_adapter", "examples/systemd")),
        *(f"RUN {command}" for command in commands),
    ]
    return "\n".join(lines)
