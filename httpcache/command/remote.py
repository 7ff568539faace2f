"""Commands that ask a running mirror: `httpcache warm`, `lock` and `pin`, and the tools of adapters."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from httpcache.adapter import Adapter, Build, Tool, Wish
from httpcache.errors import MirrorError

from .rows import Rows, say
from .running import environment, progress


def warm_params() -> Iterator[click.Parameter]:
    """Yield what `httpcache warm` takes besides the address of the mirror."""
    file = click.Path(path_type=Path)
    yield click.Argument(["index"], help="an index such as 2024-01-02 or team/live, or a pin")
    text = "requirements or lock file: pylock.toml, uv.lock, poetry.lock, pdm.lock, Pipfile.lock, package-lock.json"
    yield click.Option(["-r", "--requirements"], metavar="FILE", type=file, multiple=True, help=text)
    yield click.Option(["--urls"], metavar="FILE", type=file, multiple=True, help="file of URLs, for a pin")
    text = "file of names of projects: their newest versions"
    yield click.Option(["--projects"], metavar="FILE", type=file, multiple=True, help=text)
    yield click.Option(
        ["--at"], metavar="DATE", help="the index (pypi, or the name of another) as of a date or instant"
    )
    yield click.Option(["--python", "pythons"], metavar="VERSION", multiple=True, help="for this version of Python")
    text = "for this platform, such as linux-x86_64"
    yield click.Option(["--platform", "platforms"], metavar="NAME", multiple=True, help=text)


def warm(
    installed: Sequence[Adapter],
    index: str,
    requirements: Sequence[Path],
    urls: Sequence[Path],
    projects: Sequence[Path],
    at: str | None,
    pythons: tuple[str, ...],
    platforms: tuple[str, ...],
    as_json: bool,
    mirror: str,
) -> int:
    """Have a mirror freeze what builds will ask for. Raises MirrorError."""
    from . import asking, warm

    if not (requirements or urls or projects):
        raise MirrorError("nothing to warm: name a requirements or lock file (-r), or a file of --urls or --projects")
    asker = asking.Asker(mirror)
    base = f"{asker.url}/{warm.address(index, at)}"
    builds = [Build(base, file, (), pythons, platforms) for file in requirements]
    builds += [Build(base, None, warm.names(file), pythons, platforms) for file in projects]
    wanted = chain(
        (Wish(f"{base}/{url}", url) for file in urls for url in warm.names(file)),
        *(warm.wishes(build, asker, installed) for build in builds),
    )
    outcome = warm.run(asker, wanted, progress())
    rows = Rows(as_json)
    for name, reason in outcome.unmet:
        if as_json:
            rows.add("", name=name, reason=reason)
        else:
            say(f"httpcache: {name}: {reason}", sys.stderr)
    rows.total(outcome.summary, outcome.values)
    return 1 if outcome.unmet else 0


def lock_params() -> Iterator[click.Parameter]:
    """Yield what `httpcache lock` takes besides the address of the mirror."""
    file = click.Path(path_type=Path)
    yield click.Option(["-r", "--requirements"], metavar="FILE", type=file, help="requirements to lock, with uv")
    yield click.Option(["--check"], metavar="FILE", type=file, help="lock file of any kind that `warm` reads")
    yield click.Option(["--index"], default="pypi", metavar="NAME", help="registry, group or pin (default: pypi)")
    yield click.Option(["--at"], metavar="DATE", help="the index as of a date or instant")
    yield click.Option(["--python", "pythons"], metavar="VERSION", multiple=True, help="for this version of Python")
    text = "for this platform, such as linux-x86_64"
    yield click.Option(["--platform", "platforms"], metavar="NAME", multiple=True, help=text)
    yield click.Option(["-o", "--output"], metavar="FILE", type=file, help="where to write it (default: print it)")


def lock(
    installed: Sequence[Adapter],
    requirements: Path | None,
    check: Path | None,
    index: str,
    at: str | None,
    pythons: tuple[str, ...],
    platforms: tuple[str, ...],
    output: Path | None,
    as_json: bool,
    mirror: str,
) -> int:
    """Lock what requirements resolve to, or look whether a lock file is frozen. Raises MirrorError."""
    from . import asking, locking, warm

    file = check or requirements
    if file is None or (check and requirements):
        raise click.UsageError("name requirements to lock (-r), or a lock file to look for (--check)")
    path = warm.address(index, at)
    if path == "pypi":
        raise click.UsageError("name the date with --at")
    asker = asking.Asker(mirror, only_stored=check is not None)
    build = Build(f"{asker.url}/{path}", file, (), pythons, platforms, only_pinned=check is not None)
    if check:
        return locking.check(build, asker, installed, Rows(as_json))
    return locking.write(build, installed, output)


def tool(tool: Tool, mirror: str, **given: Any) -> int:
    """Run an adapter's tool on a mirror. Raises MirrorError."""
    from .asking import Asker

    return tool.run(Asker(mirror, environment()), given)


def pin(installed: Sequence[Adapter], mirror: str, as_json: bool) -> int:
    """Print today's pin and the current instant. Raises MirrorError."""
    address = urlsplit(mirror)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise MirrorError("--mirror is not an http or https URL: use one like http://127.0.0.1:8080")
    from . import maintenance

    maintenance.pins(mirror.rstrip("/"), installed, Rows(as_json))
    return 0
