"""The Containerfile: its steps are carried out in a bare Debian, and what they make serves from a read-only root."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from httpcache.adapter import adapters
from httpcache.command.in_force import every
from tests.support import container, http
from tests.support.container import DEBIAN, ROOT, Stage
from tests.support.inside import until
from tests.support.mirror import free_port
from tests.support.upstream import Upstream

TEXT: Final = (ROOT / "Containerfile").read_text()
RELEASE: Final = re.search(r"^ARG BASE=python:(?P<python>[0-9.]+)-slim-(?P<debian>[a-z]+)$", TEXT, re.MULTILINE)
NOBODY_LISTENS: Final = "http://127.0.0.1:9/"


def test_the_context_is_what_is_copied() -> None:
    """No `data` folder, and no secret that lies about, gets to the machine that builds."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = {
        source for step in container.steps(TEXT) if step.name == "COPY" and "--from" not in step.text
        for source in step.words[:-1]
    }  # fmt: skip
    assert ignored[1] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == copied


def test_ci_tests_the_python_of_the_image() -> None:
    """CI finds it by the same line; the classifiers and the lock are for 3.11 and later."""
    assert RELEASE is not None
    pattern = re.search(
        r"^container=\$\(sed -n 's/(.*)/\\1/p' Containerfile\)$", (ROOT / ".ci/run").read_text(), re.MULTILINE
    )
    assert pattern is not None
    found = re.search(pattern[1].replace(r"\(", "(").replace(r"\)", ")"), TEXT, re.MULTILINE)
    assert found is not None
    assert found[1] == RELEASE["python"]
    assert [step.text for step in container.steps(TEXT) if step.name == "FROM"] == ["${BASE} AS build", "${BASE}"]


def test_the_examples_name_settings() -> None:
    """Of what a newcomer copies: each variable is one."""
    texts = [TEXT, (ROOT / "docs/installing.md").read_text()]
    texts += [path.read_text(errors="replace") for path in (ROOT / "examples").rglob("*") if path.is_file()]
    named = {name for text in texts for name in re.findall(r"\bHTTPCACHE_[A-Z_]+", text)}
    known = {setting.variable for setting in every(adapters())}
    assert named >= {"HTTPCACHE_DATA", "HTTPCACHE_INDEX"}
    assert named - known == {"HTTPCACHE_CONFIG"}


@pytest.fixture(scope="module")
def image(real_pypi: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """What the steps make. pip installs from the index that this machine uses."""
    if why := container.refused():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("image")
    try:
        yield container.build(TEXT, folder)
    except subprocess.CalledProcessError as error:
        pytest.fail(f"{error}\n{error.output}")
    finally:
        shutil.rmtree(folder)


@pytest.mark.pypi
def test_the_image_is_small(image: Stage) -> None:
    """The interpreter is that of the base image; no installer, no sources and no cache are left."""
    assert RELEASE is not None
    assert f"VERSION_CODENAME={RELEASE['debian']}\n" in (DEBIAN / "etc/os-release").read_text()
    installed = image.root / f"opt/httpcache/lib/python{RELEASE['python']}/site-packages"
    names = {path.name.partition("-")[0] for path in installed.iterdir()}
    assert {"httpcache", "pypi_adapter", "npm_adapter", "granian", "obstore", "psycopg"} <= names
    assert names & {"pip", "setuptools", "tests", "wheel"} == set()
    assert not (image.root / "src").exists()
    assert not (image.root / "root/.cache").exists()
    size = sum(path.stat().st_size for path in image.root.rglob("*") if path.is_file() and not path.is_symlink())
    bare = sum(path.stat().st_size for path in DEBIAN.rglob("*") if path.is_file() and not path.is_symlink())
    assert size - bare < 160_000_000
    assert image.user == "10001:10001"  # by number, so that Kubernetes can see that it is not root


@pytest.mark.pypi
@pytest.mark.parametrize("engine", ["docker", "kubernetes"])
def test_it_serves_from_a_read_only_root(image: Stage, engine: str, upstream: Upstream, tmp_path: Path) -> None:
    """As the user of the image, without a capability: it is ready, freezes, and ends with 0 at SIGTERM.

    Docker makes a new volume as the folder is in the image; Kubernetes one of root's, with the group of `fsGroup`.
    """
    upstream.pages["/file"] = b"frozen"
    data = tmp_path / "volume"
    if engine == "docker":
        subprocess.run(["cp", "-a", image.root / image.volume.lstrip("/"), data], check=True)
    else:
        data.mkdir()
        os.chown(data, 0, 10001)
        data.chmod(0o2777)
    port = free_port()
    given = {"HTTPCACHE_HOST": "127.0.0.1", "HTTPCACHE_PORT": f"{port}", "HTTPCACHE_ALLOW_NETWORK": "127.0.0.0/8"}
    given |= {"HTTP_PROXY": NOBODY_LISTENS, "http_proxy": NOBODY_LISTENS}  # what an engine may add: not for itself

    running = container.serve(image, data, given)
    try:
        until(lambda: running.poll() is not None or _healthy(running, image, given), "the health check")
        assert running.poll() is None, running.stdout and running.stdout.read()
        status = Path(f"/proc/{container.first_process(running)}/status").read_text()
        assert re.findall(r"^(?:Uid|Gid|Cap\w+|NoNewPrivs|Groups):[ \t]*(.*?) *$", status, re.MULTILINE) == [
            "10001\t10001\t10001\t10001", "10001\t10001\t10001\t10001", "", *["0000000000000000"] * 5, "1",
        ]  # fmt: skip
        assert http.get(f"http://127.0.0.1:{port}/").status_code == 200
        address = f"http://127.0.0.1:{port}/tools-2024-01-02/{upstream.url}/file"
        assert http.get(address).content == b"frozen"
        assert "/file" in container.enter(running, image, ["httpcache", "ls", "tools-2024-01-02"], given)
        with pytest.raises(subprocess.CalledProcessError, match="status 1"):
            container.enter(running, image, ["touch", "/opt/httpcache/written"], given)
        upstream.stop()
        assert http.get(address).content == b"frozen"
        os.kill(container.first_process(running), signal.SIGTERM)
        said, _ = running.communicate(timeout=40)
        assert (running.returncode, "Traceback" in said) == (0, False), said
    finally:
        running.kill()
        running.wait()
    assert {path.name for path in data.iterdir()} >= {"VERSION", "index", "blobs"}
    assert {path.stat().st_uid for path in data.rglob("*")} == {10001}


def _healthy(running: subprocess.Popen[str], image: Stage, given: dict[str, str]) -> bool:
    try:
        container.enter(running, image, image.health, given)
    except (subprocess.CalledProcessError, ValueError):
        return False
    return True
