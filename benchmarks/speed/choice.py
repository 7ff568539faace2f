"""Options that choose some of several names."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence


def some_of(names: Sequence[str]) -> Callable[[str], list[str]]:
    """Read some of these names, separated by commas."""

    def read(text: str) -> list[str]:
        given = text.split(",")
        unknown = [name for name in given if name not in names]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(names)}")
        return given

    return read
