"""The totals of the pins of a data folder, read at once: for commands that need nothing else of a store."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from .base import PinTotals
from .errors import mapped
from .layout import DATABASE, check_format
from .locks import PATIENCE
from .sqlite_reader import Reader


def totals(folder: Path) -> list[PinTotals]:
    """Return the totals of every pin, in the order of their names. Raises StoreError."""
    with mapped():
        check_format(folder)
        with closing(Reader(folder / DATABASE, PATIENCE)) as reader:
            return reader.pins()
