"""Pure: content negotiation: whether an `Accept` admits a content type (RFC 9110 section 12.5.1), quality values."""

from __future__ import annotations

import re
from typing import NamedTuple

LONGEST = 4096  # characters of a header that are parsed
_QUOTED = r'"(?:\\.|[^"\\])*+(?:"|\\?\Z)'  # an unterminated one runs to the end, so that nothing is scanned twice
_ELEMENTS = re.compile(rf'(?:[^,"]|{_QUOTED})+', re.DOTALL)
_PARAMETERS = re.compile(rf'(?:[^;"]|{_QUOTED})+', re.DOTALL)


class _Range(NamedTuple):
    """A media range: its `name` in lower case, its parameters without the weight, and its weight from 0 to 1."""

    name: str
    parameters: frozenset[tuple[str, str]]
    weight: float

    def exactness(self, name: str, parameters: frozenset[tuple[str, str]]) -> tuple[int, int] | None:
        """Return how specifically it matches a content type, or None if it does not."""
        if not self.parameters <= parameters:
            return None
        if self.name == name:
            return 2, len(self.parameters)
        if self.name.endswith("/*") and name.startswith(self.name[:-1]):
            return 1, len(self.parameters)
        return (0, len(self.parameters)) if self.name == "*/*" else None


def admits(accept: str, content_type: str) -> bool:
    """Whether a client that sends this `Accept` accepts a response with this `Content-Type`.

    The most specific range that matches decides. A response whose type is missing or malformed is acceptable to every
    client, and a header without any valid range accepts everything.
    """
    name, parameters = _read(content_type[:LONGEST])
    ranges = [found for element in _ELEMENTS.findall(accept[:LONGEST]) if (found := _range(element))]
    if not ranges or name.count("/") != 1:
        return True
    ranked = [(exactness, found.weight) for found in ranges if (exactness := found.exactness(name, parameters))]
    return bool(ranked) and max(ranked)[1] > 0


def quality(text: str) -> float | None:
    """Parse the value of `q`, a weight from 0 to 1 (RFC 9110 section 12.4.2). Returns None if it is not valid."""
    try:
        weight = float(text)
    except ValueError:
        return None
    return weight if 0 <= weight <= 1 else None


def _range(element: str) -> _Range | None:
    name, parameters = _read(element)
    weights = [value for key, value in parameters if key == "q"]
    weight = quality(weights[0]) if weights else 1.0
    name = "*/*" if name == "*" else name  # Java's HTTP client sends this
    if name.count("/") != 1 or weight is None:
        return None
    return _Range(name, frozenset(pair for pair in parameters if pair[0] != "q"), weight)


def _read(text: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Split a media type or media range into its name and its parameters, all in lower case."""
    name, *rest = (part.strip() for part in _PARAMETERS.findall(text.lower()) or [""])
    pairs = (part.partition("=") for part in rest if part)
    return name, frozenset((key.strip(), value.strip().strip('"')) for key, _, value in pairs)
