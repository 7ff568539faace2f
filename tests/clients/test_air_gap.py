"""What was built through one mirror is built through another one that has no network, with the same hashes.

The second mirror has what `httpcache export` wrote, and runs with `--offline` in a network namespace that has nothing
but a loopback. The clients run in there with it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import apt
from tests.support.clients import PIP, UV, Clients, Result, parse_lock
from tests.support.command import run
from tests.support.inside import PATIENCE
from tests.support.mirror import COMMAND, Mirror
from tests.support.npm import NpmClients, NpmRegistry, lock
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.upstream import Upstream

pytestmark = pytest.mark.alone

DATE, PIN = "2023-07-01", "tools-2024-01-02"
WANTED = ["demo"]


class Inside(Clients):
    """Clients in the network namespace of a process."""

    process: int = 0

    def run(self, *command: str | Path, **named: object) -> Result:
        """Run one command in there."""
        entered = ("nsenter", f"--net=/proc/{self.process}/ns/net", "--")
        return super().run(*entered, *command, **named)  # type: ignore[arg-type]


@contextmanager
def offline(source: Mirror, data: Path, log: Path, clients: Inside) -> Iterator[None]:
    """A mirror of a data folder with the address of `source`, in a network of its own."""
    options = ["--host", "127.0.0.1", "--port", f"{source.port}", "--pypi-upstream", source.pypi_upstream]
    serve = [str(COMMAND), "serve", "--offline", "--data", str(data), *options]
    within = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    with log.open("wb") as file, subprocess.Popen([*within, *serve], stdout=file, stderr=file) as server:
        clients.process = server.pid
        deadline = time.monotonic() + PATIENCE
        try:
            while clients.curl("-f", f"{source.url}/-/ready").code:
                assert time.monotonic() < deadline, log.read_text()
                assert server.poll() is None, log.read_text()
                time.sleep(0.1)
            yield
        finally:
            server.terminate()


def built(clients: Clients, running: Mirror, pypi: PyPI, npm: NpmRegistry, debian: Upstream) -> dict[str, object]:
    """What each client settles on and gets, with hashes."""
    dated, pinned = running.at(DATE), running.pin(PIN, pypi.url)
    found: dict[str, object] = {
        "pip": clients.pip_install(dated, WANTED),
        "pip, pin": clients.pip_install(pinned, WANTED),
    }
    home = clients.place()
    (home / "pyproject.toml").write_text(
        '[project]\nname = "project"\nversion = "1"\nrequires-python = ">=3.11,<4"\ndependencies = ["demo"]\n'
    )
    clients.run(UV, "sync", "--quiet", "--python", PIP[0], "--default-index", dated, home=home).checked()
    found["uv"] = parse_lock(home / "uv.lock")
    found["poetry"] = clients.poetry_install(dated, clients.poetry_lock(dated, WANTED))
    node, home = NpmClients(clients), clients.place()
    found["npm"] = (node.install("npm", running.pin(PIN, npm.url), {"left": "*"}, home=home), lock("npm", home))
    debs = apt.download(clients, f"{running.pin(PIN, debian.url)}/deb")
    found["apt"] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in debs}
    home = clients.place()
    clients.wget(running.pin(PIN, f"{npm.upstream.url}/file"), cwd=home).checked()
    found["wget"] = hashlib.sha256((home / "file").read_bytes()).hexdigest()
    return found


def test_the_same_builds_without_a_network(
    pypi: PyPI, upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror], clients: Clients, tmp_path: Path
) -> None:
    apt.skip_without()
    if not shutil.which("gpg"):
        pytest.skip("there is no gpg")
    if os.geteuid() or not shutil.which("unshare") or not shutil.which("nsenter") or not shutil.which("ip"):
        pytest.skip("entering a network namespace needs root, util-linux and iproute2")
    npm, debian = NpmRegistry(upstreams()), upstreams()
    apt.publish(debian, tmp_path, "1.0", signed=True)
    npm.publish("left", "1.0.0", content="left")
    npm.upstream.pages["/file"] = bytes(range(256)) * 200
    pypi.upload(wheel("dep", "1.0"), "2023-05-01T00:00:00Z")
    pypi.upload(wheel("demo", "1.0", requires=["dep"], padding=30_000), "2023-06-01T00:00:00Z")
    source = mirror(pypi)
    before = built(clients, source, pypi, npm, debian)
    pypi.upload(wheel("demo", "2.0"), "2023-06-02T00:00:00Z")
    apt.publish(debian, tmp_path, "2.0", signed=True)
    ran = run("export", "--data", source.data, PIN, f"pypi@{DATE}", tmp_path / "archive")
    assert ran.returncode == 0, ran.stderr
    source.stop()
    ran = run("import", "--data", tmp_path / "target", tmp_path / "archive")
    assert ran.returncode == 0, ran.stderr
    inside = Inside(tmp_path / "inside")
    with offline(source, tmp_path / "target", tmp_path / "log", inside):
        assert inside.curl(f"{pypi.url}demo/").code, "the network is not empty"
        assert built(inside, source, pypi, npm, debian) == before
