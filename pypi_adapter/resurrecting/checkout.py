"""What a checkout is: what it asks for, and the date of its last commit."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from httpcache.errors import MirrorError
from pypi_adapter.instants import to_segment

from .asked import Wanted
from .environment_files import read_environment
from .imports import read_imports
from .requirement_files import below, read_requirements
from .setup_files import read_setup_cfg, read_setup_py
from .toml_files import read_pipfile, read_pyproject

SECONDS = 60.0  # for git
ENVIRONMENTS = ("environment.yml", "environment.yaml", "conda.yml", "conda.yaml")
MAIN = ("requirements.txt", "requirements/requirements.txt", "requirements/base.txt", "requirements/main.txt")
"""Requirements files, the main ones first."""
PACKAGING = ("pyproject.toml", "setup.cfg", "setup.py")


class Commit(NamedTuple):
    """A commit, and its instant as an address writes it."""

    name: str
    instant: str


def last_commit(place: Path, environment: Mapping[str, str]) -> Commit:
    """Return the last commit of the repository that a file or folder is in. Raises MirrorError.

    Nothing that the repository's own configuration names is run, and nothing is fetched.
    """
    folder = place if place.is_dir() else place.parent
    command = ["git", "-C", str(folder), "rev-list", "--timestamp", "-1", "HEAD"]
    safe = {**environment, "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        ran = subprocess.run(  # noqa: S603 - the user's own git
            command, capture_output=True, text=True, timeout=SECONDS, check=False, env=safe
        )
    except OSError as error:
        raise MirrorError(f"git cannot be run ({error.strerror}): name the date with --as-of") from error
    except subprocess.TimeoutExpired:
        raise MirrorError(f"git has not answered within {SECONDS:.0f} s: name the date with --as-of") from None
    time, _, name = ran.stdout.strip().partition(" ")
    if ran.returncode or not time.isdecimal():
        raise MirrorError(f"{folder} has no commit to take the date from: name it with --as-of")
    return Commit(name, to_segment(int(time) * 1_000_000))


def read_checkout(base: Path) -> Wanted:
    """Return what the files of a folder ask for, or else what its modules import. Raises MirrorError.

    What its packaging asks for counts, and the first of the other files that say how it is installed.
    """
    wanted = Wanted()
    there = [name for name in (*MAIN, "Pipfile", *ENVIRONMENTS) if (base / name).is_file()]
    for name in [*there[:1], *(each for each in PACKAGING if (base / each).is_file())]:
        read_file(base / name, base, wanted)
    more = sorted([*base.glob("requirements*.txt"), *base.glob("requirements/*.txt")])
    if not wanted.asked and len(more) == 1:
        read_file(more[0], base, wanted)
    names = dict.fromkeys([*there, *(below(file, base) for file in more)])
    wanted.others = [name for name in names if name not in (*wanted.files, *wanted.included)]
    if not wanted.asked and not wanted.others:
        read_imports(base, wanted)
    return wanted


def read_file(file: Path, base: Path, wanted: Wanted) -> None:
    """Add what a file asks for, which is of a kind by its name. Raises MirrorError if it cannot be read."""
    if file.name == "Pipfile":
        read_pipfile(file, wanted)
    elif file.name == "pyproject.toml":
        read_pyproject(file, base, wanted)
    elif file.name == "setup.cfg":
        read_setup_cfg(file, base, wanted)
    elif file.name == "setup.py":
        read_setup_py(file, base, wanted)
    elif file.suffix in (".yml", ".yaml"):
        read_environment(file, base, wanted)
    else:
        read_requirements(file, base, wanted)
