"""The lines of keys in TOML documents, of every form in which a key can be written."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from httpcache.toml_lines import Place, lines
from tests.support.examples import examples


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Every key and element of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield (*place, key)
        yield from places(each, (*place, key))


@pytest.mark.parametrize(
    ("text", "place", "line"),
    [
        ("a = 1", ("a",), 1),
        ("# a\n\n  a = 1", ("a",), 3),
        ("a = 1\r\nb = 2\r\n", ("b",), 2),
        ("a.b.c = 1\na.d = 2", ("a", "d"), 2),
        ("a . 'b' . \"c\" = 1", ("a", "b", "c"), 1),
        ('x = 1\n"a = b" = 2', ("a = b",), 2),
        ('x = 1\n"a\\"\\u00e9" = 2', ('a"é',), 2),
        ("x = 1\n'a\"' = 2", ('a"',), 2),
        ("a = '''\nb = 1\n'''\nb = 2", ("b",), 4),
        ('a = """\nb = "1" \\"""\nb = 1"""\nb = 2', ("b",), 4),
        ('a = """"two""""\nb = 2', ("b",), 2),
        ("a = ''\nb = '#'\nc = 1", ("c",), 3),
        ("a = [\n 1, # ]\n 2,\n]\nb = 1", ("a", 1), 3),
        ("a = [\n 1, # ]\n 2,\n]\nb = 1", ("b",), 5),
        ("a = [[1], [\n2]]", ("a", 1, 0), 2),
        ("a = [\n{b = 1, c.d = ']'},\n{b = 2}]", ("a", 1, "b"), 3),
        ("a = {b = {c = '}'}, d = 1}\ne = 1", ("a", "b", "c"), 1),
        ("a = {}\nb = []\nc = 1", ("c",), 3),
        ("[a]\nb = 1\n[c]\nb = 2", ("c", "b"), 4),
        ("[ a . 'b c' ]\nd = 1", ("a", "b c", "d"), 2),
        ("[a.b]\n[a]\nc = 1", ("a", "c"), 3),
        ("[[a]]\nb = 1\n[[a]]\nb = 2", ("a", 1, "b"), 4),
        ("[[a]]\n\n[[a]]", ("a", 1), 3),
        ("[[a]]\n[a.b]\nc = 1\n[[a]]\n[a.b]\nc = 2", ("a", 1, "b", "c"), 6),
        ("[[a]]\n[[a.b]]\n[[a.b]]\nc = 1\n[[a]]\n[[a.b]]\nc = 1", ("a", 0, "b", 1, "c"), 4),
        ("[[a]]\n[[a.b]]\n[[a.b]]\nc = 1\n[[a]]\n[[a.b]]\nc = 1", ("a", 1, "b", 0, "c"), 7),
        ("a = 1979-05-27 07:32:00\nb = +inf # c\nc = 1e-9\nd = true", ("d",), 4),
    ],
)
def test_the_line_of_a_key(text: str, place: Place, line: int) -> None:
    found = lines(text)
    assert found[place] == line
    assert set(found) == set(places(tomllib.loads(text)))


KEYS = st.sampled_from(["a", "b-c", "'d.e'", '"f\\n"', '"#"', "''", "1"])
SCALARS = st.sampled_from(
    [
        "1",
        "-1.5",
        "true",
        "'x'",
        '"["',
        '"\\""',
        '"""\n]\n"""',
        "'''\n#'''",
        "1979-05-27",
        "07:32:00",
        "inf",
        "''",
        '""',
    ]
)
GAPS = st.sampled_from(["", " ", "\n", " # ]\n", "\n\n"])


def _array(items: list[tuple[str, str]]) -> str:
    return "[" + "".join(f"{gap}{item}," for gap, item in items) + "\n]"


def _table(items: list[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{key} = {value}" for key, value in items) + "}"


VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(st.tuples(GAPS, inner), max_size=3).map(_array)
        | st.lists(st.tuples(KEYS, inner), max_size=2, unique_by=lambda pair: pair[0]).map(_table)
    ),
    max_leaves=6,
)
DOTTED = st.lists(KEYS, min_size=1, max_size=3).map(" . ".join)
PAIRS = st.builds("{} = {}".format, DOTTED, VALUES)
HEADERS = DOTTED.map("[{}]".format) | DOTTED.map("[[{}]]".format)
DOCUMENTS = st.lists(PAIRS | HEADERS | st.just("# [x]") | st.just(""), max_size=10)


@settings(max_examples=examples(500))
@given(DOCUMENTS)
def test_the_places_are_those_of_tomllib(rows: list[str]) -> None:
    """Whatever the document; and a row's key is not before its row."""
    text = "\n".join(rows)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    found = lines(text)
    assert set(found) == set(places(document))
    assert all(1 <= line <= text.count("\n") + 1 for line in found.values())
