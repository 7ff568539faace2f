"""A project's time line as a drawing: lanes of marks over a scale of time. Pure: sizes are units of the drawing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import log2

from pypi_adapter.history.timeline import Kind, Line
from pypi_adapter.instants import to_datetime, to_instant

WIDTH, LEFT, RIGHT = 1000, 120, 20
LANE, TOP, SCALE = 30, 10, 24
NEAR = 10  # marks that are nearer than that are one
TICKS = 10  # at most
SMALLEST, LARGEST = 4.0, 10.0  # radius of a mark

LANES: Mapping[str, frozenset[Kind]] = {
    "Releases": frozenset(
        {Kind.UPLOADED, Kind.SEEN, Kind.OTHER_UPLOADED, Kind.OTHER_SEEN, Kind.PROJECT_APPEARED, Kind.CHANGED}
        | {Kind.REQUIRES_PYTHON}
    ),
    "Yanks": frozenset({Kind.YANKED, Kind.ALREADY_YANKED, Kind.UNYANKED}),
    "Removals": frozenset({Kind.GONE, Kind.PROJECT_GONE, Kind.BACK, Kind.PROJECT_BACK, Kind.OTHER_BACK}),
    "Rescues": frozenset({Kind.RESCUED, Kind.ALREADY_GONE, Kind.WITHHELD}),
    "Status": frozenset({Kind.STATUS, Kind.PROJECT_CHANGED}),
    "Observed": frozenset({Kind.IMPORTED, Kind.FIRST_OBSERVED, Kind.FIRST_ABSENT, Kind.UNCHANGED}),
}
"""The lanes of what is in a project's logs. Every kind is in one."""


@dataclass(frozen=True)
class Mark:
    """What happened near one place: where, how large, and a text."""

    x: float
    radius: float
    text: str


@dataclass(frozen=True)
class Lane:
    """A lane with its marks. `css` is the name of its class."""

    name: str
    css: str
    y: int
    marks: Sequence[Mark]


@dataclass(frozen=True)
class Drawing:
    """Lanes, and ticks of the scale with their texts."""

    width: int
    height: int
    left: int
    right: int
    lanes: Sequence[Lane]
    ticks: Sequence[tuple[float, str]]


def lane_of(kind: Kind) -> str:
    """Return the lane of a kind."""
    return next(name for name, kinds in LANES.items() if kind in kinds)


def draw(lines: Sequence[Line], more: Mapping[str, Sequence[Line]], end: int) -> Drawing:
    """Draw the lines of a project's logs, and `more` lanes; up to `end` (microseconds) or the last mark."""
    lanes = {name: [line for line in lines if line.kind in kinds] for name, kinds in LANES.items()}
    lanes |= {name: list(marks) for name, marks in more.items()}
    lanes = {name: marks for name, marks in lanes.items() if marks}
    instants = [line.instant for marks in lanes.values() for line in marks]
    begin, end = min(instants, default=end), max([*instants, end])
    unit = (WIDTH - LEFT - RIGHT) / max(1, end - begin)
    drawn = [
        Lane(name, name.lower(), TOP + LANE * place + LANE // 2, _marks(marks, begin, unit))
        for place, (name, marks) in enumerate(lanes.items())
    ]
    ticks = [(_at(instant, begin, unit), text) for instant, text in _ticks(begin, end)]
    return Drawing(WIDTH, TOP + LANE * len(drawn) + SCALE, LEFT, WIDTH - RIGHT, drawn, ticks)


def _at(instant: int, begin: int, unit: float) -> float:
    return round(LEFT + (instant - begin) * unit, 1)


def _marks(lines: Iterable[Line], begin: int, unit: float) -> list[Mark]:
    """Return the marks of a lane; lines that are near each other share one."""
    groups: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: line.instant):
        if groups and (line.instant - groups[-1][0].instant) * unit < NEAR:
            groups[-1].append(line)
        else:
            groups.append([line])
    return [_mark(group, begin, unit) for group in groups]


def _mark(group: Sequence[Line], begin: int, unit: float) -> Mark:
    count = sum(line.times for line in group)
    radius = min(LARGEST, SMALLEST + log2(count))
    first, last = (to_datetime(line.instant).date().isoformat() for line in (group[0], group[-1]))
    when = first if first == last else f"{first} to {last}"
    more = f", and {len(group) - 1} more" if len(group) > 1 else ""
    return Mark(_at(group[0].instant, begin, unit), round(radius, 1), f"{when}: {group[0].text[:200]}{more}")


def _ticks(begin: int, end: int) -> list[tuple[int, str]]:
    """Return the beginnings of years on the scale; of months or days if it is short."""
    first, last = to_datetime(begin), to_datetime(end)
    years = last.year - first.year
    if years >= 2:
        step = -(-years // TICKS)
        found = [(datetime(year, 1, 1, tzinfo=UTC), f"{year}") for year in range(first.year + 1, last.year + 1, step)]
    else:
        months = years * 12 + last.month - first.month
        step = max(1, -(-months // TICKS))
        places = [divmod(first.year * 12 + first.month - 1 + number, 12) for number in range(1, months + 1, step)]
        found = [(datetime(year, month + 1, 1, tzinfo=UTC), f"{year}-{month + 1:02}") for year, month in places]
    if not found:
        return [(begin, first.date().isoformat())]
    return [(to_instant(moment), text) for moment, text in found]
