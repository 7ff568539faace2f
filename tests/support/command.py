"""Runs the installed command to its end, as an operator does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.mirror import COMMAND


def run(
    *arguments: str | Path, stdin: str = "", environment: Mapping[str, str] | None = None, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """The command run to its end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HTTPCACHE_")}
    return subprocess.run(
        [str(part) for part in (COMMAND, *arguments)],
        env=clean | dict(environment or {}),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def told(ran: subprocess.CompletedProcess[str]) -> str:
    """The one line of a command that could not do what it was asked, after checking that it is one line."""
    assert ran.returncode in (1, 2, 3), ran
    lines = ran.stderr.splitlines()
    assert len(lines) == 1, ran.stderr
    assert lines[0].startswith("httpcache: ")
    return lines[0]
