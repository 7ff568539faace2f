"""Prints what a command lists: a line for people, or with `--json` an object for programs, one on each line.

The keys of an object are always there; what is not known is null. Sizes are in bytes, instants in UTC (RFC 3339).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from httpcache.errors import one_line


class Rows:
    """Prints rows. What people are told besides goes to standard error if programs read them."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def add(self, text: str, **values: Any) -> None:
        """Print a row; its text may have several lines."""
        if self.as_json:
            print(json.dumps(values))
        else:
            for line in text.splitlines():
                say(line)

    def note(self, text: str) -> None:
        """Print a line that is no row."""
        say(text, sys.stderr if self.as_json else sys.stdout)

    def total(self, text: str, values: Mapping[str, Any]) -> None:
        """Print what the rows come to: for programs, an object with the one key `total`."""
        self.add(text, total=values)


def say(line: str, file: Any = None) -> None:
    """Print a line that may contain untrusted text."""
    file = file or sys.stdout
    print(one_line(line).encode(file.encoding, "backslashreplace").decode(file.encoding), file=file)


def instant(seconds: float | None) -> str | None:
    """Return an instant, in seconds since the epoch, as it is printed; None for None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
