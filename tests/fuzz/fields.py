"""How the fuzz targets take bytes apart: fields with NUL between them, as the texts that a server makes of them."""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path

CREDENTIAL = "S3CRET"
"""Stands where a credential stands: it must not come out again."""


def fields(data: bytes, count: int) -> list[bytes]:
    """So many fields; those that are missing are empty, the last one has the rest."""
    found = data.split(b"\0", count - 1)
    return found + [b""] * (count - len(found))


def quoted(field: bytes) -> str:
    """A raw path or query as the mirror decodes it."""
    return field.decode("utf-8", "surrogateescape")


def header(field: bytes) -> str:
    """The value of a header as Starlette decodes it; no server lets line ends and NUL through."""
    return re.sub(rb"[\r\n\0]", b"", field).strip().decode("latin-1")


@cache
def scratch(name: str) -> Path:
    """A folder for one target, the same each time, which is gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
