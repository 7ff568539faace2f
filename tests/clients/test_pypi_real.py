"""The promises that only the real PyPI can keep or break: what a date gives is what PyPI had then."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from tests.support.clients import Clients, Pins
from tests.support.mirror import Mirror
from tests.support.registries import JSON

pytestmark = pytest.mark.pypi

ONNX = {"numpy": "1.26.2", "onnx": "1.14.0", "protobuf": "4.25.1", "typing-extensions": "4.8.0"}
IMAGE_AI = ["tensorflow", "keras", "numpy", "scipy", "matplotlib", "opencv-python", "pillow", "h5py", "scikit-learn"]


@pytest.fixture
def real_mirror(mirror: Callable[..., Mirror], real_pypi: str) -> Mirror:
    """A mirror in front of the real PyPI."""
    return mirror(pypi_upstream=real_pypi)


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    """Clients that may reach the network: half of each comparison goes straight to PyPI."""
    return Clients(tmp_path / "clients", direct=True, timeout=400)


def versions(pins: Pins) -> dict[str, str]:
    return {name: pin.version for name, pin in pins.items()}


def test_onnx_installs_as_of_2023_11_18(real_mirror: Mirror, clients: Clients, tmp_path: Path) -> None:
    """A real install, then the same from the mirror alone."""
    index = real_mirror.at("2023-11-18")
    for_311 = ("--python-version", "3.11", "--platform", "manylinux2014_x86_64")
    installed = clients.pip_install(index, ["onnx==1.14.0"], tmp_path / "target", *for_311)
    assert versions(installed) == ONNX
    assert (tmp_path / "target/onnx/__init__.py").is_file()
    real_mirror.restart("--offline")
    assert clients.pip_install(index, ["onnx==1.14.0"], None, *for_311) == installed


@pytest.mark.parametrize(
    ("requirement", "date"),
    [
        ("requests", "2022-06-01"),
        ("aiohttp", "2023-03-01"),
        ("httpx", "2023-01-15"),
        ("rich", "2020-12-01"),
        ("onnx==1.14.0", "2023-11-18"),
    ],
)
def test_a_date_is_what_exclude_newer_gives(
    requirement: str, date: str, real_mirror: Mirror, real_pypi: str, clients: Clients
) -> None:
    """Versions and the hashes of all their files."""
    wanted = ("--python-version", "3.11")
    straight = clients.uv_compile(real_pypi, [requirement], *wanted, "--exclude-newer", f"{date}T00:00:00Z")
    assert straight
    assert clients.uv_compile(real_mirror.at(date), [requirement], *wanted) == straight


def test_a_date_is_what_uploaded_prior_to_gives(real_mirror: Mirror, real_pypi: str, clients: Clients) -> None:
    date = "2022-06-01"
    options = ("--dry-run", "--python-version", "3.11")
    prior = f"--uploaded-prior-to={date}T00:00:00Z"
    straight = clients.pip_install(real_pypi, ["requests"], None, *options, prior)
    assert straight
    assert clients.pip_install(real_mirror.at(date), ["requests"], None, *options) == straight


def test_image_ai_resolves_as_of_2020_10_15(real_mirror: Mirror, real_pypi: str, clients: Clients) -> None:
    """The story this project began with: every file that the lock allows was uploaded before that day.

    Wheels for what was asked for; PyYAML, termcolor and wrapt below it had none for Python 3.8 then.
    """
    cutoff = datetime.fromisoformat("2020-10-15T00:00:00Z")
    index = real_mirror.at("2020-10-15")
    locked = clients.uv_compile(index, IMAGE_AI, "--python-version", "3.8", only_binary=IMAGE_AI)
    assert set(IMAGE_AI) <= set(locked)
    with httpx.Client(headers={"Accept": JSON}, follow_redirects=True, timeout=60) as pypi:
        for name, pin in locked.items():
            files = pypi.get(f"{real_pypi}{name}/").raise_for_status().json()["files"]
            uploaded = {file["hashes"]["sha256"]: file["upload-time"] for file in files}
            assert pin.hashes, name
            for digest in pin.hashes:
                assert datetime.fromisoformat(uploaded[digest]) < cutoff, (name, pin.version)
