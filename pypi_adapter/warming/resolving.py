"""Resolves requirements through a mirror with uv, for one environment after the other."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from httpcache.errors import MirrorError, one_line, redact

from .locks import Locked
from .requirements_file import read_pinned

SECONDS = 3600.0  # for one resolution
_OPTIONS = ("--generate-hashes", "--no-header", "--no-annotate", "--no-config", "--quiet")


def resolve(file: Path, index: str, python: str, target: str) -> list[Locked]:
    """Return the releases that a requirements file resolves to, with the hashes of all their files.

    `index` is a URL; `python` is a version, `target` what `uv pip compile --python-platform` calls a platform. Nothing
    is taken from uv's cache: the mirror is asked for everything. Raises MirrorError.
    """
    for_target = ("--python-version", python, "--python-platform", target, "--no-cache")
    found = read_pinned(compiled(file, index, *for_target))
    if found is None:
        raise MirrorError(f"what uv resolved {file} to cannot be read")
    return found


def find_uv() -> str:
    """Return the path of uv. Raises MirrorError."""
    uv = shutil.which("uv")
    if uv is None:
        raise MirrorError("requirements are resolved by uv: install uv, or put it on the PATH")
    return uv


def compiled(file: Path, index: str, *options: str) -> str:
    """Return the requirements, with hashes, that `uv pip compile` with these options writes. Raises MirrorError."""
    command = [find_uv(), "pip", "compile", str(file), "--default-index", index, *options, *_OPTIONS]
    try:
        ran = subprocess.run(  # noqa: S603 - the user's own uv and file
            command,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise MirrorError(f"uv has not resolved {file} within {SECONDS:.0f} s") from None
    if ran.returncode:
        raise MirrorError(f"it cannot be resolved: {_said(ran.stderr, index)}")
    return ran.stdout


def _said(text: str, index: str) -> str:
    """Return what uv said in one line, without credentials."""
    return one_line(" ".join(text.replace(index, redact(index)).split()))[:1000]
