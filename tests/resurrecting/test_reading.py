"""What the files of a checkout ask for, in each form that there is; nothing of it is run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from httpcache.errors import MirrorError
from pypi_adapter.instants import read_instant, to_datetime
from pypi_adapter.resurrecting.checkout import last_commit, read_checkout
from pypi_adapter.resurrecting.pythons import RELEASED, candidates
from pypi_adapter.resurrecting.specifiers import alternatives, conda

FORMS: dict[str, tuple[dict[str, str], list[str]]] = {
    "requirements": (
        {
            "requirements.txt": "# a comment\nnumpy\nscipy == 1.5  # another\n\n"
            "pillow>=7,\\\n  <8 ; python_version > '3'\n"
        },
        ["numpy", "scipy==1.5", 'pillow<8,>=7; python_version > "3"'],
    ),
    "included ones, in a circle": (
        {
            "requirements.txt": "-r deps/more.txt\n--requirement=deps/last.txt\none\n",
            "deps/more.txt": "two\n-rlast.txt\n",
            "deps/last.txt": "three\n-r ../requirements.txt",
        },
        ["two", "three", "one"],
    ),
    "options of a requirement": (
        {"requirements.txt": "one==1 --hash=sha256:aa --hash sha256:bb\ntwo --install-option='-O' --global-option x\n"},
        ["one==1", "two"],
    ),
    "a file from PowerShell": ({"requirements.txt": "\ufeffone==1\r\ntwo\r\n"}, ["one==1", "two"]),
    "stars that were allowed once": ({"requirements.txt": "one>=1.0.*,<2.*\ntwo==1.*"}, ["one<2,>=1.0", "two==1.*"]),
    "the checkout itself": ({"requirements.txt": "-e .\n.\n--editable=.[all]\n./\none"}, ["one"]),
    "the main one of several": ({"requirements-dev.txt": "two", "requirements.txt": "one"}, ["one"]),
    "the only one": ({"requirements-cpu.txt": "one"}, ["one"]),
    "one in a folder": ({"requirements/base.txt": "one", "requirements/dev.txt": "two"}, ["one"]),
    "setup.py": (
        {"setup.py": "from setuptools import setup\nsetup(name='x', install_requires=['one', 'two>=1'])"},
        ["one", "two>=1"],
    ),
    "setup.py with names": (
        {
            "setup.py": "import setuptools\nbase = ['one']\nbase.append('two')\nmore: list = ('three',)\n"
            "base += ['four']\nbase.extend(['five'])\nif __name__ == '__main__':\n"
            "    setuptools.setup(install_requires=base + list(more) + [*['six']])"
        },
        ["one", "two", "four", "five", "three", "six"],
    ),
    "setup.py with one string": (
        {"setup.py": "setup(install_requires='''\n  one\n  # not this\n  two\n'''.split('\\n'))"},
        ["one", "two"],
    ),
    "setup.py with words": ({"setup.py": "setup(install_requires='one two'.split())"}, ["one", "two"]),
    "setup.py with lines": (
        {"setup.py": "setup(install_requires='''\n  one\n  # not this\n  two\n''')"},
        ["one", "two"],
    ),
    "setup.py with a dictionary": (
        {"setup.py": "d = dict(name='x', install_requires=['one'])\nd['python_requires'] = '>=3'\nsetup(**d)"},
        ["one"],
    ),
    "setup.py with extras that have no name": (
        {"setup.py": "e = {':python_version<\"3.7\"': ['one'], 'dev': ['two']}\nsetup(extras_require=e)"},
        ['one; python_version < "3.7"'],
    ),
    "setup.py that reads a file": (
        {
            "setup.py": "def read(name):\n    return open(name).readlines()\n\nneeds = [x for x in read('needs.txt')]\n"
            "setup(long_description=read('other.txt'), install_requires=needs)",
            "needs.txt": "one\ntwo\n",
            "other.txt": "three\n",
        },
        ["one", "two"],
    ),
    "setup.cfg": (
        {
            "setup.cfg": "[options]\npython_requires = >=3.6\n"
            "install_requires =\n  one\n  # not this\n  two; os_name=='nt'\n"
        },
        ["one", 'two; os_name == "nt"'],
    ),
    "setup.cfg in one line": ({"setup.cfg": "[options]\ninstall_requires = one; two>=1\n"}, ["one", "two>=1"]),
    "setup.cfg that names a file": (
        {"setup.cfg": "[options]\ninstall_requires = file: needs.txt\n", "needs.txt": "one"},
        ["one"],
    ),
    "pyproject": (
        {"pyproject.toml": '[project]\nname = "x"\ndependencies = ["one>=1", "two"]\nrequires-python = ">=3.7"'},
        ["one>=1", "two"],
    ),
    "pyproject that names a file": (
        {
            "pyproject.toml": '[project]\ndynamic = ["dependencies"]\n'
            '[tool.setuptools.dynamic]\ndependencies = {file = ["needs.txt"]}',
            "needs.txt": "one",
        },
        ["one"],
    ),
    "Poetry": (
        {
            "pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.6"\none = "^1.2"\ntwo = "*"\nthree = "1.0"\n'
            'four = {version = "~2.1", extras = ["more"], python = "<3.8"}\nfive = {version = "1", optional = true}\n'
            'six = [{version = "<2", python = "<3.7"}, {version = ">=2", markers = "os_name == \'nt\'"}]\n'
            '[tool.poetry.dev-dependencies]\npytest = "*"'
        },
        [
            "one<2,>=1.2",
            "two",
            "three==1.0",
            'four[more]<2.2,>=2.1; python_full_version < "3.8"',
            'six<2; python_full_version < "3.7"',
            'six>=2; os_name == "nt"',
        ],
    ),
    "Poetry 2": (
        {
            "pyproject.toml": '[project]\ndependencies = ["one (>=1,<2)"]\n'
            '[tool.poetry.dependencies]\none = {source = "team"}'
        },
        ["one<2,>=1"],
    ),
    "flit": (
        {"pyproject.toml": '[tool.flit.metadata]\nmodule = "x"\nrequires = ["one >=1"]\nrequires-python = ">=3.6"'},
        ["one>=1"],
    ),
    "PDM, the first": (
        {"pyproject.toml": '[tool.pdm.dependencies]\none = ">=1"\ntwo = {version = "<2"}'},
        ["one>=1", "two<2"],
    ),
    "Pipfile": (
        {
            "Pipfile": '[packages]\none = "*"\ntwo = "==1.0"\n'
            'three = {version = ">=2", sys_platform = "== \'win32\'"}\n'
            'four = {version = "*", extras = ["a", "b"], markers = "python_version < \'3\'"}\n'
            'x = {path = ".", editable = true}\n[dev-packages]\nfive = "*"\n[requires]\npython_version = "3.7"'
        },
        ["one", "two==1.0", 'three>=2; sys_platform == "win32"', 'four[a,b]; python_version < "3"'],
    ),
    "environment": (
        {
            "environment.yml": "name: x\nchannels: [conda-forge]\ndependencies:\n- python=3.7.3\n- numpy=1.19\n"
            "- conda-forge::scipy=1.5.2=py37_0\n- pytorch>=1.4,<2\n- opencv\n- cudatoolkit=10\n- pip\n"
            "- pip:\n  - one==1\n  - -r more.txt\n",
            "more.txt": "two",
        },
        ["numpy==1.19.*", "scipy==1.5.2", "torch<2,>=1.4", "opencv-python", "pip", "one==1", "two"],
    ),
    "requirements and packaging": (
        {
            "requirements.txt": "one==1",
            "setup.py": "setup(install_requires=['two'])",
            "Pipfile": '[packages]\nthree="*"',
            "environment.yml": "dependencies: [four]",
        },
        ["one==1", "two"],
    ),
    "imports": (
        {
            "app/__init__.py": "",
            "app/main.py": "import os, numpy.linalg as la\n"
            "from cv2 import imread\nfrom . import own\nimport helper, imp\n",
            "app/own.py": "from PIL import Image\nfrom app import main\nimport some_thing\n",
            "helper.py": "try:\n    import yaml\nexcept ImportError:\n    yaml = None\n",
            "venv/pyvenv.cfg": "",
            "venv/lib/x.py": "import not_this",
            ".tox/x.py": "import nor_this",
        },
        ["pillow", "opencv-python", "numpy", "some-thing", "PyYAML"],
    ),
}


def checkout(folder: Path, files: dict[str, str]) -> Path:
    """A folder with these files; what begins with a mark is written as PowerShell does."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode("utf-16-le" if text.startswith("\ufeff") else "utf-8"))
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_what_is_asked_for(form: str, tmp_path: Path) -> None:
    files, expected = FORMS[form]
    wanted = read_checkout(checkout(tmp_path, files))
    assert [str(each.requirement) for each in wanted.asked] == expected
    if "itself" not in form and expected:
        assert not [each for each in wanted.unread if each.why != "it comes from conda only"]


