"""One upstream registry: observes its pages, keeps the log of what it showed, and finds its files."""

from __future__ import annotations

import logging
import re
import time
import zlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TypeAlias, TypeVar

import anyio
import anyio.to_thread
import msgspec

from httpcache.credentials import Credentials
from httpcache.errors import BadAddress, BadUpstream, NotFound, StoreError, redact
from httpcache.flight import Digest, Live, Passed
from httpcache.mirror import NOBODY, Expected, Mirror, Want
from httpcache.record import Record
from httpcache.store import Log, Store
from httpcache.target import Target, canonical_url, origin
from httpcache.upstream import Answer

from .coding import BadCoding, decoded
from .forms import parse
from .history import Entry, History, Missing, NotObserved, Observation, StaleObservation, decode_entry, encode_entry
from .metadata import SUFFIX, MetadataSource, metadata_url, read_bounded, settle
from .page import BadPage, File, Page, ProjectList, ProjectStatus, strongest
from .parsing import beside, in_parser
from .passes import Passes
from .when import date_from, to_segment

log = logging.getLogger("httpcache")

PYPI = "pypi"
"""The name of the built-in registry."""

# What is asked of every registry, whatever a client accepts: one representation of a page is observed and frozen.
INDEX_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"

SECOND_LOOK = 1.0  # seconds until a project that was there and now answers 404 is asked for again
RECENTLY = 5_000_000  # microseconds in which a registry is not asked again for a file that its page did not have
CLOCK_SKEW = 300_000_000  # microseconds that an observation may be ahead of the clock
HISTORIES = 256  # projects whose decoded log is kept in memory

_SERIAL = re.compile(r"[0-9]{1,18}")
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,200}"')
_SHA256 = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")
OnMissed: TypeAlias = Callable[[str, list[Missing], ProjectStatus | None], None]


def now() -> int:
    """Return the present instant in microseconds since the epoch."""
    return time.time_ns() // 1000


def token(file: File) -> str:
    """Return what stands for a file's content in its address: its sha256, or where the index has none, its URL's."""
    announced = file.hashes.get("sha256", "")
    return announced if _SHA256.fullmatch(announced) else f"url-{sha256(file.url.encode()).hexdigest()}"


@dataclass(frozen=True)
class View:
    """A project's page, None if there is no such project; and whether the registry was asked for it now.

    `owned`: there was such a project at the instant, or ever before. `status` is the project's as last observed, at
    whatever instant the page is.
    """

    page: Page | None
    observed: bool
    owned: bool
    status: ProjectStatus | None = None


@dataclass(frozen=True)
class Captured:
    """What a pass of the capture found of a project: whether the registry was `asked`, and had `changed` its page.

    `missing` are the files that were there once and are not now, `status` is the project's as last observed.
    """

    asked: bool
    changed: bool
    missing: list[Missing]
    status: ProjectStatus | None


class Later(BadUpstream):
    """The registry asks to come back later, or is in trouble: 429 or 5xx; `Retry-After` as it sent it.

    `for_all`: not only about this page (RFC 6585 section 4, RFC 9110 section 15.6.4).
    """

    def __init__(self, what: str, answer: Answer) -> None:
        after = answer.headers.get("retry-after")
        super().__init__(
            f"the registry answered {answer.status} for {what}", headers={"Retry-After": after} if after else None
        )
        self.for_all = answer.status in (429, 503)


