"""Runs fuzz targets under atheris for a bounded time: `python -m tests.fuzz.run [TARGET...|--all] --seconds N`."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.targets import TARGETS

SLACK = 120
"""Seconds beyond its time in which a target has to have started and ended."""


def main() -> int:
    """Fuzz each target that was named in a process of its own; return 1 if a promise broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="*", help=", ".join(TARGETS))
    parser.add_argument("--all", action="store_true", help="every target, one after the other")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (%(default)s)")
    options = parser.parse_args()
    names = list(TARGETS) if options.all else options.target
    if not names or not set(names) <= set(TARGETS):
        parser.error(f"name a target, or --all: {', '.join(TARGETS)}")
    broken = [name for name in names if not _fuzz(name, options.seconds)]
    return 1 if broken else 0


def _fuzz(name: str, seconds: int) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / name
        corpus.mkdir()
        command = [sys.executable, "-m", "tests.fuzz.worker", name, str(seconds), str(corpus)]
        ran = subprocess.run(
            command,
            env=os.environ | {"TMPDIR": folder},  # what the target leaves there goes with it
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds + SLACK,
        )
    done = re.search(r"Done (\d+) runs", ran.stderr)
    if ran.returncode == 0 and done:
        print(f"{name}: {done[1]} inputs in {seconds} s, every promise held", flush=True)
        return True
    told = ran.stderr.rpartition(f"{name} breaks at ")
    print(f"{name}: broke with exit code {ran.returncode}\n{''.join(told[1:])[:20_000]}", flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())
