"""The settings file (TOML), and errors that name the line of what is wrong and the key that was probably meant."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .errors import MirrorError
from .toml_lines import Place, lines

S = TypeVar("S", bound=msgspec.Struct)

_STEP = re.compile(r"\.([^.\[\]`]+)|\[(\d+)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_EXPECTED = re.compile(r"Expected `(\w+)(?:[^`]*)`, got `(\w+)`")
_TYPES = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "datetime": "a date",
}
_INVALID = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


@dataclass(frozen=True)
class SettingsFile:
    """A settings file that has been read, or none: then `path` is None, and the document is empty."""

    path: Path | None = None
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)
    text: str = field(default="", repr=False)

    @property
    def folder(self) -> Path:
        """The folder that paths in the file are relative to."""
        return self.path.parent if self.path else Path()

    def where(self, *place: str | int) -> str:
        """Return the file and line of a key, or of the nearest thing around it that is in the file."""
        known = lines(self.text)
        while place and place not in known:
            place = place[:-1]
        return f"{self.path}:{known[place]}" if place else f"{self.path}"

    def wrong(self, text: str, *place: str | int) -> MirrorError:
        """Return an error about what is at a place."""
        return MirrorError(f"{self.where(*place)}: {text}")

    def check_keys(self, known: Iterable[str]) -> None:
        """Raise MirrorError if the file has a key at its top that is not known."""
        names = list(known)
        for key in self.document:
            if key not in names:
                raise self.wrong(f"unknown key {key!r}{meant(key, names)}", key)

    def tables(self, shape: type[S]) -> S:
        """Return the tables that are the fields of a type. Raises MirrorError if they are not what it says."""
        names = [each.encode_name for each in msgspec.structs.fields(shape)]
        try:
            return msgspec.convert({name: self.document[name] for name in names if name in self.document}, shape)
        except msgspec.ValidationError as error:
            raise self._invalid(str(error), shape) from None

    def _invalid(self, message: str, shape: type[msgspec.Struct]) -> MirrorError:
        """Return an error for a message of msgspec, whose place is like `$.registry[0].name`."""
        text, _, at = message.partition(" - at `$")
        place = _place(at)
        if unknown := _UNKNOWN.fullmatch(text):
            keys = _keys(shape, place)
            near = meant(unknown[1], keys) or f": there are {', '.join(keys)}; settings go above the first table"
            return self.wrong(f"unknown key {unknown[1]!r} in {_table(place)}{near}", *place, unknown[1])
        if missing := _MISSING.fullmatch(text):
            return self.wrong(f"{_table(place)} has no key {missing[1]!r}", *place)
        if types := _EXPECTED.fullmatch(text):
            text = f"this must be {_TYPES.get(types[1], types[1])}, not {_TYPES.get(types[2], types[2])}"
            if len(place) == 1 and types[1] == "array":
                text += f": write [[{place[0]}]]"
        return self.wrong(f"{'.'.join(str(each) for each in place if isinstance(each, str))}: {text}", *place)


def read(path: Path) -> SettingsFile:
    """Read a settings file. Raises MirrorError if it cannot be read, or is not TOML."""
    try:
        text = path.read_text(encoding="utf-8")
        return SettingsFile(path, tomllib.loads(text), text)
    except OSError as error:
        raise MirrorError(f"the settings file {path} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        found = _INVALID.fullmatch(str(error))
        reason, line = (found[1], found[2]) if found else (str(error), None)
        raise MirrorError(f"{path}:{line or len(text.splitlines()) or 1}: this is not TOML: {reason}") from None
    except ValueError:
        raise MirrorError(f"the settings file {path} is not text in UTF-8") from None


def meant(key: str, known: Iterable[str]) -> str:
    """Return ": did you mean ...?" with the nearest of the known names, or "" if none is near."""
    near = get_close_matches(key.replace("_", "-").lower(), known, 1)
    return f": did you mean {near[0]!r}?" if near else ""


def _place(text: str) -> Place:
    """Read a place as msgspec writes it, up to what it does not name."""
    return tuple(name or int(number) for name, number in _STEP.findall(text.partition("[...]")[0]))


def _table(place: Place) -> str:
    name = ".".join(each for each in place if isinstance(each, str))
    return f"[[{name}]]" if place and isinstance(place[-1], int) else f"[{name}]"


def _keys(shape: type[msgspec.Struct], place: Place) -> list[str]:
    """Return the keys of the table at a place."""
    kind: Any = msgspec.inspect.type_info(shape)
    for step in place:
        if isinstance(step, int):
            kind = kind.item_type
        else:
            kind = next(each.type for each in kind.fields if each.encode_name == step)
    return [each.encode_name for each in kind.fields]