class Registry:
    """A registry that the operator configured: it and the file links on its pages are trusted.

    `index` is the address of its simple index (PEP 503), with the slash at its end. `credentials` are the operator's,
    and go to the origin of `index` alone. `on_missed` is told when a request has found files missing that were there:
    the project, all that are missing, its status. It must not take long.
    """

    def __init__(self, name: str, index: str, mirror: Mirror, credentials: Credentials = NOBODY) -> None:
        self.name = name
        self.path = "" if name == PYPI else f"/{name}"
        """What its addresses on the mirror begin with, below the root path."""
        self._index = index
        self._credentials = credentials
        self._mirror = mirror
        self._max_page = mirror.settings.max_page
        self._histories: OrderedDict[str, _Known] = OrderedDict()
        self._names = Log(mirror.store, f"{name}/ logged")
        self._logged: dict[str, int] = {}  # with their numbers in the log
        self._noting = anyio.Lock()
        self.requests = 0
        """How many requests were made of the registry and of the hosts of its files."""
        self.passes = Passes(mirror.store, name)
        self.on_missed: OnMissed | None = None

    async def as_of(self, project: str, instant: int) -> View:
        """Return a project's page as it stood at an instant (microseconds).

        `project` is normalised (PEP 503). The registry is observed now if it was not at or after the instant.
        Raises BadAddress for an instant of which nothing can be known, and MirrorError where the registry cannot be
        observed: never a guess.
        """
        known = await self._known(project)
        observed = not known.covers(instant)
        if observed:
            async with known.observing:
                await known.read_log()
                await self._confirm(known, instant)
                if not known.covers(instant):
                    await self._observe_for(known)
        await self._note(known)
        _check_known(known, instant)
        try:
            page = await known.work(lambda history: history.as_of(instant))
            return View(page, observed, known.owned_by(instant), known.status)
        except NotObserved:
            raise BadUpstream(
                f"the registry gave a page of {project} that is older than the instant asked for "
                "(a cache on the way): ask again in some minutes",
                headers={"Retry-After": "60"},
            ) from None

    async def live(self, project: str, days: int) -> View:
        """Return a project's page now, less what is younger than so many days. Raises MirrorError."""
        asked = now()
        known = await self._known(project)
        async with known.observing:
            if known.asked < asked:  # else another request has asked since this one came
                with suppress(StaleObservation):  # a cache on the way: what is known is newer
                    await self._observe(known, always=False)
        await self._note(known)
        page = await known.work(lambda history: history.cooled(now(), days) if days else history.latest())
        return View(page, True, known.owned_by(known.instant), known.status)

    async def file(self, project: str, content: str, filename: str) -> File:
        """Return the listing of a file that any observation showed; observe the registry if none did.

        `content` is the file's `token`. Raises NotFound and other MirrorErrors.
        """
        known = await self._known(project)
        for attempt in range(2):
            for file in await known.work(lambda history: history.named(filename)):
                if token(file) == content:
                    return file
            if attempt:
                break
            async with known.observing:
                if known.asked < now() - RECENTLY:
                    with suppress(StaleObservation):
                        await self._observe(known, always=False)
        raise NotFound(f"the registry has not been seen to list {filename} of {project} with {content}")

    async def capture(self, project: str, serial: int | None) -> Captured:
        """Observe a project for a pass of the capture, unless its log has the serial that the list spoke of.

        Its history is not kept in memory: a pass goes over many. Raises StaleObservation where the registry's page is
        older than its list, and MirrorError.
        """
        known = _Known(project, Log(self._mirror.store, f"{self.name}/{project}"))
        await known.read_log()
        before = known.instant
        asked = serial is None or known.serial < serial
        if asked:
            await self._look(known, always=False, serial=serial)
        return Captured(asked, known.instant != before, await known.work(History.missing), known.status)

    async def status(self, project: str) -> ProjectStatus | None:
        """Return a project's status as last observed (PEP 792). Asks no upstream. Raises StoreError."""
        return (await self._known(project)).status

    async def open(self, project: str, file: File) -> Record | Live | Passed:
        """Return a file, frozen after its digest was checked. Raises MirrorError."""
        return await self._mirror.answer(self._target(project, file), self._want(project, file))

    async def open_metadata(self, project: str, file: File) -> Record | Live | Passed:
        """Return the metadata file of a wheel (PEP 658). Raises MirrorError."""
        return await self._mirror.answer(self._target(project, file, SUFFIX), self._metadata_want(project, file))

    async def freeze(self, project: str, file: File) -> Record | Passed:
        """Return a file once it is frozen and checked, or what the registry says now. Raises MirrorError."""
        return await self._mirror.whole(self._target(project, file), replace(self._want(project, file), anew=True))

    def _target(self, project: str, file: File, suffix: str = "") -> Target:
        address = f"{self.path}/files/{project}/{token(file)}/{file.filename}{suffix}"
        return Target(*address.removeprefix("/").split("/", 1))

    def _want(self, project: str, file: File) -> Want:
        async def expect() -> Expected:
            return Expected(file_digests(file), file.size)

        async def frozen(wheel: Record) -> None:
            if file.filename.endswith(".whl") and not metadata_digests(file):
                await settle(self._mirror, self._target(project, file, SUFFIX), Want(), file.filename, wheel)

        return Want(source=lambda: self._ask(file.url), expect=expect, frozen=frozen)

    def _metadata_want(self, project: str, file: File) -> Want:
        target, want = self._target(project, file), self._want(project, file)
        source = MetadataSource(
            filename=file.filename,
            url=file.url,
            own=(lambda: self._ask(metadata_url(file.url))) if file.core_metadata else None,
            frozen=lambda: self._mirror.frozen(target, want),
            ask=lambda headers: self._ask(file.url, headers),
            freeze=lambda: self._mirror.whole(target, want),
            path=self._mirror.store.blob_path,
            digests=file_digests(file),
            announced=bool(metadata_digests(file)),
        )

        async def expect() -> Expected:
            return Expected(metadata_digests(file))

        return Want(source=source, expect=expect)

    @asynccontextmanager
    async def _ask(self, url: str, headers: tuple[tuple[str, str], ...] = ()) -> AsyncIterator[Answer]:
        """Send a GET, with the operator's credentials where it goes to the registry's own origin.

        The answer says nothing of them: what they fetch is for everybody who can reach the mirror.
        """
        base, _, query = url.partition("?")
        self.requests += 1
        address = canonical_url(base, query)
        credentials = self._credentials if origin(address) == origin(self._index) else NOBODY
        async with self._mirror.upstream.ask(address, headers=headers, credentials=credentials, trusted=True) as answer:
            yield replace(answer, sent=())

    async def _known(self, project: str) -> _Known:
        known = self._histories.get(project)
        if known is None:
            known = self._histories[project] = _Known(project, Log(self._mirror.store, f"{self.name}/{project}"))
            while len(self._histories) > HISTORIES:
                self._histories.popitem(last=False)
        self._histories.move_to_end(project)
        await known.read_log()
        if known.instant > now() + CLOCK_SKEW:
            raise StoreError(
                f"{project} was observed in the future: the clock of this machine is wrong, or was when it was observed"
            )
        return known

    async def _confirm(self, known: _Known, instant: int) -> None:
        """Take from the last pass of the capture that a project had not changed, where an answer needs to know.

        It is appended to the project's log, so that the log alone decides what is answered now and later.
        """
        if not known.instant or known.covers(instant):
            return
        async with self._noting:
            number = (await self._read_names()).get(known.project)
        unchanged = await self.passes.unchanged(known.project, number, known.instant)
        if unchanged is not None and unchanged >= instant:
            await known.confirm(unchanged)

    async def _observe_for(self, known: _Known) -> None:
        """Observe for a date, which must not be answered from a stale page. Raises MirrorError."""
        with suppress(StaleObservation):
            return await self._observe(known, always=True)
        try:  # once more: another process may have asked at the same time, and have been answered later
            await self._observe(known, always=True)
        except StaleObservation as error:
            raise BadUpstream(f"the registry's page of {known.project} cannot be right: {error}") from error

    async def _observe(self, known: _Known, *, always: bool) -> None:
        """Observe for a request; what is missed is told to `on_missed`. Raises StaleObservation and MirrorError."""
        entry = await self._look(known, always=always)
        if self.on_missed and entry and (entry.missed or entry.gone):
            self.on_missed(known.project, await known.work(History.missing), known.status)

    async def _look(self, known: _Known, *, always: bool, serial: int | None = None) -> Entry | None:
        """Ask the registry for the page and append what changed; with `always` also that nothing did.

        `serial` is the least that the page must have. Returns what was appended, None where nothing was. Raises
        StaleObservation and MirrorError.
        """
        started = now()
        observation = await self._fetch(known.project, None if always else known.etag)
        if observation is not None and observation.page is None and known.has_page:
            await anyio.sleep(SECOND_LOOK)  # one answer of a proxy must not end a project
            observation = await self._fetch(known.project)
        known.asked = started
        if observation is None:
            return None
        if serial is not None and observation.page and serial > (observation.page.serial or 0):
            raise StaleObservation(f"the page has serial {observation.page.serial}, and {serial} is on the list")
        return await known.append(observation, always=always)

    async def _note(self, known: _Known) -> None:
        """Note that a project that is there was requested, for `logged`."""
        if known.noted or not known.has_page:
            return
        async with self._noting:
            while known.project not in await self._read_names():
                await self._names.append(len(self._logged), known.project.encode())
        known.noted = True

    async def logged(self) -> list[str]:
        """Return the names of the projects that were ever requested, and there when they were."""
        async with self._noting:
            return list(await self._read_names())

    async def _read_names(self) -> dict[str, int]:
        for value in await self._names.read(len(self._logged)):
            self._logged[value.decode()] = len(self._logged)
        return self._logged

    async def had(self, project: str, instant: int) -> bool:
        """Whether the log shows that there was such a project at an instant (microseconds). Asks no upstream."""
        known = await self._known(project)
        if not known.covers(instant):
            return False
        return await known.work(lambda history: history.as_of(instant)) is not None

    async def _fetch(self, project: str, etag: str | None = None) -> Observation | None:
        """Ask for a project's page; None if it is still the one with that entity tag (RFC 9110 section 13.1.2)."""
        got = await self._get(project, f"the page of {project}", etag)
        if got.answer.status == 304:
            return None
        page = await self._read(got, f"the page of {project}")
        if isinstance(page, ProjectList):
            raise BadUpstream(f"the registry answers a list of projects for the page of {project}")
        if page is None:
            return Observation(got.instant, None)
        tag = _etag(got.answer) if page.serial is None else None  # with serials the list tells what has changed
        return Observation(got.instant, msgspec.structs.replace(page, name=project), tag)

    async def fetch_list(self) -> tuple[int, Page | ProjectList | None]:
        """Ask the registry for its list of projects.

        Returns the instant (microseconds) that it shows, and the list, None for a 404. Raises MirrorError.
        """
        got = await self._get("", "the list of projects")
        return got.instant, await self._read(got, "the list of projects")

    async def _read(self, got: _Got, what: str) -> Page | ProjectList | None:
        body = got.body
        if body is None:
            return None
        if not got.answer.is_delimited and (await self._get(got.project, what)).body != body:
            raise BadUpstream(f"{what} came from the registry without a length, and differs when it is asked for again")
        return await in_parser(lambda: _parse(body, got.answer, self._max_page), len(body))

    async def _get(self, project: str, what: str, etag: str | None = None) -> _Got:
        started = now()
        headers = (("Accept", INDEX_ACCEPT), *((("If-None-Match", etag),) if etag else ()))
        async with self._ask(f"{self._index}{project}{project and '/'}", headers) as answer:
            instant = started - _age(answer) * 1_000_000
            if answer.status in (404, 410) or (answer.status == 304 and etag):
                return _Got(project, instant, answer, None)
            if answer.status == 429 or answer.status >= 500:
                raise Later(what, answer)
            if answer.status != 200:
                raise BadUpstream(f"the registry answered {answer.status} for {what}")
            self._check_own(answer, what)
            return _Got(project, instant, answer, await read_bounded(answer, self._max_page, what))

    def _check_own(self, answer: Answer, what: str) -> None:
        """Raise BadUpstream for another host's page in the place of a named registry's: it would own every name."""
        if self.path and origin(answer.url) != origin(self._index):
            raise BadUpstream(
                f"the registry redirects to {origin(answer.url)} for {what}, which is not its own page then "
                "(some forward names that they do not have: turn that off)"
            )


