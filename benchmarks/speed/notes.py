"""What a run tells besides its figures: how far it has come, and what could not be measured."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import msgspec

from .process import Unavailable


class Notes(list[str]):
    """What could not be measured and why, a line each."""

    @contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """Turn what cannot be had inside the block into a note."""
        try:
            yield
        except (Unavailable, httpx.HTTPError, msgspec.MsgspecError, OSError) as error:
            self.append(f"{what}: {error or type(error).__name__}")
            say(self[-1])


def say(text: str) -> None:
    """Tell on stderr how far it has come."""
    print(f"{text} ...", file=sys.stderr, flush=True)