def test_hashes_and_constraints(tmp_path: Path) -> None:
    text = "one==1 \\\n  --hash=sha256:aa \\\n  --hash=sha256:bb\n-c limits.txt\n"
    wanted = read_checkout(checkout(tmp_path, {"requirements.txt": text, "limits.txt": "two<3"}))
    assert [(each.project, each.hashes, each.where) for each in wanted.asked] == [
        ("one", frozenset({"sha256:aa", "sha256:bb"}), "requirements.txt:1")
    ]
    assert [(str(each.requirement), each.where) for each in wanted.constraints] == [("two<3", "limits.txt:1")]


LEFT: dict[str, tuple[dict[str, str], str, str]] = {
    "no requirement": ({"requirements.txt": "one two"}, "one two", "no requirement"),
    "an address": ({"requirements.txt": "https://example.org/one.tar.gz"}, "https://", "does not come from an index"),
    "one with an address": (
        {"requirements.txt": "one @ https://example.org/x"},
        "one @",
        "does not come from an index",
    ),
    "a repository": (
        {"requirements.txt": "-e git+https://example.org/x#egg=x"},
        "-e git",
        "does not come from an index",
    ),
    "a folder": ({"requirements.txt": "-e ../other"}, "-e ../other", "file or folder"),
    "a wheel": ({"requirements.txt": "./one-1-py3-none-any.whl"}, "./one", "file or folder"),
    "another index": ({"requirements.txt": "--extra-index-url https://example.org/simple"}, "--extra", "other indexes"),
    "an option": ({"requirements.txt": "--pre"}, "--pre", "not followed"),
    "one from the net": ({"requirements.txt": "-r https://example.org/r.txt"}, "https://", "not fetched"),
    "one that is not there": ({"requirements.txt": "-r gone.txt"}, "gone.txt", "cannot be read"),
    "what is computed": ({"setup.py": "setup(install_requires=needs())"}, "install_requires=needs()", "computed"),
    "what is made of parts": ({"setup.py": "setup(install_requires=['a' + v])"}, "install_requires=", "computed"),
    "under a condition": (
        {"setup.py": "needs = ['one']\nif old:\n    needs.append('two')\nsetup(install_requires=needs)"},
        "'two'",
        "under a condition",
    ),
    "Python 2": ({"setup.py": "print 'x'"}, "setup.py", "cannot be read"),
    "no TOML": ({"pyproject.toml": "[project"}, "pyproject.toml", "cannot be read"),
    "other TOML": ({"pyproject.toml": "project = 1"}, "pyproject.toml", "cannot be read"),
    "no INI": ({"setup.cfg": "install_requires"}, "setup.cfg", "cannot be read"),
    "no YAML": ({"environment.yml": "a: [b"}, "environment.yml", "cannot be read"),
    "other YAML": ({"environment.yml": "a: b"}, "environment.yml", "no list of dependencies"),
    "of conda only": ({"environment.yml": "dependencies: [cudatoolkit=11.3]"}, "cudatoolkit=11.3", "from conda only"),
    "odd versions of conda": ({"environment.yml": "dependencies: ['one=1|2']"}, "one=1|2", "no versions"),
    "a constraint that is none": ({"Pipfile": '[packages]\none = "^x"'}, "one = ^x", "no constraint of Poetry"),
    "either or": ({"Pipfile": '[packages]\none = "<1 || >2"'}, "one = <1 || >2", "one requirement cannot say"),
    "from git": ({"Pipfile": '[packages]\none = {git = "https://example.org/x"}'}, "one = https", "from an index"),
    "a Python that is none": ({"setup.cfg": "[options]\npython_requires = new"}, "Python new", "no versions"),
    "a module of Python 2": ({"main.py": "print 'x'"}, "main.py", "no module of Python 3"),
    "one that is too large": (
        {"requirements.txt": "-r huge.txt", "huge.txt": " " * (1 << 20) + "x"},
        "huge.txt",
        "larger than 1 MiB",
    ),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_is_left_out(case: str, tmp_path: Path) -> None:
    files, text, why = LEFT[case]
    [unread] = read_checkout(checkout(tmp_path, files)).unread
    assert unread.text.startswith(text)
    assert why in unread.why


def test_no_login_is_shown(tmp_path: Path) -> None:
    lines = [
        "git+https://user:secret@example.org/x#egg=x",
        "-e git+ssh://user:secret@example.org/x",
        "--index-url https://user:secret@example.org/simple",
        "-r https://user:secret@example.org/r.txt",
        "one @ https://user:secret@example.org/x.whl",
    ]
    unread = read_checkout(checkout(tmp_path, {"requirements.txt": "\n".join(lines)})).unread
    assert len(unread) == len(lines)
    assert "secret" not in str(unread)


def test_nothing_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    text = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nsetup(install_requires=['one'])"
    wanted = read_checkout(checkout(tmp_path, {"setup.py": text}))
    assert [each.project for each in wanted.asked] == ["one"]
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("^1.2.3", ["<2,>=1.2.3"]),
        ("^0.2.3", ["<0.3,>=0.2.3"]),
        ("^0.0.3", ["<0.0.4,>=0.0.3"]),
        ("^0", ["<1,>=0"]),
        ("^0.0", ["<0.1,>=0.0"]),
        ("~1.2.3", ["<1.3,>=1.2.3"]),
        ("~1", ["<2,>=1"]),
        ("~=1.4", ["~=1.4"]),
        (">= 1.0, <2", ["<2,>=1.0"]),
        (">=1.0 <2", ["<2,>=1.0"]),
        ("1.2.*", ["==1.2.*"]),
        ("=1.2", ["==1.2"]),
        ("*", [""]),
        ("^2.7 || ^3.5", ["<3,>=2.7", "<4,>=3.5"]),
    ],
)
def test_constraints_of_poetry(text: str, expected: list[str]) -> None:
    assert [str(each) for each in alternatives(text)] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("=1.2", "==1.2.*"),
        ("=1.2.*", "==1.2.*"),
        ("=1.2*", "==1.2.*"),
        ("==1.2", "==1.2"),
        ("=1.2=py38_0", "==1.2"),
        ("1.2 py38_0", "==1.2"),
        ("=*", ""),
        (">=1.2,<2", "<2,>=1.2"),
        (">=1.2, <2", "<2,>=1.2"),
    ],
)
def test_versions_of_conda(text: str, expected: str) -> None:
    assert conda(text) == expected