@dataclass(frozen=True)
class _Got:
    """An answer of the registry, the instant that it shows, and its body, None where there is no page in it."""

    project: str
    instant: int
    answer: Answer
    body: bytes | None


async def read_entries(store: Store, registry: str, project: str) -> list[Entry]:
    """Return the log of a project (normalised). Raises StoreError where it is damaged."""
    return [_decoded(project, value) for value in await Log(store, f"{registry}/{project}").read()]


def _decoded(project: str, value: bytes) -> Entry:
    try:
        return decode_entry(value)
    except (ValueError, zlib.error) as error:
        raise StoreError(f"the log of {project} is damaged: restore the store from a copy") from error


def file_digests(file: File) -> tuple[Digest, ...]:
    """Return the digest that the index announced of a file, if it did."""
    found = strongest(file.hashes)
    return (Digest(*found),) if found else ()


def metadata_digests(file: File) -> tuple[Digest, ...]:
    """Return the digest that the index announced of a file's metadata (PEP 658), if it did."""
    found = strongest(file.core_metadata) if isinstance(file.core_metadata, dict) else None
    return (Digest(*found),) if found else ()


class _Known:
    """What is known of a project: its history, as far as it has been read from the log.

    `observing` is held while the registry is asked, so that it is asked once. `asked`: when it was last asked, whether
    anything had changed or not. `noted`: the name is in the list of those that were requested.
    """

    def __init__(self, project: str, log: Log) -> None:
        self.project = project
        self.observing = anyio.Lock()
        self.asked = 0
        self.noted = False
        self._log = log
        self._length = 0
        self._history = History()
        self._working = anyio.Lock()  # a history may not grow while a thread reads it

    @property
    def instant(self) -> int:
        """When the last observation in the log was made."""
        return self._history.instant or 0

    @property
    def serial(self) -> int:
        """The newest serial seen, -1 for none."""
        return -1 if self._history.serial is None else self._history.serial

    @property
    def etag(self) -> str | None:
        """The entity tag of the page as last observed."""
        return self._history.etag

    @property
    def status(self) -> ProjectStatus | None:
        return self._history.status

    @property
    def earliest(self) -> int | None:
        return self._history.earliest

    def owned_by(self, instant: int) -> bool:
        """Whether there was such a project at an instant or ever before."""
        return self._history.first is not None and self._history.first <= instant

    @property
    def has_page(self) -> bool:
        """Whether the last observation found the project."""
        return self._history.exists

    def covers(self, instant: int) -> bool:
        return self._history.instant is not None and self._history.instant >= instant

    async def work(self, what: Callable[[History], T]) -> T:
        """Run what may take long for a page of megabytes beside the event loop."""
        async with self._working:
            return await beside(lambda: what(self._history), self._history.size)

    async def read_log(self) -> None:
        """Take in what other processes have appended. Raises StoreError."""
        async with self._working:
            for value in await self._log.read(self._length):
                self._take_in(_decoded(self.project, value))

    def _take_in(self, entry: Entry) -> None:
        try:
            self._history.extend(entry)
        except (StaleObservation, KeyError) as error:
            raise StoreError(f"the log of {self.project} is damaged: restore the store from a copy") from error
        self._length += 1

    async def append(self, observation: Observation, *, always: bool) -> Entry | None:
        """Append what an observation changed; with `always` also that nothing did. Raises StaleObservation.

        Returns what was appended, None where nothing was.
        """

        def entry(history: History) -> Entry | None:
            found = history.observe(observation)
            newer = observation.page is not None and (observation.page.serial or 0) > (history.serial or 0)
            return found if always or newer or found.changed else None

        size = len(observation.page.files) if observation.page else 0
        return await self._extend(observation.instant, entry, size)

    async def confirm(self, instant: int) -> None:
        """Append that nothing had changed by an instant."""
        await self._extend(instant, lambda history: Entry(instant, history.serial, etag=history.etag), 0)

    async def _extend(self, instant: int, make: Callable[[History], Entry | None], files: int) -> Entry | None:
        """Append what `make` makes of the history as it is by then; return what was appended.

        `files` is how many it has to do with.
        """

        def encoded() -> tuple[Entry, bytes] | None:
            entry = make(self._history)
            return (entry, encode_entry(entry)) if entry else None

        while not self.covers(instant):  # else another process has made a later one
            async with self._working:  # the entry belongs to this length: others may read on in the meantime
                made = await beside(encoded, files + self._history.size)
                if made is None:
                    return None
                entry, value = made
                if await self._log.append(self._length, value):
                    self._take_in(entry)
                    return entry
            await self.read_log()
        return None


