"""The line of every key of a TOML document, which `tomllib` does not tell. Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from typing import TypeAlias

Place: TypeAlias = tuple[str | int, ...]
"""A key of a document behind the keys and the numbers (from 0) that it is under: `("registry", 0, "name")`."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_VALUE = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|\'{3}.*?'{3,5}|"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,\[\]{}#"'](?:[^,\]}#\n]*[^\s,\]}#])?''',
    re.DOTALL,
)


@lru_cache(maxsize=1)
def lines(text: str) -> Mapping[Place, int]:
    """Return the line, from 1, of each key and each array element of a document that `tomllib` can read.

    A table has the line on which it is first named, a header of an array of tables that of its element.
    """
    return _Scanner(text).document()


class _Scanner:
    """Goes through a document once. What it does not check, `tomllib` has checked."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted = 0  # how far lines have been counted
        self._line = 1
        self._found: dict[Place, int] = {}
        self._lengths: dict[Place, int] = {}  # of arrays of tables

    def document(self) -> dict[Place, int]:
        """Return all places."""
        table: Place = ()
        while self._skip(_BLANK) < len(self._text):
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)
        return self._found

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._at

    def _note(self, place: Place) -> None:
        """Note the current line for a place, unless it is known."""
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        self._found.setdefault(place, self._line)

    def _keys(self) -> list[str]:
        """Read a dotted key."""
        keys = []
        while True:
            found = _KEY.match(self._text, self._at)
            if not found:
                raise ValueError(f"no key at {self._at}: is this TOML?")
            self._at = found.end()
            quoted = found[0][0] in "\"'"
            keys.append(str(tomllib.loads(f"key = {found[0]}")["key"]) if quoted else found[0])
            if self._skip(_DOT) == found.end():
                return keys

    def _header(self) -> Place:
        """Read `[table]` or `[[array of tables]]`; return the place that the pairs below it are in."""
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        self._skip(_BLANK)
        place: Place = ()
        keys = self._keys()
        for number, key in enumerate(keys, 1):
            place = (*place, key)
            self._note(place)
            if number == len(keys) and is_array:
                self._lengths[place] = self._lengths.get(place, 0) + 1
            if place in self._lengths:
                place = (*place, self._lengths[place] - 1)
                self._note(place)
        self._skip(_BLANK)
        self._at += 2 if is_array else 1
        return place

    def _pair(self, table: Place) -> None:
        """Read `key = value`."""
        place = table
        for key in self._keys():
            place = (*place, key)
            self._note(place)
        self._skip(_EQUALS)
        self._value(place)

    def _value(self, place: Place) -> None:
        opening = self._text[self._at]
        if opening not in "[{":
            self._skip(_VALUE)
            return
        self._at += 1
        number = 0
        while self._text[self._skip(_BLANK)] not in "]}":
            if self._text[self._at] == ",":
                self._at += 1
            elif opening == "{":
                self._pair(place)
            else:
                self._note((*place, number))
                self._value((*place, number))
                number += 1
        self._at += 1
