"""Tells what differs between two pages of a project: in a line, as Markdown for a pull request, and as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .difference import Difference


def summary(found: Difference) -> str:
    """Return the versions that came and went in one line."""
    parts = [f"added {', '.join(found.added)}"] if found.added else []
    parts += [f"removed {', '.join(found.removed)}"] if found.removed else []
    return "; ".join(parts) or "the same versions"


def markdown(project: str, found: Difference) -> Iterator[str]:
    """Yield the lines of a heading and a table of a project's changes."""
    yield f"#### {cell(project)}: {summary(found)}"
    yield ""
    yield "| version | what | file | uploaded |"
    yield "|---|---|---|---|"
    for change in found.changes:
        yield f"| {' | '.join(cell(part or '') for part in change)} |"
    yield ""


def as_json(project: str, found: Difference) -> str:
    """Return an object with what differs of a project."""
    changes = [change._asdict() for change in found.changes]
    return json.dumps({"project": project, "added": found.added, "removed": found.removed, "changes": changes})


def cell(text: str) -> str:
    """Return a text for a cell of a Markdown table, in which nothing of it is markup."""
    escaped = text.replace("\n", " ")
    for char in "\\`*_[]<>|&":
        escaped = escaped.replace(char, f"\\{char}")
    return escaped