def _check_known(known: _Known, instant: int) -> None:
    """Raise BadAddress for an instant of which nothing can be known."""
    if known.earliest is not None and instant < known.earliest:
        raise BadAddress(
            f"the registry does not say when the files of {known.project} were uploaded, so nothing is known of them "
            f"before they were first observed: ask for {to_segment(known.earliest)} or later; "
            f"the first date is {date_from(known.earliest)} (00:00 UTC)"
        )


def _parse(body: bytes, answer: Answer, limit: int) -> Page | ProjectList:
    try:
        plain = decoded(body, answer.headers.get("content-encoding"), limit)
        page = parse(plain, answer.headers.get("content-type"), answer.url)
    except (BadPage, BadCoding) as error:
        raise BadUpstream(f"{redact(answer.url)} is no index page: {error}") from error
    serial = answer.headers.get("x-pypi-last-serial", "")
    return msgspec.structs.replace(page, serial=int(serial)) if _SERIAL.fullmatch(serial) else page


def _etag(answer: Answer) -> str | None:
    """Return the entity tag of an answer (RFC 9110 section 8.8.3), None where it has none that can be sent back."""
    text = answer.headers.get("etag", "")
    return text if _ETAG.fullmatch(text) else None


def _age(answer: Answer) -> int:
    """Return how old the answer of a cache on the way is, in seconds (RFC 9111 section 5.1)."""
    text = answer.headers.get("age", "")
    return int(text) if text.isdecimal() and len(text) < 10 else 0
