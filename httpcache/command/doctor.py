"""`httpcache doctor`: looks at all that a mirror needs, and says of what is wrong what to do.

It changes nothing. To an object store it writes a probe, which it removes.

Each check is a function that yields findings; one that fails unexpectedly is a finding itself.
"""

from __future__ import annotations

import platform
import resource
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from os import cpu_count
from pathlib import Path
from sqlite3 import sqlite_version
from tempfile import TemporaryDirectory

from httpcache import __version__
from httpcache.adapter import Adapter, Followed
from httpcache.errors import MirrorError, one_line, redact
from httpcache.settings import Settings
from httpcache.store.opening import opened
from httpcache.store.store import Store
from httpcache.units import span

from .folder_check import check_folder, reading
from .health import OK, PROBLEM, WARNING, Finding
from .options import mistyped
from .rows import Rows

CLOCK = 60.0  # seconds by which the clock may differ from an upstream's: with more, nothing is observed
OLD = 2 * 86_400.0  # seconds after which the last capture should have been followed by another
SLOW = 0.5  # seconds for an answer of an engine
OWN_HANDLES = 256  # that a process needs besides those of connections
PACKAGES = ("anyio", "granian", "httpcore", "httpx", "lxml", "starlette", "uvloop", "psycopg", "obstore")


class _NoChallenges:
    """Remembers nothing: the doctor changes no store."""

    async def realm(self, url: str, prefix: str) -> None:
        """Return that nothing is known."""

    async def note(self, url: str, prefix: str, realm: str) -> None:
        """Do nothing."""


async def examine(
    settings: Settings, installed: Sequence[Adapter], variables: Mapping[str, str], known: Sequence[str], rows: Rows
) -> int:
    """Print a finding for each thing that was looked at. Returns 1 if there is a problem, else 0.

    `variables` is the environment, and `known` the names of the variables that are settings.
    """
    worst = OK
    async for found in _findings(settings, installed, variables, known):
        worst = max(worst, found.level, key=[OK, WARNING, PROBLEM].index)
        advice = f"\n           {found.advice}" if found.advice else ""
        text = f"{found.level:8} {found.check}: {one_line(found.text)}{advice}"
        rows.add(text, check=found.check, level=found.level, finding=found.text, advice=found.advice)
    return 1 if worst == PROBLEM else 0


async def _findings(
    settings: Settings, installed: Sequence[Adapter], variables: Mapping[str, str], known: Sequence[str]
) -> AsyncIterator[Finding]:
    for found in (*_versions(), *_settings(settings, variables, known), *_handles(settings)):
        yield found
    sound = True
    if settings.location.is_embedded:
        for found in check_folder(settings.data, offline=settings.offline):
            sound = sound and found.level != PROBLEM
            yield found
        sound = sound and (settings.data / "VERSION").exists()  # else there is no store yet
    followed = [(adapter, each) for adapter in installed for each in adapter.followed(settings)]
    if settings.blobs:
        with suppress(ImportError):  # of what is missing `engines` tells
            from .blob_check import check_blobs

            yield await check_blobs(settings.blobs)
    if sound:
        async for found in _store(settings, followed):
            yield found
    async for found in _upstreams(settings, [each for _, each in followed]):
        yield found


def _versions() -> list[Finding]:
    there = []
    for name in PACKAGES:
        try:
            there.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # of an extra
            continue
    own = [f"httpcache {__version__}", f"Python {platform.python_version()}", f"SQLite {sqlite_version}"]
    return [Finding("versions", OK, ", ".join([*own, ssl.OPENSSL_VERSION, *there]))]


def _settings(settings: Settings, variables: Mapping[str, str], known: Sequence[str]) -> list[Finding]:
    found = [Finding("settings", WARNING, line, "correct its name, or unset it") for line in mistyped(variables, known)]
    wide = [network for network in settings.allow_networks if network.prefixlen == 0]
    if wide:
        text = f"--allow-network {wide[0]} lets every client reach every machine that the mirror can reach (SSRF)"
        found.append(Finding("settings", WARNING, text, "name only the networks of your registries"))
    if settings.proxy:
        text = "with --proxy, addresses are checked before the proxy resolves them, and not after"
        found.append(Finding("settings", WARNING, text, "let the proxy refuse internal addresses too"))
    cores = cpu_count() or 1
    if settings.workers > cores:
        text = f"--workers {settings.workers} is more than this machine has cores ({cores})"
        found.append(Finding("settings", WARNING, text, f"use up to {cores}"))
    if settings.shared:
        text = f"every client may read the private copies under {', '.join(settings.shared)} (--share)"
        found.append(Finding("settings", WARNING, text, "check that the network lets only those in who may"))
    return found or [Finding("settings", OK, "they do not contradict each other")]


