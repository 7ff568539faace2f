"""`httpcache warm`: has a running mirror freeze what builds will ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from httpcache.adapter import Adapter, Build, Progress, Unmet, Wish
from httpcache.errors import MirrorError
from httpcache.units import short_size

from .asking import Asker

AT_ONCE = 8


@dataclass
class Outcome:
    """What the mirror had or has now: the files that it froze and those it had before, and bytes of both."""

    frozen: int = 0
    frozen_bytes: int = 0
    had: int = 0
    had_bytes: int = 0
    unmet: list[Unmet] = field(default_factory=list)

    @property
    def values(self) -> dict[str, int]:
        """All of it by name."""
        return {
            "frozen": self.frozen,
            "frozen_bytes": self.frozen_bytes,
            "had": self.had,
            "had_bytes": self.had_bytes,
            "unmet": len(self.unmet),
        }

    @property
    def summary(self) -> str:
        """All of it in one line."""
        return (
            f"froze {self.frozen:,} files ({short_size(self.frozen_bytes)}); {self.had:,} "
            f"({short_size(self.had_bytes)}) were there already; {len(self.unmet):,} could not be had"
        )


def address(index: str, at: str | None) -> str:
    """Return the path of an index below the mirror: as given, or as of a date or instant. Raises MirrorError."""
    path = index.strip("/")
    if at is None:
        return path
    if re.search(r"(?:^|/|-)\d{4}-\d\d-\d\d|(?:^|/)live(?:-|$)", path):
        raise MirrorError(f"{index} has a date already: leave out one of it and --at")
    return at if path == "pypi" else f"{path}/{at}"


def names(file: Path) -> tuple[str, ...]:
    """Return the lines of a file, but for comments and empty ones. Raises MirrorError."""
    try:
        lines = (line.partition("#")[0].strip() if "://" not in line else line.strip() for line in file.open())
        return tuple(line for line in lines if line and not line.startswith("#"))
    except (OSError, UnicodeDecodeError) as error:
        raise MirrorError(f"{file} cannot be read: {error}") from error


def wishes(build: Build, asker: Asker, installed: Sequence[Adapter]) -> Iterator[Wish | Unmet]:
    """Yield what a build will ask for. Raises MirrorError if nothing is known of such files."""
    for adapter in installed:
        found = adapter.plan(build, asker.read)
        if found is not None:
            yield from found
            return
    raise MirrorError(f"{build.file} is no lock or requirements file of a known kind: see `httpcache warm --help`")


def run(asker: Asker, wanted: Iterable[Wish | Unmet], progress: Progress) -> Outcome:
    """Ask the mirror for everything once, several things at a time."""
    outcome = Outcome()
    urls: dict[str, str] = {}
    for wish in wanted:
        if isinstance(wish, Unmet):
            outcome.unmet.append(wish)
        else:
            urls.setdefault(wish.url, wish.name)
    with ThreadPoolExecutor(AT_ONCE) as pool, progress.over("files", len(urls)) as advance:
        asked = {pool.submit(asker.drain, url): name for url, name in urls.items()}
        for each in as_completed(asked):
            try:
                drained = each.result()
            except MirrorError as error:
                outcome.unmet.append(Unmet(asked[each], error.text))
            else:
                if drained.was_there:
                    outcome.had += 1
                    outcome.had_bytes += drained.size
                else:
                    outcome.frozen += 1
                    outcome.frozen_bytes += drained.size
            advance()
    outcome.unmet.sort()
    return outcome
