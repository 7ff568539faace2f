"""`httpcache bisect`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from httpcache.adapter import Client
from httpcache.errors import MirrorError
from pypi_adapter.addresses import PYPI, index_url

from . import FOLDER
from .bisection import Bisection, Outcome, Step
from .builds import Builds

_GONE = "no upload: files were yanked or removed"


def bisect(mirror: Client, given: Mapping[str, Any]) -> int:
    """Find the upload that broke a build, and print it. Raises MirrorError."""
    command = given["command"]
    if not command:
        raise MirrorError("name the command that tells good from bad behind --: httpcache bisect ... -- pytest")
    repeat = given["repeat"] or "1"
    if not repeat.isdecimal() or not 0 < int(repeat) < 1000:
        raise MirrorError(f"--repeat {repeat}: use a number of runs, 1 to 999")
    file = Path(given["requirements"] or "requirements.txt")
    if not file.is_file():
        raise MirrorError(f"{file} is not there: name the requirements with -r")
    folder = Path(given["folder"] or FOLDER)
    index = (given["index"] or PYPI).strip("/")
    python = given["python"] or sys.executable
    bisection = Bisection(
        index=index_url(mirror.url, index),
        good=given["good"],
        bad=given["bad"],
        file=file,
        folder=folder,
        builds=Builds(folder, python, command, int(repeat), mirror.environment),
        read=mirror.read,
        say=lambda line: print(f"httpcache: {line}", file=sys.stderr),
        about={"index": index, "python": python, "command": shlex.join(command), "repeat": repeat},
    )
    outcome = bisection.run(resume=given["resume"])
    print(json.dumps(asdict(outcome)) if given["json"] else "\n".join(_lines(outcome)))
    return 0


def _lines(outcome: Outcome) -> Iterator[str]:
    if outcome.problem:
        yield f"the requirements no longer resolve: {outcome.problem}"
    yield from _told(outcome.step)
    if outcome.partner:
        yield "but not without an earlier one:"
        yield from _told(outcome.partner)
    if outcome.skipped:
        yield f"or one of {len(outcome.skipped)} others could be it, which were skipped: {', '.join(outcome.skipped)}"
    if outcome.step.constraints:
        yield f"to avoid it, require {', '.join(outcome.step.constraints)}"
    yield f"good until {outcome.step.good}, bad from {outcome.step.bad} on; built {outcome.builds} environments"


def _told(step: Step) -> Iterator[str]:
    for upload in step.uploads:
        yield f"  {upload.project} {upload.version}: {upload.filename}, uploaded {upload.time}"
    if not step.uploads:
        yield f"  {_GONE}"
    for change in step.changed:
        yield f"    {change.project}: {change.before or 'not there'} -> {change.after or 'not there'}"
