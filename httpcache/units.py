"""Sizes and times as people read them."""

from __future__ import annotations


def span(seconds: float) -> str:
    """Write a time: `3 h 20 min`, `4 min 5 s`, `12 s`."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