@pytest.mark.parametrize(
    ("date", "files", "expected"),
    [
        ("2020-10-15", {}, ["3.9", "3.8", "3.7", "3.6"]),
        ("2020-10-04", {}, ["3.8", "3.7", "3.6"]),
        ("2014-01-01", {}, ["3.6"]),
        ("2020-10-15", {"setup.py": "setup(python_requires='>=3.6.1,<3.8')"}, ["3.7", "3.6"]),
        ("2020-10-15", {"Pipfile": '[requires]\npython_full_version = "3.7.4"'}, ["3.7"]),
        ("2020-10-15", {"environment.yml": "dependencies: [python=3.8.5]"}, ["3.8"]),
        ("2020-10-15", {"pyproject.toml": '[tool.poetry.dependencies]\npython = "~2.7 || ^3.8"'}, ["3.9", "3.8"]),
        ("2020-10-15", {"setup.py": "setup(python_requires='<3')"}, []),
    ],
)
def test_the_versions_of_python_to_try(date: str, files: dict[str, str], expected: list[str], tmp_path: Path) -> None:
    wanted = read_checkout(checkout(tmp_path, files))
    assert candidates(to_datetime(_instant(date)), wanted.pythons) == expected


def _instant(date: str) -> int:
    found = read_instant(date)
    assert found is not None
    return found


