"""Generates the registry's files: index pages as PyPI writes them, real wheels with their metadata, large files.

    folder/pages/<site>/simple/<project>/index.json, index.html    PEP 691 and PEP 503, the links lead to that site
    folder/packages/ab/cd/<rest of the sha256>/<file name>         wheels, and their metadata with `.metadata` behind
    folder/big/<name>                                              files for downloads

The pages of all sites are the same but for the port in the links, and so have the same length. A page has what PyPI's
JSON has (PEP 700, PEP 714, provenance, api-version 1.4), releases with one sdist and up to thirty wheels, and upload
times over twelve years. On the three large pages only the names are real: nothing asks for those files. The projects
`wheel-*` have one wheel each. `graph-*` can be installed: all files that a Linux machine would choose are there, in
each version; sdists and the wheels of other systems are listed and absent. All follows from fixed seeds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from tests.support.packages import Dist, wheel

from . import cold_sets
from .pages import (
    FIRST,
    GB,
    KB,
    LAST,
    MB,
    ORIGIN,
    Listed,
    absent,
    html_list,
    html_page,
    json_list,
    json_page,
    present,
    timestamp,
)

TOP: Final = 10
"""How many of the graph's projects a user asks for; the others are needed by these."""
VERSIONS: Final = 24
"""Of each project of the graph."""
_PLATFORMS: Final = (
    "win32", "win_amd64", "win_arm64", "macosx_10_9_x86_64", "macosx_11_0_arm64",
)  # fmt: skip
_LINUX: Final = (
    "manylinux_2_17_x86_64.manylinux2014_x86_64", "manylinux_2_17_aarch64.manylinux2014_aarch64",
    "musllinux_1_2_x86_64",
)  # fmt: skip
_PYTHONS: Final = ("cp310", "cp311", "cp312", "cp313")


@dataclass(frozen=True)
class Sizes:
    """How much of everything a run has: bytes, numbers of things, and the sets of first builds."""

    pages: Mapping[str, int]
    wheels: Mapping[str, int]
    first_fetch: int
    large: int
    crowd_file: int
    crowd: int
    graph: int
    records: int
    indexed: int
    nodes: int
    sets: Sequence[cold_sets.Set]


FULL: Final = Sizes(
    pages={"page-20k": 20 * KB, "page-500k": 500 * KB, "page-7m": 7 * MB},
    wheels={"wheel-50k": 50 * KB, "wheel-1m": MB, "wheel-100m": 100 * MB},
    first_fetch=GB,
    large=4 * GB,
    crowd_file=200 * MB,
    crowd=200,
    graph=130,
    records=1_000_000,
    indexed=100_000,
    nodes=200,
    sets=cold_sets.SETS,
)
SMALL: Final = Sizes(
    pages={"page-20k": 20 * KB, "page-500k": 100 * KB, "page-7m": 500 * KB},
    wheels={"wheel-50k": 50 * KB, "wheel-1m": 200 * KB, "wheel-100m": 5 * MB},
    first_fetch=50 * MB,
    large=200 * MB,
    crowd_file=5 * MB,
    crowd=40,
    graph=30,
    records=10_000,
    indexed=10_000,
    nodes=40,
    sets=cold_sets.SMALL,
)


