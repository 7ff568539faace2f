"""METADATA out of the end of a wheel, as zipfile reads it out of the whole."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from httpcache.errors import BadUpstream
from pypi_adapter.registry import wheel_metadata
from pypi_adapter.registry.wheel_metadata import NEAR, TAIL, ZIP_ERRORS
from tests.support.examples import examples

FILENAME = "thing-1.0-py3-none-any.whl"
OWN = "thing-1.0.dist-info/METADATA"
TEXT = b"Metadata-Version: 2.1\nName: thing\n"
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
many = partial(settings, deadline=None, suppress_health_check=list(HealthCheck), database=None)


class Unseekable(io.RawIOBase):
    """A file to which zipfile writes members with data descriptors behind them."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.data += bytes(data)  # type: ignore[call-overload]
        return len(bytes(data))  # type: ignore[call-overload]


@dataclass
class Made:
    """A wheel: members in order, each with a name, contents, a method, and whether it is in the form of ZIP64."""

    members: list[tuple[str, bytes, int, bool]] = field(default_factory=list)
    comment: bytes = b""
    in_front: bytes = b""
    descriptors: bool = False
    extra: bytes = b""

    def data(self) -> bytes:
        file = Unseekable() if self.descriptors else io.BytesIO()
        with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as wheel:
            warnings.simplefilter("ignore")  # of names that are there twice
            for name, contents, method, zip64 in self.members:
                info = zipfile.ZipInfo(name)
                info.compress_type, info.extra = method, self.extra
                with wheel.open(info, "w", force_zip64=zip64) as member:
                    member.write(contents)
            wheel.comment = self.comment
        return self.in_front + bytes(file.data if isinstance(file, Unseekable) else file.getvalue())


def ours(data: bytes, asked: list[tuple[int, int]] | None = None) -> bytes | None:
    """What is read by ranges, of which all but the first are noted in `asked`; None if it is an error."""

    async def more(start: int, stop: int) -> bytes:
        assert 0 <= start < stop <= len(data)
        if asked is not None:
            asked.append((start, stop))
        return data[start:stop]

    try:
        return anyio.run(wheel_metadata._metadata, wheel_metadata._End(len(data), data[-TAIL:], more), FILENAME)
    except BadUpstream:
        return None


def by_zipfile(data: bytes) -> bytes | None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as wheel:
            return wheel.read(wheel_metadata._metadata_name(wheel.namelist(), FILENAME))
    except (BadUpstream, *ZIP_ERRORS):
        return None


NAMES = st.one_of(
    st.sampled_from(
        [OWN, "other-1.0.dist-info/METADATA", "a/thing-1.0.dist-info/METADATA", "thing.dist-info/METADATA"]
    ),
    st.builds("{}{}".format, st.text("ab./-é¥\0", max_size=6), st.sampled_from(["", ".dist-info/METADATA", OWN])),
    st.text(min_size=1, max_size=30).filter(lambda name: name.encode("utf-8", "ignore").decode() == name),
)
BODIES = st.one_of(st.just(TEXT), st.binary(max_size=50), st.sampled_from([1000, 70_000, NEAR]).map(bytes))
MEMBERS = st.tuples(NAMES, BODIES, st.sampled_from(METHODS), st.booleans())
OWNS = st.tuples(st.just(OWN), BODIES, st.sampled_from(METHODS), st.booleans())
WHEELS = st.builds(
    Made,
    st.lists(MEMBERS | OWNS, max_size=6) | st.permutations([(OWN, TEXT, 8, False), ("a", bytes(TAIL), 0, False)]),
    st.binary(max_size=30) | st.just(b"PK\x05\x06" * 3) | st.just(bytes(65_535)),
    st.sampled_from([b"", b"#!", bytes(TAIL), b"PK\x01\x02" * 20]),
    st.booleans(),
    st.sampled_from([b"", struct.pack("<HHL", 0x5455, 4, 7), struct.pack("<HH", 0x1234, 5000) + bytes(5000)]),
)


@many(max_examples=examples(200))
@given(WHEELS)
def test_what_zipfile_reads(made: Made) -> None:
    data = made.data()
    assert ours(data) == by_zipfile(data)


FIELDS = [b"\x00\x00", b"\xff\xff", b"\xff\xff\xff\xff", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07",
          OWN.encode(), b"\x00\x08", b"\x01", b"\x40", b"\x63\x00"]  # fmt: skip


@many(max_examples=examples(500))
@given(WHEELS, st.lists(st.tuples(st.integers(1, 700), st.sampled_from(FIELDS) | st.binary(max_size=8)), max_size=4))
def test_what_zipfile_reads_of_damaged_wheels(made: Made, changes: list[tuple[int, bytes]]) -> None:
    """What zipfile reads is read, and nothing else in its place; what it refuses for another member may be read."""
    data = bytearray(made.data())
    for place, new in changes:
        at = max(0, len(data) - len(made.comment) - place)
        data[at : at + len(new)] = new
    expected = by_zipfile(bytes(data))
    assert expected is None or ours(bytes(data)) == expected


def plain(*names: str, size: int = 0) -> Made:
    return Made([(name, bytes(size) if name != OWN else TEXT, zipfile.ZIP_STORED, False) for name in names])


FILES = [f"thing/files/number-{number:05}.py" for number in range(6000)]
RANGES: dict[str, tuple[Made, int]] = {
    "all in the last bytes": (plain("a", OWN), 0),
    "METADATA elsewhere": (plain(OWN, "a", size=TAIL), 1),
    "a long directory, METADATA before it": (plain(*FILES, OWN), 1),
    "a long directory, METADATA elsewhere": (plain(OWN, "a", *FILES, size=NEAR // 100), 2),
    "a long directory, something in front": (Made([*plain(*FILES, OWN).members], in_front=bytes(1000)), 1),
    "a long local header": (Made([*plain(OWN, "a", size=TAIL).members], extra=struct.pack("<HH", 1, 9) + bytes(9)), 1),
}


@pytest.mark.parametrize("kind", RANGES)
def test_how_often_more_is_read(kind: str) -> None:
    made, times = RANGES[kind]
    asked: list[tuple[int, int]] = []
    data = made.data()
    assert ours(data, asked) == TEXT
    assert len(asked) == times
    read = sorted([*asked, (max(0, len(data) - TAIL), len(data))])
    assert all(stop <= start for (_, stop), (start, _) in pairwise(read)), "no bytes are read twice"
