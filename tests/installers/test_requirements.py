"""What METADATA requires in an environment, whatever is written in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypi_adapter.installers.environment import read_environment
from pypi_adapter.installers.requirements import CLAUSES, HEAD, LINES, MAX_LINE, REQUIRED, needs
from tests.support.agents import agent

HERE = read_environment(agent())


def required(*lines: str, extras: tuple[str, ...] = ()) -> list[tuple[str, str, set[str]]]:
    """What METADATA with these lines requires."""
    assert HERE is not None
    text = "\n".join(["Metadata-Version: 2.1", "Name: demo", *(f"Requires-Dist: {line}" for line in lines), "", "text"])
    return [(name, str(specifiers), set(extras)) for name, specifiers, extras in needs(text.encode(), HERE, extras)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("one", ("one", "", set())),
        ("One.Two_Three (>=1,<2)", ("one-two-three", "<2,>=1", set())),
        ("one[b,A_x]>=1", ("one", ">=1", {"a-x", "b"})),
        ('one; python_version >= "3.9"', ("one", "", set())),
        ('one; python_version < "3.9"', None),
        ('one; sys_platform == "win32"', None),
        ('one; sys_platform == "linux" and platform_machine == "x86_64"', ("one", "", set())),
        ('one; implementation_name == "cpython"', ("one", "", set())),
        ('one; extra == "test"', None),
        ('one ; python_version > "3" and extra=="test"', None),
        ("one @ https://host.example/one-1.0-py3-none-any.whl", None),
        ('one; python_version < "not a version"', None),
        ('one; nonsense == "x"', None),
        ("one >= nonsense", None),
        ("-one", None),
        ("", None),
        ("one\u0000", None),
        ("../../etc/passwd", None),
        ("ünïcode", None),
        ("(" * 900, None),
        ("one>=" + "9" * (MAX_LINE + 1), None),
        ("one" + ",".join(f">={number}" for number in range(CLAUSES + 1)), None),
    ],
)
def test_lines(line: str, expected: tuple[str, str, set[str]] | None) -> None:
    assert required(line, "last") == [*([expected] if expected else []), ("last", "", set())]


def test_extras() -> None:
    lines = ["one", 'two; extra == "a"', 'three; extra == "b"']
    assert [name for name, _, _ in required(*lines)] == ["one"]
    assert [name for name, _, _ in required(*lines, extras=("a",))] == ["one", "two"]
    assert [name for name, _, _ in required(*lines, extras=("a", "b"))] == ["one", "two", "three"]


def test_the_description_is_not_read() -> None:
    assert HERE is not None
    for end in (b"\n\n", b"\r\n\r\n"):
        found = needs(b"Requires-Dist: one" + end + b"Requires-Dist: two\n", HERE)
        assert [need.project for need in found] == ["one"]


def test_there_is_an_end_of_it() -> None:
    assert len(required(*(f"p{number}" for number in range(10_000)))) == REQUIRED
    assert len(required(*['one; python_version < "3"'] * LINES, "last")) == 0
    assert HERE is not None
    assert needs(b"Summary: " + b"x" * HEAD + b"\nRequires-Dist: one\n", HERE) == []


@given(st.binary())
def test_bytes(body: bytes) -> None:
    assert HERE is not None
    needs(body, HERE)
    needs(b"Requires-Dist: " + body, HERE, ["a"])
