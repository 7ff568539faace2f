"""Reads requirements files of pip with what they include."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from urllib.parse import urlsplit

from httpcache.errors import MirrorError
from pypi_adapter.warming.requirements_file import logical_lines

from .asked import Wanted, elsewhere

LARGEST = 1 << 20  # bytes of a file that is read

_INCLUDED = re.compile(r"(-r|-c|--requirement|--constraint)(?:\s*=\s*|\s+|(?<=^-[rc]))(.+)")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s*=\s*|\s+)(.+)")
_ITSELF = re.compile(r"\./?(?:\[.*\])?")  # the checkout
_INDEX = re.compile(r"(?:-i|-f|--(?:index-url|extra-index-url|find-links|pypi-url))\b")
_OPTION = re.compile(r"\s--?[a-z]")
_HASH = re.compile(r"\s--hash[= ]\s*[\"']?(\w+:[0-9a-fA-F]+)")
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_text(file: Path) -> str:
    """Return the text of a file in UTF-8, in UTF-16 with a mark, or else in Latin-1. Raises MirrorError."""
    try:
        with file.open("rb") as opened:
            body = opened.read(LARGEST + 1)
    except OSError as error:
        raise MirrorError(f"{file} cannot be read: {error.strerror or error}") from error
    if len(body) > LARGEST:
        raise MirrorError(f"{file} is larger than {LARGEST >> 20} MiB")
    for mark, coding in _MARKS:
        if body.startswith(mark):
            return body.decode(coding, "replace")
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body.decode("latin-1")


def read_requirements(
    file: Path, base: Path, wanted: Wanted, *, included: bool = False, constraint: bool = False
) -> None:
    """Add what a requirements file asks for, and the files that it includes. Raises MirrorError if it cannot be read.

    Files are called by their path below `base`.
    """
    name = below(file, base)
    if name in (*wanted.files, *wanted.included):
        return
    text = read_text(file)
    (wanted.included if included else wanted.files).append(name)
    for number, line in logical_lines(text):
        read_line(line, f"{name}:{number}", file.parent, base, wanted, constraint=constraint)


def read_line(line: str, where: str, folder: Path, base: Path, wanted: Wanted, *, constraint: bool = False) -> None:
    """Add what a line of a requirements file in a folder asks for, which is what pip takes as arguments."""
    if included := _INCLUDED.fullmatch(line):
        _include(folder, included[2].strip(), base, wanted, where, included[1] in ("-c", "--constraint"))
    elif editable := _EDITABLE.fullmatch(line):
        if not _ITSELF.fullmatch(editable[1].strip()):
            wanted.leave(line, where, elsewhere(editable[1]) or "it is a folder")
    elif _INDEX.match(line):
        wanted.leave(line, where, "other indexes are not asked: name one of the mirror with --index")
    elif line.startswith("-"):
        wanted.leave(line, where, "this option is not followed")
    elif not _ITSELF.fullmatch(line):
        wanted.ask(_OPTION.split(line, maxsplit=1)[0], where, _HASH.findall(line), constraint=constraint)


def _include(folder: Path, named: str, base: Path, wanted: Wanted, where: str, constraint: bool) -> None:
    if urlsplit(named).scheme in ("http", "https"):
        wanted.leave(named, where, "files are not fetched")
        return
    try:
        read_requirements(folder / named.strip("\"'"), base, wanted, included=True, constraint=constraint)
    except MirrorError as error:
        wanted.leave(named, where, error.text)


def below(file: Path, base: Path) -> str:
    """Return how a file is called: its path below a folder, or the whole one."""
    try:
        return file.resolve().relative_to(base.resolve()).as_posix()
    except ValueError:
        return str(file)
