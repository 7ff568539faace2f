"""Old public projects at the real PyPI: what their files asked for resolves to what there was on the day of a commit.

The files are ours and have the facts of theirs: which projects and versions they ask for, in the same form.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.clients import CLIENTS
from tests.support.command import run
from tests.support.mirror import Mirror

pytestmark = pytest.mark.pypi


class Old(NamedTuple):
    """A commit of a project: its instant, its files, the newest Python that works, and some of the releases."""

    instant: str
    files: dict[str, str]
    python: str
    releases: dict[str, str]


HTTPIE = Old(
    "2017-05-17T23:31:10Z",
    {
        "setup.py": "needs = ['requests>=2.11.0', 'Pygments>=2.1.3']\n"
        "extras = {':python_version == \"2.6\"': ['argparse>=1.2.1'],\n"
        " ':sys_platform == \"win32\"': ['colorama>=0.2.4']}\n"
        "setup(install_requires=needs, extras_require=extras)\n"
    },
    "3.6",
    {"requests": "2.14.2", "pygments": "2.2.0"},
)
OTHERS = {
    "ImageAI": Old(
        "2020-10-15T18:36:12Z",
        {
            "requirements.txt": "tensorflow\nkeras\nnumpy\npillow\nscipy\nh5py\nmatplotlib\nopencv-python\n",
            "setup.py": "setup(install_requires=['numpy', 'scipy', 'pillow', 'matplotlib', 'h5py'])\n",
        },
        "3.8",
        {"tensorflow": "2.3.1", "keras": "2.4.3", "numpy": "1.18.5", "pillow": "8.0.0", "scipy": "1.5.2"},
    ),
    "manim": Old(
        "2019-05-31T17:44:51Z",
        {
            "requirements.txt": "argparse==1.4.0\ncolour==0.1.5\nnumpy==1.15.0\nPillow==5.2.0\nprogressbar==2.5\n"
            "scipy==1.1.0\ntqdm==4.24.0\nopencv-python==3.4.2.17\npycairo==1.17.1; sys_platform == 'linux'\n"
            "pycairo==1.18.0; sys_platform == 'win32'\npydub==0.23.0\n"
        },
        "3.7",
        {"numpy": "1.15.0", "pillow": "5.2.0", "opencv-python": "3.4.2.17", "pycairo": "1.17.1"},
    ),
    "FastAPI": Old(
        "2019-08-31T01:40:50Z",
        {
            "pyproject.toml": '[tool.flit.metadata]\nrequires = ["starlette >=0.11.1,<=0.12.8",'
            ' "pydantic >=0.32.2,<=0.32.2"]\nrequires-python = ">=3.6"\n',
            "Pipfile": '[packages]\nstarlette = "==0.12.8"\npydantic = "==0.32.2"\nhypercorn = "*"\n'
            'databases = {extras = ["sqlite"], version = "*"}\n[requires]\npython_version = "3.6"\n',
        },
        "3.6",
        {"starlette": "0.12.8", "pydantic": "0.32.2"},
    ),
    "Rich": Old(
        "2020-12-30T15:33:13Z",
        {
            "pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.6"\ntyping-extensions = "^3.7.4"\n'
            'dataclasses = {version = ">=0.7,<0.9", python = "~3.6"}\npygments = "^2.6.0"\ncommonmark = "^0.9.0"\n'
            'colorama = "^0.4.0"\nipywidgets = {version = "^7.5.1", optional = true}\n'
        },
        "3.9",
        {"typing-extensions": "3.7.4.3", "pygments": "2.7.3", "commonmark": "0.9.1", "colorama": "0.4.4"},
    ),
    "Stable Diffusion": Old(
        "2022-08-22T16:57:55Z",
        {
            "environment.yaml": "dependencies: [python=3.8.5, pip=20.3, cudatoolkit=11.3, pytorch=1.11.0,"
            " torchvision=0.12.0, numpy=1.19.2, pip: [albumentations==0.4.3, diffusers, opencv-python==4.1.2.30,"
            " pudb==2019.2, invisible-watermark, imageio==2.9.0, imageio-ffmpeg==0.4.2, pytorch-lightning==1.4.2,"
            " omegaconf==2.1.1, test-tube>=0.7.5, streamlit>=0.73.1, einops==0.3.0, torch-fidelity==0.3.0,"
            " transformers==4.19.2, torchmetrics==0.6.0, kornia==0.6, '-e git+https://example.org/clip.git', -e .]]\n",
            "setup.py": "setup(install_requires=['torch', 'numpy', 'tqdm'])\n",
        },
        "3.8",
        {"torch": "1.11.0", "torchvision": "0.12.0", "numpy": "1.19.2", "transformers": "4.19.2"},
    ),
}


def resurrected(old: Old, mirror: Mirror, folder: Path) -> Any:
    """What the command finds."""
    for name, text in old.files.items():
        (folder / name).write_text(text)
    path = f"{CLIENTS / 'current/bin'}:{os.environ['PATH']}"
    arguments = ("--as-of", old.instant, "--mirror", mirror.url, "--json")
    ran = run("resurrect", folder, *arguments, environment={"PATH": path}, seconds=900)
    assert ran.returncode == 0, (ran.stdout, ran.stderr)
    return json.loads(ran.stdout)


def check(old: Old, mirror: Mirror, folder: Path) -> None:
    """What was found is what there was: all of it was uploaded before the commit."""
    document = resurrected(old, mirror, folder)
    assert document["python"] == old.python
    assert document["cannot_be_had"] == []
    assert old.releases.items() <= {each["project"]: each["version"] for each in document["releases"]}.items()
    for each in document["releases"]:
        assert each["uploaded"] < old.instant, each


def test_an_old_project(mirror: Callable[..., Mirror], real_pypi: str, tmp_path: Path) -> None:
    check(HTTPIE, mirror(pypi_upstream=real_pypi), tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("project", OTHERS)
def test_other_old_projects(project: str, mirror: Callable[..., Mirror], real_pypi: str, tmp_path: Path) -> None:
    check(OTHERS[project], mirror(pypi_upstream=real_pypi), tmp_path)
