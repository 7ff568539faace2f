"""Completes a page with what was known before of the parts that cannot be read. Pure.

What cannot be read counts as not read, never as gone.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pypi_adapter.simple.model import File, Page


def completed(page: Page, files: Sequence[File], project: Page | None) -> Page:
    """Return the page with what could not be read taken from `files`, and for the project's fields from `project`.

    If an entry cannot be read, the file of that name stays as it was. If its name cannot be read either, it could be
    any file, so none counts as missing. A field that cannot be read keeps its value.
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
