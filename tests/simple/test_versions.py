"""Versions are compared as `packaging` compares them (PEP 440), most of them without being parsed by it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import InvalidVersion, Version

from pypi_adapter.simple.versions import by_version, file_version, versions_of

numbers = st.sampled_from(["0", "00", "1", "01", "2", "10", "9" * 17, "9" * 18, "9" * 19])
spelled = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "", "", "", "v", "0!", "1!", "x"]),
        st.lists(numbers, min_size=1, max_size=4).map(".".join),
        st.sampled_from(["", "", "", "a1", "a0", ".b1", "-rc2", "rc10", "c2"]),
        st.sampled_from(["", "", "", ".post0", ".post1", "-1", "_1"]),
        st.sampled_from(["", "", "", ".dev0", ".dev1", "dev"]),
        st.sampled_from(["", "", "", "+1", "+01", "+a", "+10.b", "+a.b", "+A_b", "+1.0", "+"]),
    ),
)


def parsed(text: str) -> Version | None:
    try:
        return Version(text.replace("_", "-"))
    except InvalidVersion:
        return None


def slowly(text: str) -> tuple[bool, Version, str]:
    version = parsed(text)
    return version is None, version or Version("0"), text


@given(st.lists(spelled | st.text(max_size=4), max_size=8))
def test_the_order(texts: list[str]) -> None:
    assert sorted(texts, key=by_version) == sorted(texts, key=slowly)


@given(spelled, st.lists(spelled, max_size=5))
def test_the_spelling_of_the_page(text: str, listed: list[str]) -> None:
    """The last of the listed versions that are equal to the one in the name, else the version in its normal form."""
    version = parsed(text)
    equal = [other for other in listed if other == text or (version is not None and version == parsed(other))]
    name = f"a-{text.replace('-', '_')}-py3-none-any.whl"
    within = [other for other in listed if not equal and f"-{other.replace('_', '-')}" in name.replace("_", "-")]
    if within:
        return  # a listed version that is only a part of the name
    expected = equal[-1] if equal else None if version is None else str(version)
    assert file_version(name, listed) == expected
    assert list(versions_of([name], listed)) == [expected]


@pytest.mark.parametrize("ending", [".whl", ".WHL", ".tar.gz", ".zip", ".TAR.GZ", ".tar", ".egg", ""])
def test_the_version_in_a_name(ending: str) -> None:
    middle = "-py3-none-any" if ending.lower() == ".whl" else ""
    assert file_version(f"a_b-1.0{middle}{ending}", ["1", "2.0"]) == "1"
