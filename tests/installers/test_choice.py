"""The version and the wheel that an installer takes, by the rules of `packaging`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from pypi_adapter.installers.choice import EXAMINED, best_wheel, newest, releases
from pypi_adapter.installers.environment import Environment, read_environment
from pypi_adapter.simple.model import File, Page
from tests.support.agents import agent
from tests.support.examples import examples


def environment() -> Environment:
    """CPython 3.12 on Linux."""
    found = read_environment(agent())
    assert found is not None
    return found


HERE = environment()
TAGS = (
    "py3-none-any",
    "py2.py3-none-any",
    "cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64",
    "cp312-cp312-manylinux_2_28_x86_64",
    "cp38-abi3-manylinux_2_17_x86_64",
    "cp312-cp312-win_amd64",
    "cp311-cp311-manylinux_2_17_x86_64",
)
VERSIONS = ("1.0", "1.1", "1.1.post1", "1.2a1", "1.2rc1", "1.2.dev3", "2.0", "2.0+local", "2!0.1", "10.0", "9.0")


def file(filename: str, requires_python: str | None = None, *, yanked: bool | str = False) -> File:
    """A file on a page."""
    return File(filename, "", {}, requires_python, yanked=yanked)


def wheel(version: str, tag: str = TAGS[0], build: str = "") -> str:
    """The name of a wheel."""
    return f"demo-{version}-{build}{'-' if build else ''}{tag}.whl"


def chosen(files: Sequence[File], specifiers: str) -> Version | None:
    """The version that is chosen of a page."""
    found = newest(releases(Page("demo", tuple(files))), HERE, [SpecifierSet(specifiers), SpecifierSet()])
    return next((version for version, _ in found), None)


@settings(max_examples=examples(500))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(VERSIONS),
            st.sampled_from(TAGS),
            st.booleans(),
            st.sampled_from(["", ">=3.13", "<4", "nonsense"]),
        )
    ),
    st.sampled_from(
        ["", ">=1.1", "<2", "==1.1", ">1.2a0", "!=2.0", ">=1.2.dev1,<2", "==2.0+local", "~=1.1", ">99", "===1.1"]
    ),
)
def test_the_version_is_the_newest_that_packaging_allows(
    listed: list[tuple[str, str, bool, str]], specifiers: str
) -> None:
    files = [file(wheel(version, tag), python or None, yanked=yanked) for version, tag, yanked, python in listed]
    usable = [
        Version(version)
        for version, tag, yanked, python in listed
        if not yanked and python != ">=3.13" and TAGS.index(tag) not in (5, 6)
    ]
    assert chosen(files, specifiers) == max(SpecifierSet(specifiers).filter(usable), default=None)


@settings(max_examples=examples(300))
@given(st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(["", "1", "2", "10", "10b"])), unique=True))
def test_the_wheel_has_the_best_tag(listed: list[tuple[str, str]]) -> None:
    names = [wheel("1.0", tag, build) for tag, build in listed]
    order = {tag: place for place, tag in enumerate(Tag(*text.split("-")) for text in HERE.ranks)}

    def key(name: str) -> tuple[int, tuple[int, str] | tuple[()]]:
        _, _, build, tags = parse_wheel_filename(name)
        return -min(order[tag] for tag in tags if tag in order), build

    usable = [name for name in names if set(parse_wheel_filename(name)[3]) & order.keys()]
    found = best_wheel(map(file, names), HERE)
    assert (found and key(found.filename)) == (max(map(key, usable)) if usable else None)


@pytest.mark.parametrize(
    "filename",
    [
        "demo-1.0.tar.gz",
        "demo.whl",
        "-.whl",
        "demo-1.0-py3-none.whl",
        "demo-1.0-1-2-py3-none-any.whl",
        "demo-1.0-py3-none-any.whl.metadata",
        "demo-one-py3-none-any.whl",
        f"demo-{'9' * 5000}-py3-none-any.whl",
        f"demo-1.0-{'.'.join('abcdefgh' * 20)}-{'.'.join('abcdefgh' * 20)}-{'.'.join('abcdefgh' * 20)}.whl",
    ],
)
def test_files_that_cannot_be_chosen(filename: str) -> None:
    assert chosen([file(filename)], "") is None
    assert chosen([file(filename), file(wheel("0.1"))], "") == Version("0.1")


def test_only_the_newest_versions_are_examined() -> None:
    files = [file(wheel(f"{number}.0")) for number in range(EXAMINED + 10)]
    assert chosen(files, "<10") == Version("9.0") if EXAMINED > 1000 else chosen(files, "<10") is None
    assert chosen(files, f"<{EXAMINED}") == Version(f"{EXAMINED - 1}.0")


def test_what_is_withheld_is_passed_over() -> None:
    files = [file(wheel("1.0")), file(wheel("2.0"))]
    found = newest(releases(Page("demo", tuple(files))), HERE, [], lambda each: "2.0" not in each.filename)
    assert [str(version) for version, _ in found] == ["1.0"]
