"""What differs between what two builds took. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from .components import Component

ADDED, REMOVED, CHANGED, OTHER_FILES = "added", "removed", "changed", "other files"


class Difference(NamedTuple):
    """A package, or a file of no package, that differs: in its versions, or with the same ones in its files.

    `before` and `after` are the versions in order, with "" for an unknown one; `files_before` and `files_after` the
    names and sha256 of those files that the other build did not take.
    """

    kind: str
    type: str
    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    files_before: tuple[tuple[str, str], ...]
    files_after: tuple[tuple[str, str], ...]


def differences(before: Sequence[Component], after: Sequence[Component]) -> list[Difference]:
    """Return what differs, in the order of type and name. Files are the same if their bytes are."""
    sides = [_by_package(side) for side in (before, after)]
    found = []
    for key in sorted(sides[0].keys() | sides[1].keys()):
        old, new = (side.get(key, []) for side in sides)
        gone, come = _files(old, new), _files(new, old)
        if not gone and not come:
            continue
        versions = _versions(old), _versions(new)
        if not old or not new:
            kind = ADDED if new else REMOVED
        else:
            kind = CHANGED if versions[0] != versions[1] else OTHER_FILES
        found.append(Difference(kind, *key, *versions, gone, come))
    return found


def _by_package(components: Sequence[Component]) -> dict[tuple[str, str], list[Component]]:
    found: defaultdict[tuple[str, str], list[Component]] = defaultdict(list)
    for each in components:
        known = each.described
        prefix = f"{known.namespace}/" if known and known.namespace else ""
        key = (known.type, prefix + known.name) if known else ("", each.file.url)
        found[key].append(each)
    return found


def _versions(components: Sequence[Component]) -> tuple[str, ...]:
    return tuple(sorted({each.version or "" for each in components}))


def _files(some: Sequence[Component], others: Sequence[Component]) -> tuple[tuple[str, str], ...]:
    """Return the names and digests of those files that the others do not have."""
    digests = {each.file.digest for each in others}
    return tuple(sorted({(each.filename, each.file.digest) for each in some if each.file.digest not in digests}))
