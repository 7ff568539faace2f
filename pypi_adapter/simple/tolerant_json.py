"""JSON of which some parts are not what they should be, read as far as it can be. Pure.

A part is what the model of a document names: a field, an item of a list, a pair of a map. What is not of the type that
the model has for it is left out, and told.
"""

from __future__ import annotations

import json
import types
from typing import Any, TypeVar, get_args, get_origin

import msgspec

_LONG = 25  # digits of a number that no field can hold

T = TypeVar("T", bound=msgspec.Struct)


def decode(body: bytes) -> object:
    """Read JSON as Python's own reader does, which also takes lone surrogates, NaN and numbers of any length.

    Raises ValueError and RecursionError.
    """
    return json.loads(body.decode(), parse_int=lambda digits: int(digits) if len(digits) < _LONG else float(digits))


def salvaged(value: object, model: type[T]) -> tuple[T | None, tuple[str, ...]]:
    """What can be read of a struct, and its fields that cannot; null is absent.

    None where a field cannot be read that has to be there.
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
    """What can be read of a value, None for nothing; and whether that is all of it."""
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
    """Whether a value is a text that can be written again: without a lone surrogate."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False