def _handles(settings: Settings) -> list[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * settings.max_clients + 2 * settings.max_connections + OWN_HANDLES
    if hard != resource.RLIM_INFINITY and hard < needed:
        text = f"a process may open {hard} files, and {settings.max_clients} clients can need {needed}"
        advice = "raise the limit (LimitNOFILE, ulimit -Hn), or lower --max-clients"
        return [Finding("file handles", WARNING, text, advice)]
    return [Finding("file handles", OK, "the limit of open files fits --max-clients")]


async def _store(settings: Settings, followed: Sequence[tuple[Adapter, Followed]]) -> AsyncIterator[Finding]:
    """Yield what can be told of an open store: how fast its engines answer, and the last captures."""
    where = "index" if settings.location.is_embedded else "engines"
    try:
        if settings.location.is_embedded:
            async with reading(settings.data) as store:
                async for found in _opened(settings, followed, store, where):
                    yield found
            return
        with TemporaryDirectory(prefix="httpcache-") as folder:
            async with opened(replace(settings.location, data=Path(folder))) as store:
                async for found in _opened(settings, followed, store, where):
                    yield found
    except MirrorError as error:
        yield Finding(where, PROBLEM, error.text, "see the text")


async def _opened(
    settings: Settings, followed: Sequence[tuple[Adapter, Followed]], store: Store, where: str
) -> AsyncIterator[Finding]:
    began = time.monotonic()
    pins = await store.index.pins()
    took = time.monotonic() - began
    text = f"{sum(pin.entries for pin in pins)} entries of {len(pins)} pins; answered in {1000 * took:.0f} ms"
    slow = "the machine or its disk is busy, or the network to the database is slow"
    yield Finding(where, WARNING if took > SLOW else OK, text, slow if took > SLOW else None)
    for adapter, each in followed:
        try:
            captured = await adapter.last_capture(store, each.name)
        except MirrorError as error:
            yield Finding(f"captures of {each.name}", PROBLEM, error.text, "restore the data folder from a backup")
            continue
        if found := _capture(each.name, captured, settings):
            yield found


def _capture(name: str, captured: tuple[float, int] | None, settings: Settings) -> Finding | None:
    check, due = f"captures of {name}", settings.capture or settings.capture_every is not None
    if captured is None:
        advice = "look at the log of the server, or run `httpcache capture` to see why"
        return Finding(check, WARNING, "none has been completed yet", advice) if due else None
    age, failed = time.time() - captured[0], captured[1]
    text = f"the last one was completed {span(age)} ago{f', without {failed} projects that failed' if failed else ''}"
    if due and age > OLD:
        return Finding(check, WARNING, text, "look at the log of the server, or run `httpcache capture` to see why")
    tried = "the next one tries them again; `httpcache captures --json` names them" if failed else None
    return Finding(check, WARNING if failed else OK, text, tried)


async def _upstreams(settings: Settings, followed: Sequence[Followed]) -> AsyncIterator[Finding]:
    """Ask each registry once, as a server does."""
    from httpcache.metrics import Metrics
    from httpcache.upstream.client import UpstreamClient

    if settings.offline:
        yield Finding("upstreams", OK, "not asked, because of --offline")
        return
    client = UpstreamClient(settings, _NoChallenges(), "httpcache-doctor", Metrics(), "(doctor)")
    try:
        for each in followed:
            began = time.time()
            try:
                async with client.ask(each.url, credentials=each.credentials, trusted=True) as response:
                    status, date = response.status, response.headers.get("date")
            except MirrorError as error:
                yield Finding(f"upstream {each.name}", PROBLEM, error.text, "check name, network, proxy and CA bundle")
                continue
            yield _answered(each, status, time.time() - began)
            yield _clock(each.name, date, began, time.time())
    finally:
        await client.aclose()


def _answered(each: Followed, status: int, took: float) -> Finding:
    check, text = f"upstream {each.name}", f"{redact(each.url)} answered {status} in {1000 * took:.0f} ms"
    if status in (401, 403):
        return Finding(check, PROBLEM, text, "check the credentials of this registry in the settings file")
    return Finding(check, WARNING, text, "check its address") if status >= 400 else Finding(check, OK, text)


def _clock(name: str, date: str | None, began: float, ended: float) -> Finding:
    """Compare this machine's clock with the `Date` of an answer (RFC 9110 section 6.6.1)."""
    try:
        there = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return Finding("clock", WARNING, f"{name} sends no Date to compare the clock with", None)
    off = max(began - there - 1, there - ended, 0.0)
    ahead = "ahead of" if began > there else "behind"
    if off > CLOCK:
        text = f"this machine's clock is {span(off)} {ahead} {name}'s: nothing is observed until they agree"
        return Finding("clock", PROBLEM, text, "set it (NTP); if it was ahead, see `httpcache undo-future`")
    return Finding("clock", OK, f"it agrees with {name}'s")