def test_every_python_is_newer_than_the_next() -> None:
    assert list(RELEASED.values()) == sorted(RELEASED.values(), reverse=True)


def git(folder: Path, *arguments: str, **environment: str) -> str:
    """Run git in a folder."""
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments]
    base = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=base | environment).stdout.strip()


def test_the_date_of_the_last_commit(tmp_path: Path) -> None:
    """It is that of the commit, in UTC; and no program that the repository's configuration names is run."""
    environment = {"PATH": "/usr/bin:/bin"}
    with pytest.raises(MirrorError, match="name it with --as-of"):
        last_commit(tmp_path, environment)
    git(tmp_path, "init", "-q")
    with pytest.raises(MirrorError, match="has no commit"):
        last_commit(tmp_path, environment)
    (tmp_path / "requirements.txt").write_text("one")
    git(tmp_path, "add", ".")
    at = "2020-10-15T19:36:12+01:00"
    git(tmp_path, "commit", "-qm", "one", GIT_COMMITTER_DATE=at, GIT_AUTHOR_DATE="2019-01-01T00:00:00Z")
    program, mark = tmp_path / "program", tmp_path / "mark"
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    for key in ("gpg.program", "core.fsmonitor", "core.pager", "core.sshCommand"):
        git(tmp_path, "config", key, str(program))
    git(tmp_path, "config", "log.showSignature", "true")
    found = last_commit(tmp_path / "requirements.txt", environment)
    assert found == (git(tmp_path, "rev-parse", "HEAD"), "2020-10-15T18:36:12Z")
    assert not mark.exists()
