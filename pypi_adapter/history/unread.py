"""What of a page cannot be read counts as not read, not as gone: it is as it was known before. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pypi_adapter.simple.model import File, Page


def completed(page: Page, files: Sequence[File], project: Page | None) -> Page:
    """The page, with what could not be read of it as it was last known: `files`, and the rest in `project`.

    An entry that could not be read leaves the file of its name as it was; one whose name cannot be read either could be
    any file, so that none is missing. A field that could not be read keeps its value.
    """
    unread = page.unread
    if not unread:
        return page
    shown = tuple(_completed(file, files, unread.fields.get(file.filename, ())) for file in page.files)
    names = {file.filename for file in shown}
    kept = tuple(
        file for file in files if file.filename not in names and (unread.nameless or file.filename in unread.entries)
    )
    fields = {name: getattr(project, name) for name in unread.page} if project else {}
    return msgspec.structs.replace(page, files=shown + kept, **fields)


def _completed(file: File, files: Sequence[File], fields: Sequence[str]) -> File:
    same = [other for other in files if other.filename == file.filename] if fields else []
    if not same:
        return file
    known = next((other for other in same if other.url == file.url), same[-1])
    values = {name: getattr(known, name) for name in fields}
    if "hashes" in values:
        differ = any(known.hashes.get(name, digest) != digest for name, digest in file.hashes.items())
        values["hashes"] = file.hashes if differ else known.hashes | file.hashes
    return msgspec.structs.replace(file, **values)
