"""The commands that work through a running mirror; each imports what it needs when it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from httpcache.adapter import Argument, Client, Tool

from .bisecting import FOLDER as BISECTIONS
from .resurrecting import FOLDER as RESURRECTIONS


def _bisect(mirror: Client, given: Mapping[str, Any]) -> int:
    from .bisecting.command import bisect

    return bisect(mirror, given)


def _diff(mirror: Client, given: Mapping[str, Any]) -> int:
    from .comparing.diff import diff

    return diff(mirror, given)


def _resurrect(mirror: Client, given: Mapping[str, Any]) -> int:
    from .resurrecting.command import resurrect

    return resurrect(mirror, given)


TOOLS = [
    Tool(
        "diff",
        "show what has changed between two dates, for projects or for what requirements resolve to",
        [
            Argument("before", "a date or an instant", "BEFORE"),
            Argument("after", "a later one, or live", "AFTER"),
            Argument("projects", "projects to compare", "[PROJECT]...", many=True),
            Argument("--requirements", "requirements to resolve at both, or a lock file", "FILE", short="-r"),
            Argument("--index", "registry or group (default: pypi)", "NAME"),
            Argument("--python", "interpreter or version, for uv (default: the one of this command)", "PYTHON"),
            Argument("--format", "table (the default), json or markdown", "FORMAT"),
        ],
        _diff,
    ),
    Tool(
        "bisect",
        "find the upload that broke a build: try dates between a good and a bad one",
        [
            Argument("--good", "date or instant at which the build worked", "DATE", required=True),
            Argument("--bad", "date or instant at which it fails", "DATE", required=True),
            Argument("--requirements", "requirements of the build (default: requirements.txt)", "FILE", short="-r"),
            Argument("--index", "registry or group (default: pypi)", "NAME"),
            Argument("--python", "interpreter or version, for uv (default: the one of this command)", "PYTHON"),
            Argument("--repeat", "run the command so often: good if it succeeds each time (default: 1)", "N"),
            Argument("--folder", f"where environments and results are kept (default: {BISECTIONS})", "DIR"),
            Argument("--resume", "go on with an interrupted bisection"),
            Argument("--json", "print JSON"),
            Argument("command", "exit code 0: good, 125: skip, any other: bad", "COMMAND...", many=True),
        ],
        _bisect,
    ),
    Tool(
        "resurrect",
        "find out what an old checkout asks for, and what of it can be installed as of its date",
        [
            Argument("path", "folder of the checkout (default: the current one)", "[PATH]", many=True),
            Argument("--requirements", "instead of it, a requirements file", "FILE", short="-r"),
            Argument("--as-of", "date or instant (default: that of the last commit)", "DATE"),
            Argument("--index", "registry or group (default: pypi)", "NAME"),
            Argument("--python", "the only version of Python to try, such as 3.8", "VERSION"),
            Argument("--run", "make an environment, and install in it what was found"),
            Argument("--folder", f"where the environment is made (default: {RESURRECTIONS})", "DIR"),
            Argument("--json", "print JSON"),
        ],
        _resurrect,
    ),
]
