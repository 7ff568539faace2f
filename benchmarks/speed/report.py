"""What was measured, as figures; the targets; tables of medians and ratios."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Final

import msgspec

RATE: Final = "answers a second"
CPU: Final = "CPU ms an answer"
COUNTING: Final = "CPU us of a hit in the application"
WRK: Final = "share of a core that wrk took"
SECONDS: Final = "seconds"
READY: Final = "seconds to ready"
HITS: Final = "hits a second"
LS: Final = "seconds of httpcache ls"
PAGE: Final = "ms for 100 records of a pin"
OPERATIONS: Final = "operations a second"
SPEED: Final = "MB a second"
FIRST_BYTE: Final = "ms to the first byte"
PSS: Final = "peak PSS, MB"
RSS: Final = "sum of peak RSS, MB"
FIRST_BUILD: Final = "seconds of a first build"
UPSTREAM: Final = "requests that the registry answered"
LINK: Final = "share of a core that the link took"
METADATA: Final = "CPU ms for each METADATA read by ranges"
SERVER_CPU: Final = "CPU seconds of the server"
STRAIGHT: Final = "straight"
"""The column of uv without a mirror, over the same link: what first builds are compared with."""
WARM: Final = ", warm"
"""Behind the column of a mirror: the same once more, when it has everything."""
LIMIT: Final = "nginx"
"""The column of the same files served statically: what every ratio is to, unless it says otherwise."""
CACHE: Final = "nginx-cache"
OURS: Final = ("mirror-dated", "mirror-pinned")
EMBEDDED: Final = "embedded"
"""The column of one mirror with the embedded store: what nodes are compared with."""
NODES: Final = ("a second, 16 at a time", "ms, one at a time", "CPU ms of the mirror")
"""What is measured of nodes."""
_TABLES: Final = (
    *NODES,
    OPERATIONS,
    RATE,
    CPU,
    WRK,
    SECONDS,
    FIRST_BUILD,
    SERVER_CPU,
    METADATA,
    UPSTREAM,
    LINK,
    PSS,
    RSS,
)
"""What has a table of its own."""
_NOISE: Final = 0.95
"""What still counts as no slower: two runs of one server differ by some per cent."""


class Figure(msgspec.Struct, frozen=True):
    """All values of one thing that was measured of one column (a server, or an index of it), in the order of rounds."""

    work: str
    what: str
    column: str
    values: list[float]

    @property
    def median(self) -> float:
        """What is reported."""
        return median(self.values)


class Values:
    """Values while they are measured."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, str], list[float]] = {}

    def add(self, work: str, what: str, column: str, value: float) -> None:
        """Add what one more round gave."""
        self._values.setdefault((work, what, column), []).append(value)

    @property
    def figures(self) -> list[Figure]:
        """All of them, as figures."""
        return [Figure(work, what, column, values) for (work, what, column), values in self._values.items()]


class Target(msgspec.Struct, frozen=True):
    """A target beside what was measured, None where it was not; `least`: whether the limit is one from below."""

    text: str
    limit: float
    least: bool
    measured: float | None

    @property
    def met(self) -> bool | None:
        """Whether it is, None where it was not measured."""
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.least else self.measured <= self.limit


class Report(msgspec.Struct, frozen=True):
    """Everything that was measured, and on what.

    `titles` say what each work was in this run, `versions` what ran, `notes` what could not be measured or went wrong.
    """

    machine: str
    versions: dict[str, str]
    small: bool
    seconds: float
    rounds: int
    workers: int
    titles: dict[str, str]
    figures: list[Figure]
    notes: list[str]
    targets: list[Target] = []


class Table:
    """Figures by work, what and column."""

    def __init__(self, figures: Sequence[Figure]) -> None:
        self._medians = {(found.work, found.what, found.column): found.median for found in figures}
        self.columns = list(
            dict.fromkeys(
                found.column for found in figures if found.what in (RATE, SECONDS, FIRST_BUILD, OPERATIONS, *NODES)
            )
        )

    def get(self, work: str, what: str, column: str) -> float | None:
        """The median; None if it was not measured."""
        return self._medians.get((work, what, column))

    def ratio(self, work: str, what: str, column: str, other: str) -> float | None:
        """How many times a column's median is another's; None if one of them was not measured, or is 0."""
        mine, others = self.get(work, what, column), self.get(work, what, other)
        return mine / others if mine is not None and others else None

    def works(self, what: str) -> list[str]:
        """The works of which this was measured."""
        return list(dict.fromkeys(work for work, measured, _ in self._medians if measured == what))

    def largest(self, what: str, column: str, *, but: str = "") -> float | None:
        """The largest median of a column over all works."""
        return max((v for (w, m, c), v in self._medians.items() if (m, c) == (what, column) and w != but), default=None)


