"""What a `User-Agent` says of the Python that an installer installs for: markers, and the wheels that it can use."""

from __future__ import annotations

import platform
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import default_environment
from packaging.tags import sys_tags

from pypi_adapter.installers.environment import MAX_AGENT, Environment, read_environment
from tests.support.agents import agent

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.sampled_from(["3.9", "3.1.0rc1", "musl"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["name", "version", "libc", "lib"]), inner, max_size=3)
    ),
    max_leaves=5,
)


def here() -> Environment:
    """The environment of the Python that runs this test, as pip would tell it."""
    lib, version = platform.libc_ver()
    told: dict[str, Any] = {
        "python": platform.python_version(),
        "implementation": {"name": platform.python_implementation(), "version": platform.python_version()},
        "cpu": platform.machine(),
        "system": {"name": platform.system(), "release": platform.release()},
        "distro": {"libc": {"lib": lib, "version": version}},
    }
    found = read_environment(agent(**told))
    assert found is not None
    return found


@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc" or sys.implementation.name != "cpython",
    reason="CPython on Linux with glibc",
)
def test_this_machine_is_told_as_packaging_sees_it() -> None:
    found = here()
    tags = [str(tag) for tag in sys_tags()]
    assert list(found.ranks) == list(dict.fromkeys(tags))
    expected = {name: str(value) for name, value in default_environment().items()}
    unknown = {"platform_release", "platform_version"}
    assert {name: value for name, value in found.markers.items() if name not in unknown} == {
        name: value for name, value in expected.items() if name not in unknown
    }


@pytest.mark.parametrize(
    ("told", "usable", "useless"),
    [
        ({}, "cp312-cp312-manylinux_2_17_x86_64", "cp312-cp312-manylinux_2_38_x86_64"),
        ({}, "cp38-abi3-manylinux2014_x86_64", "cp313-cp313-manylinux2014_x86_64"),
        ({"python": "3.8.2"}, "cp38-cp38-manylinux1_x86_64", "cp38-cp38m-manylinux1_x86_64"),
        ({"python": "3.7.9"}, "cp37-cp37m-manylinux1_x86_64", "cp37-cp37-manylinux1_x86_64"),
        ({"python": "3.6.8"}, "cp36-cp36m-manylinux2010_x86_64", "cp37-cp37m-manylinux1_x86_64"),
        ({"cpu": "aarch64"}, "cp312-cp312-manylinux_2_17_aarch64", "cp312-cp312-manylinux_2_17_x86_64"),
        ({"cpu": "aarch64"}, "py3-none-any", "cp312-cp312-manylinux_2_12_aarch64"),
        (
            {"distro": {"libc": {"lib": "musl", "version": "1.2.4"}}},
            "cp312-cp312-musllinux_1_1_x86_64",
            "cp312-cp312-manylinux_2_17_x86_64",
        ),
        ({"distro": None}, "cp312-cp312-manylinux_2_17_x86_64", "cp312-cp312-manylinux_2_28_x86_64"),
        (
            {"system": {"name": "Darwin"}, "cpu": "arm64", "distro": {"name": "macOS", "version": "14.5"}},
            "cp312-cp312-macosx_11_0_universal2",
            "cp312-cp312-macosx_11_0_x86_64",
        ),
        ({"system": {"name": "Windows"}, "cpu": "AMD64"}, "cp312-cp312-win_amd64", "cp312-cp312-win32"),
        (
            {"implementation": {"name": "PyPy", "version": "7.3"}, "python": "3.10.14"},
            "py3-none-any",
            "cp310-cp310-manylinux2014_x86_64",
        ),
    ],
)
def test_wheels_that_can_be_used(told: dict[str, Any], usable: str, useless: str) -> None:
    found = read_environment(agent(**told))
    assert found is not None
    assert usable in found.ranks
    assert useless not in found.ranks
    assert "py3-none-any" in found.ranks
    assert found.ranks.get("cp312-cp312-linux_x86_64", 0) < found.ranks["py3-none-any"]


@pytest.mark.parametrize("installer", ["pip/26.3", "pip/20.2.4", "uv/0.13.9"])
def test_installers_that_say_it(installer: str) -> None:
    found = read_environment(agent(installer))
    assert found is not None
    assert found.markers["python_version"] == "3.12"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "curl/8.1",
        "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        "poetry/2.1.1 CPython/3.12.4 Linux/6.1.0",
        "pip/26.3",
        "pip/26.3 {}",
        "pip/26.3 []",
        "pip/26.3 {",
        "pip/26.3 " + "[" * 1000,
        agent("devpi/6"),
        agent(python="2.7.18"),
        agent(python="4.0"),
        agent(python="3"),
        agent(python="3." + "1" * 500),
        agent(python=3.12),
        agent(system={"name": "Haiku"}),
        agent(system={"name": ["Linux"]}),
        agent(system=None),
        agent(cpu=None),
        agent(cpu="x86_64-any.whl\n"),
        agent(cpu="x" * 100),
        agent(implementation={"name": "C Python"}),
        agent(ci="x" * MAX_AGENT),
    ],
)
def test_what_tells_of_no_environment(text: str) -> None:
    assert read_environment(text) is None


@given(st.dictionaries(st.sampled_from(["cpu", "distro", "implementation", "python", "system"]), JSON))
def test_nothing_that_can_be_said_is_an_error(told: dict[str, Any]) -> None:
    found = read_environment(agent(**told))
    if found is not None:
        assert "py3-none-any" in found.ranks
        assert found.markers
