"""Plans what a Python build will ask an index for: METADATA and files of the releases that it will install."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain, product
from pathlib import Path

from packaging.utils import canonicalize_name

from httpcache.adapter import Build, Fetched, Unmet, Wish
from httpcache.errors import MirrorError
from pypi_adapter.installers.choice import fits_python, fits_tags, newest, releases
from pypi_adapter.installers.environment import Environment
from pypi_adapter.simple.model import BadPage, File, Page
from pypi_adapter.simple.parser import parse
from pypi_adapter.simple.versions import file_version, parse_version

from .locks import Locked, read_lock
from .platforms import PLATFORMS, environment, named
from .requirements_file import read_pinned
from .resolving import resolve

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.1, text/html;q=0.01"
PAGES_AT_ONCE = 8

Read = Callable[[str, str], Fetched]
Found = Iterable[Wish | Unmet]


class _Target:
    """An environment, and the names by which it was given."""

    def __init__(self, python: str, name: str) -> None:
        self.python = python
        self.name = name
        self.environment = environment(python, name)

    def __str__(self) -> str:
        return f"Python {self.python} on {self.name}"


def plan(build: Build, read: Read) -> Found | None:
    """Return what a build will ask for. Raises MirrorError.

    Of a lock file these are, unless environments are given, all the files that it pins. What a requirements file leaves
    open is resolved for each environment, or for that of this process. In an environment all its usable wheels are
    wanted, since a build's version of the libc is not known, or else the source distribution.
    """
    targets = [_Target(*each) for each in product(*_environments(build))] if build.pythons or build.platforms else []
    if build.file is None:
        return _each([partial(_newest, build, read, name, targets or [_here()]) for name in build.projects])
    text = _text(build.file)
    locked = read_lock(build.file.name, text)
    if locked is None:
        locked = read_pinned(text)
    if locked is None and build.only_pinned:
        raise MirrorError(f"{build.file} is no lock file: it does not pin a version with hashes for each requirement")
    if locked is None:
        resolving = [partial(_resolved, build, read, build.file, each) for each in targets or [_here()]]
        return _each(resolving, at_once=1)
    return _locked(build, read, locked, targets)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise MirrorError(f"{file} cannot be read: {error}") from error


def _environments(build: Build) -> tuple[Sequence[str], Sequence[str]]:
    return build.pythons or (platform.python_version(),), build.platforms or (this_platform(),)


def _here() -> _Target:
    return _Target(platform.python_version(), this_platform())


def this_platform() -> str:
    """Return the name of the platform of this machine. Raises MirrorError."""
    name = named(platform.system(), platform.machine(), "musl" if "musl" in platform.libc_ver()[0] else "")
    if name is None:
        raise MirrorError(f"the platform of this machine is not known: name one of {', '.join(PLATFORMS)} (--platform)")
    return name


def _each(work: Sequence[Callable[[], Found]], at_once: int = PAGES_AT_ONCE) -> Iterator[Wish | Unmet]:
    with ThreadPoolExecutor(at_once) as pool:
        yield from chain.from_iterable(pool.map(lambda each: list(each()), work))


def _resolved(build: Build, read: Read, file: Path, target: _Target) -> Found:
    try:
        found = resolve(file, f"{build.index}/", target.python, PLATFORMS[target.name].target)
    except MirrorError as error:
        return [Unmet(f"{file} for {target}", error.text)]
    return _locked(build, read, [replace(each, marker=None) for each in found], [target])


def _locked(build: Build, read: Read, locked: Iterable[Locked], targets: Sequence[_Target]) -> Found:
    return _each([partial(_release, build, read, each, targets) for each in locked])


def _release(build: Build, read: Read, locked: Locked, targets: Sequence[_Target]) -> Found:
    """Yield what a build will ask for to install a release."""
    title = f"{locked.name} {locked.version}".strip()
    if locked.elsewhere:
        yield Unmet(title, f"it does not come from an index but from {locked.elsewhere}: warm a pin with its URL")
        return
    wanted = [each for each in targets if locked.marker is None or _holds(locked, each.environment)]
    if targets and not wanted:
        return
    try:
        page = read_page(read, f"{build.index}/{locked.name}/")
    except MirrorError as error:
        yield Unmet(title, error.text)
        return
    files = [file for file in page.files if _is_of(file, page, locked)]
    if not files:
        yield Unmet(title, "the index has no file of it" + (" with a locked hash" if locked.hashes else ""))
    elif not targets:
        yield from (Unmet(title, f"the index has no file of it with the locked {each}") for each in _lost(page, locked))
        yield from _asked_for(build, files)
    for target in wanted:
        fitting = usable(files, target.environment)
        if files and not fitting:
            yield Unmet(title, f"none of its files is for {target}")
        yield from _asked_for(build, fitting)


def _newest(build: Build, read: Read, project: str, targets: Sequence[_Target]) -> Found:
    """Yield what a build will ask for to install the newest version of a project."""
    try:
        page = read_page(read, f"{build.index}/{canonicalize_name(project)}/")
    except MirrorError as error:
        yield Unmet(project, error.text)
        return
    for target in targets:
        found = next(newest(releases(page), target.environment, ()), None)
        if found is None:
            yield Unmet(project, f"it has no wheel for {target}")
            continue
        version = Locked(canonicalize_name(project), str(found[0]))
        files = [file for file in page.files if _is_of(file, page, version)]
        yield from _asked_for(build, usable(files, target.environment))


def read_page(read: Read, url: str) -> Page:
    """Return the page of a project at a URL of a mirror. Raises NotFound, MirrorError."""
    fetched = read(url, ACCEPT)
    try:
        page = parse(fetched.body, fetched.media_type, fetched.url, Page)
    except BadPage as error:
        raise MirrorError(f"{fetched.url} is not an index page: {error}") from error
    if not isinstance(page, Page):
        raise MirrorError(f"{fetched.url} is not the page of a project")
    return page


def _holds(locked: Locked, environment: Environment) -> bool:
    return locked.marker is None or locked.marker.evaluate({**environment.markers, "extra": ""})


def _is_of(file: File, page: Page, locked: Locked) -> bool:
    """Whether a file is one of a pinned release."""
    if locked.hashes and not locked.hashes & {f"{kind}:{value}" for kind, value in file.hashes.items()}:
        return False
    version = file_version(file.filename, page.versions or ())
    if version is None or not locked.version:
        return bool(locked.hashes)
    return version == locked.version or _same(version, locked.version)


def _lost(page: Page, locked: Locked) -> list[str]:
    """Return the locked hashes that no file has, of those algorithms of which the page has hashes."""
    known = [pair for file in page.files for pair in file.hashes.items()]
    kinds = {kind for kind, _ in known}
    return sorted(
        each for each in locked.hashes - {":".join(pair) for pair in known} if each.partition(":")[0] in kinds
    )


def _same(one: str, other: str) -> bool:
    found = parse_version(one)
    return found is not None and found == parse_version(other)


def usable(files: Sequence[File], environment: Environment) -> list[File]:
    """Return the wheels that can be installed, or else the source distributions. Pinned files may be yanked."""
    fitting = [file for file in files if fits_python(file, environment)]
    wheels = [file for file in fitting if fits_tags(file.filename, environment)]
    return wheels or [file for file in fitting if not file.filename.endswith((".whl", ".egg", ".exe", ".msi"))]


def _asked_for(build: Build, files: Iterable[File]) -> Iterator[Wish]:
    """Yield the URLs of files, and of their METADATA first."""
    for file in files:
        if file.core_metadata and not build.only_pinned:
            yield Wish(f"{file.url}.metadata", f"{file.filename}.metadata")
        yield Wish(file.url, file.filename)
