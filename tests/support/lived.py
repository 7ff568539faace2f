"""A mirror of a PyPI in which much has happened: releases, yanks, removals, rescues, statuses, rules, captures."""

from __future__ import annotations

from collections.abc import Callable

from tests.support import http
from tests.support.command import run
from tests.support.inside import until
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.rescued import unlist

NAME = "demo-lib"
HOSTILE = "<script>document.title='hacked'</script>"


def lived(pypi: PyPI, mirror: Callable[..., Mirror], *arguments: str) -> Mirror:
    """Start a mirror and let it observe a project through its life."""
    server = mirror(pypi, *arguments)
    wheels = {
        version: wheel(NAME, version) for version in (f"{year}.{minor}" for year in range(1, 7) for minor in range(4))
    }
    for number, dist in enumerate(wheels.values()):
        pypi.upload(dist, f"{2019 + number // 4}-{1 + number % 4 * 3:02}-{5 + number:02}T10:00:00Z")
    seen(server)
    pypi.yank(wheels["3.1"], f"broken build {HOSTILE}")
    seen(server)
    unlist(pypi, wheels["1.2"], wheels["1.3"])
    seen(server)
    until(lambda: run("history", "--data", server.data, NAME).stdout.count("rescued") == 2, "the rescue")
    pypi.set_status(NAME, "archived", f"no longer maintained {HOSTILE}")
    seen(server)
    command(server, "block", f"{NAME}>=2,<2.2", "--reason", f"steals credentials {HOSTILE}")
    command(server, "allow", f"{NAME}==2.1", "--reason", "checked by hand")
    command(server, "capture", *arguments)
    return server


def seen(server: Mirror) -> None:
    """Let the mirror observe the project now."""
    assert http.get(f"{server.url}/live/{NAME}/").status_code == 200


def command(server: Mirror, *arguments: str) -> None:
    """Run a command beside the mirror."""
    more = (
        ["--pypi-upstream", server.pypi_upstream, "--allow-network", "127.0.0.0/8"] if arguments[0] == "capture" else []
    )
    ran = run(arguments[0], "--data", server.data, *arguments[1:], *more)
    assert ran.returncode == 0, ran.stderr
