"""Reads the rows of a table from a file, with their line numbers: JSON lines, CSV, or Parquet. One row at a time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from httpcache.errors import MirrorError

from .uploads import COLUMNS, REQUIRED

LONGEST = 64 << 20  # bytes of a row: some have a long description
AT_ONCE = 1000  # rows of a Parquet file that are in memory

Numbered = tuple[int, Mapping[str, object]]
"""A row with its line number, which counts from 1; for Parquet, that of the row."""


class BadRow(ValueError):
    """A line of a file is not a row of a table."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def read_rows(path: Path) -> Iterator[Numbered]:
    """Yield the rows of a file, by what its name ends in. Raises BadRow, and MirrorError for another kind of file."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise MirrorError(f"{path} is not a table: its name must end in one of {', '.join(_READERS)}")
    try:
        yield from reader(path)
    except OSError as error:
        raise MirrorError(f"{path} cannot be read: {error.strerror or error}") from error


def _json_lines(path: Path) -> Iterator[Numbered]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST + 1):
            number += 1
            if len(line) > LONGEST:
                raise BadRow(number, f"it is longer than {LONGEST} bytes")
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line)
            except msgspec.DecodeError as error:
                raise BadRow(number, f"it is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise BadRow(number, "it is not an object")
            yield number, row


def _csv(path: Path) -> Iterator[Numbered]:
    csv.field_size_limit(LONGEST)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, restkey="", strict=True)
        try:
            _check_columns(reader.fieldnames or (), 1)
            for row in reader:
                if "" in row:
                    raise BadRow(reader.line_num, "it has more fields than the first line has names")
                yield reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise BadRow(reader.line_num + 1, f"it is not CSV in UTF-8: {error}") from error


def _parquet(path: Path) -> Iterator[Numbered]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise MirrorError(f"a Parquet file needs {error.name}: install 'freezing-mirror[parquet]'") from error
    try:
        with ParquetFile(path) as table:
            names = table.schema_arrow.names
            _check_columns(names, 1)
            number = 0
            for batch in table.iter_batches(AT_ONCE, columns=[name for name in COLUMNS if name in names]):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except ArrowException as error:
        raise MirrorError(f"{path} cannot be read as Parquet: {error}") from error


def _check_columns(names: Iterable[str], line: int) -> None:
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise BadRow(line, f"it has no column {missing[0]}")


_READERS: dict[str, Callable[[Path], Iterator[Numbered]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_lines,
    ".csv": _csv,
    ".parquet": _parquet,
}