class Replica:
    """The files of the registry, below `folder`; `sites` has an origin for each site's links."""

    def __init__(self, folder: Path, sites: Mapping[str, str], sizes: Sizes) -> None:
        self.folder = folder
        self.sites = dict(sites)
        self.sizes = sizes
        self.wheels: dict[str, Dist] = {}
        """By project: the one wheel that is measured."""
        self._names: list[str] = []

    def generate(self) -> None:
        """Write all pages and wheels."""
        for name, size in self.sizes.pages.items():
            self._page(name, _pretended(name, size))
        for name, size in self.sizes.wheels.items():
            dist = wheel(name, "1.0", padding=size - 1_000)  # the rest is in the order of a thousand bytes
            self.wheels[name] = dist
            self._page(name, [present(self.folder, dist, LAST)])
        for name, dists in graph(self.sizes.graph):
            self._page(name, list(self._releases(dists)))
        self._write(".", json_list(self._names), html_list(self._names))

    def big(self, name: str, size: int, *, sparse: bool = False) -> Path:
        """Write a file for downloads, of random bytes or of zeros that take no room."""
        path = self.folder / "big" / name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            if sparse:
                file.truncate(size)
            else:
                block = random.Random(name).randbytes(min(size, 64 * MB))
                for start in range(0, size, len(block)):
                    file.write(block[: size - start])
        return path

    def top(self) -> list[str]:
        """What a user of the graph asks for."""
        return [_graph_name(number) for number in range(min(TOP, self.sizes.graph))]

    def _releases(self, dists: list[Dist]) -> Iterator[Listed]:
        """Yield the files of a project of the graph: each wheel, with an sdist and wheels of other systems."""
        draw = random.Random(dists[0].name)
        pythons = _PYTHONS if draw.random() < 0.25 else ()
        span = (LAST - FIRST) / len(dists)
        for number, dist in enumerate(dists):
            uploaded = FIRST + span * number
            yield present(self.folder, dist, uploaded)
            module = dist.filename.partition("-")[0]
            others = [f"{module}-{dist.version}-{p}-{p}-{system}.whl" for p in pythons for system in _PLATFORMS]
            for name in (*others, f"{module}-{dist.version}.tar.gz"):
                yield absent(name, draw, uploaded)

    def _page(self, name: str, files: list[Listed]) -> None:
        self._names.append(name)
        self._write(name, json_page(name, files), html_page(name, files))

    def _write(self, name: str, page: bytes, html: bytes) -> None:
        for site, origin in self.sites.items():
            assert len(origin) == len(ORIGIN), origin
            folder = self.folder / "pages" / site / "simple" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "index.json").write_bytes(page.replace(ORIGIN, origin.encode()))
            (folder / "index.html").write_bytes(html.replace(ORIGIN, origin.encode()))


def graph(count: int) -> Iterator[tuple[str, list[Dist]]]:
    """Yield the graph's projects with their wheels, oldest first.

    Project n needs 3n+1 to 3n+3, so the first few need all, and up to three others behind it. Some allow no newest
    version, so a resolver that looks at the newest first has to look further.
    """
    for number in range(count):
        draw = random.Random(f"graph {number}")
        needs = [other for other in range(3 * number + 1, 3 * number + 4) if other < count]
        behind = range(number + 1, count)
        needs += [other for other in draw.sample(behind, min(3, len(behind))) if other not in needs]
        capped = {other for other in needs if other % 7 == 0}
        name, padding = _graph_name(number), draw.randrange(5 * KB, 100 * KB)
        yield (
            name,
            [
                wheel(
                    name,
                    f"1.{version}",
                    [_requirement(other, version, capped) for other in needs],
                    requires_python=">=3.8",
                    padding=padding if version >= VERSIONS - 5 else 0,
                )
                for version in range(VERSIONS)
            ],
        )


def _graph_name(number: int) -> str:
    return f"graph-{number:03}"


def _requirement(other: int, version: int, capped: set[int]) -> str:
    cap = f",<1.{VERSIONS - 2}" if other in capped else ",<2"
    return f"{_graph_name(other)}>=1.{version // 2}{cap}"


def _pretended(name: str, size: int) -> list[Listed]:
    """Return entries whose page is `size` bytes of JSON, give or take an entry."""
    draw, files, length = random.Random(name), [], 200
    module = name.replace("-", "_")
    wheels = _PYTHONS if size > 50 * KB else ()
    for release in range(size):
        version = f"{release // 100}.{release // 10 % 10}.{release % 10}"
        tags = [f"{python}-{python}-{platform}" for python in wheels for platform in (*_LINUX, *_PLATFORMS)]
        names = [f"{module}-{version}-{tag}.whl" for tag in tags or ["py3-none-any"]]
        for filename in (*names, f"{module}-{version}.tar.gz"):
            files.append(absent(filename, draw, FIRST))
            length += len(msgspec.json.encode(files[-1])) + 1
            if length >= size:
                return _spread(files)
        length += len(version) + 3
    return files


def _spread(files: list[Listed]) -> list[Listed]:
    """Give files upload times over all the years, in their order."""
    span = (LAST - FIRST) / len(files)
    for number, file in enumerate(files):
        file.upload_time = timestamp(FIRST + span * number)
    return files