def targets(figures: Sequence[Figure]) -> list[Target]:
    """Every target, beside what was measured."""
    table = Table(figures)
    return [*_load_targets(table), *_first_build_targets(table), *_other_targets(table)]


def _load_targets(table: Table) -> Iterator[Target]:
    limits: list[tuple[str, Mapping[str, float]]] = [
        ("page-20k", {LIMIT: 0.30, CACHE: 3, "proxpi": 25, "devpi": 80}),
        ("page-500k", {LIMIT: 0.40, CACHE: 15, "proxpi": 30}),
        ("wheel-1m", {LIMIT: 0.40, "proxpi": 3}),
        ("wheel-100m", {LIMIT: 0.95}),
    ]
    for work, others in limits:
        for column in OURS:
            for other, limit in others.items():
                yield Target(f"{work}: {column} / {other}", limit, True, table.ratio(work, RATE, column, other))


def _first_build_targets(table: Table) -> Iterator[Target]:
    ours = OURS[0]
    for work in ("cold-resolve", "cold-install"):
        sets = [name for name in table.works(FIRST_BUILD) if name.startswith(f"{work} ")]
        cold, warm = (
            [ratio for name in sets if (ratio := table.ratio(name, FIRST_BUILD, column, STRAIGHT)) is not None]
            for column in (ours, ours + WARM)
        )
        for text, found, limit in (
            (f"{ours} / {STRAIGHT}, median of the sets", median(cold) if cold else None, 1.1),
            (f"{ours} / {STRAIGHT}, worst set", max(cold, default=None), 1.5),
            (f"{ours}{WARM} / {STRAIGHT}, median of the sets", median(warm) if warm else None, 0.3),
        ):
            yield Target(f"{work}: {text}", limit, False, found)
    yield Target(f"cold-resolve deep: {METADATA}", 6, False, table.get("cold-resolve deep", METADATA, ours))


def _other_targets(table: Table) -> Iterator[Target]:
    for column in OURS:
        yield Target(f"compile: {column} / {LIMIT}", 1.15, False, table.ratio("compile", SECONDS, column, LIMIT))
    for work, limit in (("page-7m", 60.0), ("page-500k", 6.0)):
        for how in ("warm", "cold"):
            found = table.get(f"first sight of {work}", "CPU ms", how)
            yield Target(f"first sight of {work}, {how}: CPU ms", limit, False, found)
    ratio = table.ratio("first-fetch", SPEED, OURS[1], CACHE)
    yield Target(f"first fetch: MB a second / {CACHE}", 0.35, True, ratio)
    ours, upstream = (table.get("first-fetch", FIRST_BYTE, column) for column in (OURS[1], LIMIT))
    late = ours - upstream if ours is not None and upstream is not None else None
    yield Target("first fetch: ms to the first byte after the upstream's", 10, False, late)
    yield Target("crowd: requests to the upstream", 1, False, table.get("crowd", "upstream requests", "mirror"))
    yield Target("crowd: share of clients with all bytes right", 1, True, table.get("crowd", "share right", "mirror"))
    yield Target("memory: peak PSS of the mirror, MB", 350, False, table.largest(PSS, "mirror"))
    large, usual = table.get("memory, 4g", PSS, "mirror (4g)"), table.largest(PSS, "mirror")
    yield Target("memory: the same with the 4 GB file alone", min(usual or 350, 350), False, large)
    yield Target("records: seconds to ready with many", 2, False, table.get("records", READY, "many"))
    yield Target("records: seconds of httpcache ls, many", 0.2, False, table.get("records", LS, "many"))
    yield Target("records: ms for 100 records of a pin, many", 20, False, table.get("records", PAGE, "many"))
    for what in ("one address", "some addresses", "any address"):
        ratio = table.ratio(f"records, {what}", HITS, "many", "few")
        yield Target(f"records: hits on {what}, many / few", _NOISE, True, ratio)


