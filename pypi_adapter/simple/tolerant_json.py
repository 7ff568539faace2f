"""Reads as much as possible of JSON that is partly invalid. Pure.

The parts are those of the document's model: a field, an item of a list, a pair of a map. A part whose type is not that
of the model is left out and reported.
"""

from __future__ import annotations

import json
import types
from typing import Any, TypeVar, get_args, get_origin

import msgspec

_LONG = 25  # digits of a number that no field can hold

T = TypeVar("T", bound=msgspec.Struct)


def decode(body: bytes) -> object:
    """Parse JSON as Python's own parser does, which also accepts lone surrogates, NaN and numbers of any length.

    Raises ValueError and RecursionError.
    """
    return json.loads(body.decode(), parse_int=lambda digits: int(digits) if len(digits) < _LONG else float(digits))


def salvaged(value: object, model: type[T]) -> tuple[T | None, tuple[str, ...]]:
    """Return what can be read of a struct, and which of its fields cannot; null counts as absent.

    The struct is None if a required field is missing or cannot be read.
    """
    found: dict[str, object] = {}
    unread = []
    for field in msgspec.structs.fields(model):
        given = value.get(field.encode_name) if isinstance(value, dict) else None
        part, whole = (None, True) if given is None else _part(given, field.type)
        if part is not None:
            found[field.name] = part
        elif field.required:
            return None, ()
        if not whole:
            unread.append(field.name)
    return model(**found), tuple(unread)


def _part(value: Any, kind: Any) -> tuple[object, bool]:
    """Return what can be read of a value, None if nothing can, and whether that is all of it."""
    if isinstance(value, str) and not is_text(value):
        return None, False
    kinds = get_args(kind) if get_origin(kind) is types.UnionType else (kind,)
    for one in kinds:
        if isinstance(value, list) and get_origin(one) is list:
            items = [_part(item, get_args(one)[0]) for item in value]
            return [item for item, _ in items if item is not None], all(whole for _, whole in items)
        if isinstance(value, dict) and get_origin(one) is dict:
            pairs = {name: text for name, text in value.items() if is_text(name) and is_text(text)}
            return pairs if pairs or not value else None, len(pairs) == len(value)
        if isinstance(value, dict) and isinstance(one, type) and issubclass(one, msgspec.Struct):
            struct, unread = salvaged(value, one)
            return struct, struct is not None and not unread
    try:
        return msgspec.convert(value, kind), True
    except msgspec.ValidationError:
        return None, False


def is_text(value: object) -> bool:
    """Whether a value is a string that can be encoded as UTF-8, which means without lone surrogates."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False
