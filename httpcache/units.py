"""Pure: sizes and durations in human-readable form."""

from __future__ import annotations

import re

DAY = 86_400.0  # seconds
_SPANS = {"d": DAY, "w": 7 * DAY}
_SPAN = re.compile(r"([1-9][0-9]{0,4})([dw])", re.ASCII)
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def span(seconds: float) -> str:
    """Format a duration: `3 h 20 min`, `4 min 5 s`, `12 s`."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def parse_span(text: str) -> float | None:
    """Parse a number of days or weeks, `180d` or `26w`; return seconds, None for anything else."""
    found = _SPAN.fullmatch(text)
    return int(found[1]) * _SPANS[found[2]] if found else None


def exact_span(seconds: float) -> str:
    """Format a number of whole days as `parse_span` reads it: `365d`."""
    return f"{seconds / DAY:.0f}d"


def short_size(size: float) -> str:
    """Format a number of bytes as a short number with a unit: `512 B`, `64 KB`, `1.2 TB`."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def parse_size(text: str) -> int | None:
    """Parse a number of bytes: `65536`, `64K`, `128M`, `32G`. Returns None for anything else, or beyond 2**62 - 1."""
    number, unit = (text[:-1], text[-1:].upper()) if not text.isdecimal() else (text, "")
    if not number.isdecimal() or unit not in _UNITS or not 0 < int(number) * _UNITS[unit] < 2**62:
        return None
    return int(number) * _UNITS[unit]


def exact_size(value: float) -> str:
    """Format a number in its shortest exact form: `64K` for 65536, `10` for 10.0."""
    for unit, factor in reversed(_UNITS.items()):
        if factor > 1 and value >= factor and not value % factor:
            return f"{value // factor:g}{unit}"
    return f"{value:g}"
