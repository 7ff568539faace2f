"""The servers under measurement behind one small interface, each with its own port and data folder.

proxpi runs as its image does: gunicorn, one process (its README says why it cannot be more), two threads; without the
image's access log, since no server here writes one. It keeps the index for a day in place of half an hour, so that it
never asks again within a run. devpi-server has its defaults (one process, fifty threads) and one mirror index, set up
with its client, that does not ask again for a day either. Its manual puts nginx in front of it; here it is alone, as
all are. This mirror has its defaults but for `--workers`, which the nginxes have too, and the permission to fetch from
127.0.0.1.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from .nginx import Nginx, executable
from .process import Child, Unavailable, clean_environment, free_port

ROOT: Final = Path(__file__).resolve().parents[2]
PEERS: Final = ROOT / ".peers"
COMMAND: Final = Path(sys.executable).with_name("httpcache")
PIN: Final = "bench-2026-01-01"
DAY: Final = 86_400
"""Seconds: longer than any run."""


@dataclass(frozen=True)
class Server:
    """A server that runs: `indexes` are the simple indexes it shows, by the name of their column in the report."""

    name: str
    version: str
    child: Child
    url: str
    indexes: Mapping[str, str]


@dataclass(frozen=True)
class Place:
    """What every server is given: a folder, what ends it, the upstream's origin, the number of workers."""

    folder: Path
    stack: ExitStack
    upstream: str
    workers: int


def caching_nginx(place: Place) -> Server:
    """A mirror made of nginx alone."""
    nginx = Nginx(place.folder, place.workers, place.stack)
    child = nginx.cache(place.upstream)
    return Server("nginx-cache", nginx_version(), child, nginx.url, {"nginx-cache": f"{nginx.url}/simple/"})


def proxpi(place: Place) -> Server:
    """proxpi behind gunicorn."""
    commands = _installed("proxpi")
    url = f"http://127.0.0.1:{(port := free_port())}"
    environment = {
        "PROXPI_INDEX_URL": f"{place.upstream}/simple/",
        "PROXPI_INDEX_TTL": f"{DAY}",
        "PROXPI_CACHE_DIR": str(place.folder / "cache"),
    }
    options = ("--preload", "--threads", "2", "--bind", f"127.0.0.1:{port}")
    command = (commands / "gunicorn", *options, "proxpi.server:app")
    child = Child(command, place.folder, place.stack, environment)
    child.wait_until_ready(f"{url}/health")
    return Server("proxpi", _version(commands, "proxpi"), child, url, {"proxpi": f"{url}/index/"})


def devpi(place: Place) -> Server:
    """devpi-server with one mirror index."""
    commands = _installed("devpi")
    url = f"http://127.0.0.1:{(port := free_port())}"
    data = place.folder / "data"
    _run(commands / "devpi-init", "--serverdir", data, "--no-root-pypi")
    listen = ("--host", "127.0.0.1", "--port", f"{port}")
    child = Child([commands / "devpi-server", "--serverdir", data, *listen], place.folder, place.stack)
    child.wait_until_ready(f"{url}/+api")
    here = ("--clientdir", place.folder / "client")
    mirror = ("type=mirror", f"mirror_url={place.upstream}/simple/", f"mirror_cache_expiry={DAY}")
    _run(commands / "devpi", "use", *here, url)
    _run(commands / "devpi", "login", *here, "root", "--password=")
    index = "root/replica"
    _run(commands / "devpi", "index", *here, "-c", index, *mirror)
    version = _version(commands, "devpi-server")
    return Server("devpi", version, child, url, {"devpi": f"{url}/{index}/+simple/"})


def mirror(place: Place, *, ready_every: float = 0.05) -> Server:
    """This mirror, on the data folder that is there or a new one: by date, and behind a pin.

    The date is today's: the newest that there is, and it is answered from then on without the upstream.
    """
    upstream = ("--pypi-upstream", f"{place.upstream}/simple/", "--allow-network", "127.0.0.0/8")
    options = ("--workers", f"{place.workers}", *upstream)
    child, url = serve(place.folder, place.stack, *options, ready_every=ready_every)
    indexes = {
        "mirror-dated": f"{url}/{datetime.now(UTC):%Y-%m-%d}/",
        "mirror-pinned": f"{url}/{PIN}/{place.upstream}/simple/",
    }
    return Server("mirror", mirror_version(), child, url, indexes)


def serve(
    folder: Path,
    stack: ExitStack,
    *options: str,
    ready_every: float = 0.05,
    environment: Mapping[str, str] | None = None,
) -> tuple[Child, str]:
    """Start this mirror with its data in `folder`; return it with its origin. Raises Unavailable."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    listen = ("--host", "127.0.0.1", "--port", f"{port}")
    child = Child([COMMAND, "serve", "--data", folder / "data", *listen, *options], folder, stack, environment)
    child.wait_until_ready(f"{url}/-/ready", ready_every)
    return child, url


def mirror_version() -> str:
    """What this mirror says of itself."""
    return _run(COMMAND, "--version").strip()


SERVERS: Final[Mapping[str, Callable[[Place], Server]]] = {
    "nginx-cache": caching_nginx,
    "proxpi": proxpi,
    "devpi": devpi,
    "mirror": mirror,
}
"""What `--servers` can name, besides the static nginx, which is always there."""


def nginx_version() -> str:
    """What `nginx -v` says."""
    return _run(executable(), "-v").strip().removeprefix("nginx version: ")


def _installed(peer: str) -> Path:
    """Return the folder of a peer's commands, after `make` has installed it. Raises Unavailable with make's words."""
    ready = PEERS / peer / "ready"
    _run("make", "-s", "-C", ROOT, ready.relative_to(ROOT))
    return PEERS / peer / "bin"


def _version(commands: Path, distribution: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    return f"{distribution} {_run(commands / 'python', '-c', code).strip()}"


def _run(*command: str | Path) -> str:
    """Run a command to its end and return what it printed. Raises Unavailable where it fails, with its last lines."""
    done = subprocess.run(
        [str(part) for part in command],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        raise Unavailable(f"{Path(command[0]).name} failed: {' | '.join(lines[-2:])[-300:]}")
    return done.stdout
