"""What a user feels: seconds of `uv pip compile` and `uv pip install`, with an empty cache of uv's each time."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from .peers import ROOT
from .process import Unavailable, clean_environment

CLIENT: Final = ROOT / ".clients" / "current" / "bin"
INSTALLED: Final = 40
"""Distributions that are installed, of those that were locked."""
_PINNED: Final = re.compile(r"^[\w-]+==\S+", re.MULTILINE)


def index(url: str) -> tuple[str, str]:
    """Return the options that have uv ask this index, and no other."""
    return ("--index-url", url)


def compile_seconds(folder: Path, requirements: Sequence[str], *options: str) -> tuple[float, list[str]]:
    """Resolve requirements; return the seconds and what was locked. Raises Unavailable where uv fails."""
    with TemporaryDirectory(dir=folder) as place:
        wanted = Path(place) / "requirements.in"
        wanted.write_text("\n".join(requirements) + "\n")
        seconds, output = _uv(Path(place), "compile", wanted, "--no-annotate", "--no-header", *options)
    return seconds, _PINNED.findall(output)


def install_seconds(folder: Path, locked: Sequence[str], *options: str) -> float:
    """Install what was locked, as far as `INSTALLED`, into an empty folder; return the seconds. Raises Unavailable."""
    with TemporaryDirectory(dir=folder) as place:
        target = Path(place) / "target"
        some = locked[:INSTALLED]
        into = ("--no-deps", "--link-mode", "copy", "--target", target)
        seconds, _ = _uv(Path(place), "install", *into, *options, *some)
        there = len(list(target.glob("*.dist-info")))
        if there != len(some):
            raise Unavailable(f"uv installed {there} distributions in place of {len(some)}")
    return seconds


def version() -> str:
    """What uv says of itself. Raises Unavailable where it is not installed."""
    if not (CLIENT / "uv").exists():
        raise Unavailable("uv is not installed: make .clients/current/ready")
    return subprocess.run([CLIENT / "uv", "--version"], capture_output=True, text=True, check=True).stdout.strip()


def _uv(place: Path, command: str, *arguments: str | Path) -> tuple[float, str]:
    environment = clean_environment() | {
        "UV_CACHE_DIR": str(place / "cache"),
        "UV_NO_CONFIG": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "HOME": str(place),
    }
    options = ["--quiet", "--only-binary", ":all:", "--python", CLIENT / "python"]
    line = [str(part) for part in (CLIENT / "uv", "pip", command, *options, *arguments)]
    started = time.perf_counter()
    done = subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise Unavailable(f"uv pip {command} failed: {' '.join(done.stderr.split())[-300:]}")
    return seconds, done.stdout
