"""What differs between two pages of a project. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .model import File, Page, identity
from .versions import by_version, versions_of

NO_VERSION = ""


class Change(NamedTuple):
    """A file that differs: its version, what differs in words, its name, and when it was uploaded, if that is told."""

    version: str
    what: str
    filename: str
    uploaded: str | None


class Difference(NamedTuple):
    """Versions that came and went, the newest first, and every file that differs, by version."""

    added: list[str]
    removed: list[str]
    changes: list[Change]


def difference(before: Page | None, after: Page | None) -> Difference:
    """Compare two pages of one project; None is a page of a project that did not exist."""
    old, new = _files(before), _files(after)
    versions, now = {change[0] for change in old.values()}, {change[0] for change in new.values()}
    names = {filename for filename, _ in old}
    changes = [
        Change(version, _arrival(file, names), file.filename, file.upload_time)
        for key, (version, file) in new.items()
        if key not in old
    ]
    changes += [
        Change(version, "gone", file.filename, file.upload_time)
        for key, (version, file) in old.items()
        if key not in new
    ]
    for key in old.keys() & new.keys():
        version, file = new[key]
        changes += [Change(version, what, file.filename, file.upload_time) for what in _differing(old[key][1], file)]
    changes.sort(key=lambda change: (change.what, change.filename))
    changes.sort(key=lambda change: by_version(change.version), reverse=True)
    return Difference(_sorted(now - versions), _sorted(versions - now), changes)


def _files(page: Page | None) -> dict[tuple[str, str], tuple[str, File]]:
    if page is None:
        return {}
    versions = versions_of([file.filename for file in page.files], page.versions or ())
    return {identity(file): (version or NO_VERSION, file) for file, version in zip(page.files, versions, strict=True)}


def _sorted(versions: set[str]) -> list[str]:
    return sorted(versions - {NO_VERSION}, key=by_version, reverse=True)


def _arrival(file: File, names: set[str]) -> str:
    text = "other content under the same name" if file.filename in names else "new"
    return f"{text}, yanked" if file.yanked else text


def _differing(old: File, new: File) -> Iterator[str]:
    if old.yanked != new.yanked:
        reason = f": {new.yanked}" if isinstance(new.yanked, str) else ""
        yield f"yanked{reason}" if new.yanked else "no longer yanked"
    if old.requires_python != new.requires_python:
        yield f"requires Python {new.requires_python or 'any'} (was {old.requires_python or 'any'})"
