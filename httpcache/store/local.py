"""The embedded store: an index in SQLite and blobs as files, in one folder (see `layout`)."""

from __future__ import annotations

from pathlib import Path

from .file_blobs import FileBlobs
from .layout import is_read_only, prepare, use_reserve
from .sqlite_index import SqliteIndex
from .store import Store


class LocalStore(Store):
    """A Store in a folder that any number of processes on one machine can share."""

    index: SqliteIndex
    _blobs: FileBlobs

    def __init__(self, folder: Path) -> None:
        """Open the folder, creating it if it is missing. Raises StoreError with a text that says what to do.

        If the folder cannot be written, `read_only` is True and every method that changes it raises StoreError.
        """
        prepare(folder)
        self.folder = folder
        read_only = is_read_only(folder)
        index = SqliteIndex(folder, read_only=read_only)
        super().__init__(index, FileBlobs(folder), folder / "spool", read_only=read_only)

    def use_reserve(self) -> bool:
        """See Store."""
        return use_reserve(self.folder)

    def close(self) -> None:
        """Close the store, after all pending writes have ended."""
        self._blobs.close()
        self.index.close()