def lines(report: Report) -> Iterator[str]:
    """Write a report as text."""
    yield report.machine
    yield ", ".join(report.versions.values())
    yield f"medians; {report.rounds} rounds, load of {report.seconds:g} s; workers (nginx, mirror): {report.workers}"
    if report.small:
        yield "SMALL FORM: sizes are not those of the targets. It shows that the benchmark works, and no more."
    table = Table(report.figures)
    yield from _section(f"{RATE}, 16 connections", _by_column(report, table, RATE))
    yield from _section(f"the same, times {LIMIT}", _ratios(report, table, RATE, [LIMIT]))
    yield from _section("the mirror's answers a second, times the peers'", _ratios_of_ours(report, table))
    yield from _section(f"{CPU}, of the server's process tree", _by_column(report, table, CPU))
    yield from _section(f"{WRK}: near 1 it is wrk that was measured", _by_column(report, table, WRK))
    yield from _section("seconds", _by_column(report, table, SECONDS))
    yield from _section(f"the same, times {LIMIT}", _ratios(report, table, SECONDS, [LIMIT]))
    yield from first_builds(report, table)
    for what in NODES:
        yield from _section(f"nodes: {what}", _by_column(report, table, what))
        yield from _section(f"the same, times {EMBEDDED}", _ratios(report, table, what, [EMBEDDED]))
    yield from _section(f"{OPERATIONS} of an index", _by_column(report, table, OPERATIONS))
    yield from _section("the same, times SQLite", _ratios(report, table, OPERATIONS, ["SQLite"]))
    yield from _section("the rest", list(_rest(report)))
    yield from _section("memory of the process tree, MB", list(_memory(report)))
    yield from _section("targets", list(_verdicts(report)))
    if report.notes:
        yield from ("", "NOTES", *report.notes)


def first_builds(report: Report, table: Table) -> Iterator[str]:
    """Write what was measured of first builds."""
    yield from _section(FIRST_BUILD, _by_column(report, table, FIRST_BUILD))
    yield from _section(f"the same, times {STRAIGHT}", _ratios(report, table, FIRST_BUILD, [STRAIGHT]))
    for what in (SERVER_CPU, METADATA, UPSTREAM, LINK):
        yield from _section(f"{what}, in first builds", _by_column(report, table, what))


def _section(title: str, rows: list[list[str]]) -> list[str]:
    """A title and its rows; nothing if there are no rows but the head."""
    return ["", title, *columns(rows)] if len(rows) > 1 else []


def _by_column(report: Report, table: Table, what: str) -> list[list[str]]:
    used = _used(table, what)
    rows = [[_title(report, work), *(number(table.get(work, what, c)) for c in used)] for work in table.works(what)]
    return [["", *used], *rows]


def _used(table: Table, what: str) -> list[str]:
    """The columns of which this was measured."""
    works = table.works(what)
    return [column for column in table.columns if any(table.get(work, what, column) is not None for work in works)]


def _ratios(report: Report, table: Table, what: str, others: list[str]) -> list[list[str]]:
    used = _used(table, what)
    rows = [
        [_title(report, work), *(number(table.ratio(work, what, column, other)) for column in used)]
        for work in table.works(what)
        for other in others
        if table.get(work, what, other) is not None
    ]
    return [["", *used], *rows]


def _ratios_of_ours(report: Report, table: Table) -> list[list[str]]:
    peers = [column for column in table.columns if column in (CACHE, "proxpi", "devpi")]
    rows = [
        [f"{_title(report, work)}, {ours}", *(number(table.ratio(work, RATE, ours, peer)) for peer in peers)]
        for work in table.works(RATE)
        for ours in OURS
        if table.get(work, RATE, ours) is not None
    ]
    return [["", *peers], *rows] if peers else []


def _rest(report: Report) -> Iterator[list[str]]:
    yield ["", "", "", "median", "least", "most"]
    for found in report.figures:
        if found.what not in _TABLES:
            values = (found.median, min(found.values), max(found.values))
            yield [_title(report, found.work), found.what, found.column, *map(number, values)]


def _memory(report: Report) -> Iterator[list[str]]:
    yield ["", "", PSS, RSS]
    table = Table(report.figures)
    for found in report.figures:
        if found.what == PSS:
            yield [
                found.column, found.work.removeprefix("memory, "), number(found.median),
                number(table.get(found.work, RSS, found.column)),
            ]  # fmt: skip


def _verdicts(report: Report) -> Iterator[list[str]]:
    yield ["", "target", "measured", ""]
    for target in report.targets:
        if target.measured is None:
            continue
        limit = f"{'at least' if target.least else 'at most'} {number(target.limit)}"
        met = "met" if target.met else "MISSED"
        yield [target.text, limit, number(target.measured), "not judged" if report.small else met]
    if left := [target for target in report.targets if target.measured is None]:
        yield [f"not measured: {len(left)} of {len(report.targets)}", "", "", ""]


def _title(report: Report, work: str) -> str:
    return report.titles.get(work, work)


def number(value: float | None) -> str:
    """Write a number with three digits that count; a dash for none."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Set rows in columns, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if column else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
