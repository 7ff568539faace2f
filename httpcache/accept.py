"""Pure: whether an `Accept` admits a content type (RFC 9110 section 12.5.1), and the weights of all such headers."""

from __future__ import annotations

import re
from typing import NamedTuple

LONGEST = 4096  # characters of a header that are read
_QUOTED = r'"(?:\\.|[^"\\])*+(?:"|\\?\Z)'  # one that does not end goes to the end, so that nothing is read twice
_ELEMENTS = re.compile(rf'(?:[^,"]|{_QUOTED})+', re.DOTALL)
_PARAMETERS = re.compile(rf'(?:[^;"]|{_QUOTED})+', re.DOTALL)


class _Range(NamedTuple):
    """A media range: `name` in lower case, its parameters besides the weight, its weight from 0 to 1."""

    name: str
    parameters: frozenset[tuple[str, str]]
    weight: float

    def exactness(self, name: str, parameters: frozenset[tuple[str, str]]) -> tuple[int, int] | None:
        """How exactly it matches a content type, None where it does not."""
        if not self.parameters <= parameters:
            return None
        if self.name == name:
            return 2, len(self.parameters)
        if self.name.endswith("/*") and name.startswith(self.name[:-1]):
            return 1, len(self.parameters)
        return (0, len(self.parameters)) if self.name == "*/*" else None


def admits(accept: str, content_type: str) -> bool:
    """Whether who sends this `Accept` takes an answer of this `Content-Type`.

    The most exact range that matches decides. An answer whose type is missing or cannot be read is taken by everybody,
    and a header in which nothing can be read takes everything.
    """
    name, parameters = _read(content_type[:LONGEST])
    ranges = [found for element in _ELEMENTS.findall(accept[:LONGEST]) if (found := _range(element))]
    if not ranges or name.count("/") != 1:
        return True
    ranked = [(exactness, found.weight) for found in ranges if (exactness := found.exactness(name, parameters))]
    return bool(ranked) and max(ranked)[1] > 0


def quality(text: str) -> float | None:
    """Read the value of a `q`, a weight from 0 to 1 (RFC 9110 section 12.4.2); None where it is none."""
    try:
        weight = float(text)
    except ValueError:
        return None
    return weight if 0 <= weight <= 1 else None


def _range(element: str) -> _Range | None:
    name, parameters = _read(element)
    weights = [value for key, value in parameters if key == "q"]
    weight = quality(weights[0]) if weights else 1.0
    name = "*/*" if name == "*" else name  # as Java's HTTP client writes it
    if name.count("/") != 1 or weight is None:
        return None
    return _Range(name, frozenset(pair for pair in parameters if pair[0] != "q"), weight)


def _read(text: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Split a media type or range into its name and its parameters, all in lower case."""
    name, *rest = (part.strip() for part in _PARAMETERS.findall(text.lower()) or [""])
    pairs = (part.partition("=") for part in rest if part)
    return name, frozenset((key.strip(), value.strip().strip('"')) for key, _, value in pairs)
