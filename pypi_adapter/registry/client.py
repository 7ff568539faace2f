"""Sends requests to a registry: for the pages of its projects, for its list of projects, and for what these link to."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import msgspec

from httpcache.credentials import Credentials
from httpcache.errors import BadUpstream, Busy, TimedOut, Unreachable, redact
from httpcache.freezing.mirror import NOBODY, Mirror
from httpcache.target import canonical_url, origin, read_url
from httpcache.upstream.client import Headers, UpstreamResponse
from httpcache.upstream.decoding import BadCoding, decoded
from pypi_adapter.history.history import Observation
from pypi_adapter.instants import now
from pypi_adapter.offload import in_parser_thread
from pypi_adapter.simple.html_page import Asked
from pypi_adapter.simple.model import BadPage, Page, ProjectList
from pypi_adapter.simple.parser import parse

from .clock import shown_at
from .index_url import IndexUrlLog
from .rest import Rest, seconds_in

# Sent to every registry, whatever the client accepts: one representation of a page is observed and frozen.
INDEX_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"

# Caches on the way have to revalidate with the registry (RFC 9111 section 5.2.1.1).
_HEADERS = (("Accept", INDEX_ACCEPT), ("Accept-Encoding", "gzip"), ("Cache-Control", "max-age=0"))

# Some registries, such as devpi, show their index only to installers.
INSTALLER = "pip/25.0"

TROUBLE = 10.0  # seconds for which a registry that has failed is only asked for what somebody waits for

_SERIAL = re.compile(r"[0-9]{1,18}")
_RETRY_AFTER = re.compile(r"[0-9]{1,9}|[A-Za-z]{3,9}, [A-Za-z0-9: -]{1,40}")  # RFC 9110 section 10.2.3
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,200}"')


class RetryLater(BadUpstream):
    """The registry is overloaded or has failed: 429 or 5xx. Its `Retry-After` is passed on if it is valid.

    `for_all`: the answer is not only about this page (RFC 6585 section 4, RFC 9110 section 15.6.4).
    """

    def __init__(self, title: str, status: int, after: str | None) -> None:
        headers = {"Retry-After": after} if after and _RETRY_AFTER.fullmatch(after) else None
        super().__init__(f"the registry answered {status} for {title}", headers=headers)
        self.for_all = status in (429, 503)


class RegistryClient:
    """The HTTP client of one registry.

    `index` is the address of its simple index (PEP 503), with a trailing slash. `credentials` are the operator's and
    are sent only to the origin of `index`. `address` checks that the logs were made at this address. `strict`: pages
    from another origin are refused.
    """

    def __init__(
        self, index: str, mirror: Mirror, credentials: Credentials, address: IndexUrlLog, *, strict: bool
    ) -> None:
        self.requests = 0
        """The number of requests made."""
        self.rest = Rest()
        """The rest from requests that nobody waits for, after a 429, a 5xx or no answer."""
        self.private = bool(credentials.given or credentials.basic)
        """Whether requests have credentials: then a refusal does not mean that something does not exist."""
        self.index = index
        """The address of its simple index, without credentials."""
        self._credentials = credentials
        self._upstream = mirror.upstream
        self._max_page = mirror.settings.max_page
        self._strict = strict
        self._address: IndexUrlLog | None = address  # None once it is checked
        self.since = -1
        """When the registry moved to this address (microseconds), known after the first request; -1 if it never did."""

    async def page(self, project: str, etag: str | None = None) -> tuple[int, Observation | None]:
        """Fetch a project's page.

        Returns the instant (microseconds) that the answer shows, and the observation, None if the page still has that
        entity tag (RFC 9110 section 13.1.2). Raises MirrorError.
        """
        fetched = await self._get(project, f"the page of {project}", etag)
        if fetched.answer.status == 304:
            return fetched.instant, None
        page = await self._read(fetched, f"the page of {project}")
        if isinstance(page, ProjectList):
            raise BadUpstream(f"the registry answered with a list of projects for the page of {project}")
        if page is None:
            return fetched.instant, Observation(fetched.instant, None)
        return fetched.instant, Observation(
            fetched.instant, msgspec.structs.replace(page, name=project), _etag(fetched.answer)
        )

    async def list(self) -> tuple[int, Page | ProjectList | None]:
        """Fetch the registry's list of projects.

        Returns the instant (microseconds) that it shows, and the list, None if it does not exist or is refused: some
        registries show their projects but no list. Raises MirrorError.
        """
        fetched = await self._get("", "the list of projects", none=(401, 403, 405))
        return fetched.instant, await self._read(fetched, "the list of projects")

    async def _read(self, fetched: _Fetched, title: str) -> Page | ProjectList | None:
        body = fetched.body
        if body is None:
            return None
        if not fetched.answer.is_delimited and (await self._get(fetched.project, title)).body != body:
            raise BadUpstream(f"the registry sent {title} without a length, and a different one when asked again")
        kind = Page if fetched.project else ProjectList
        return await in_parser_thread(lambda: _parse(body, fetched.answer, self._max_page, kind), len(body))

    async def _get(self, project: str, title: str, etag: str | None = None, none: Container[int] = ()) -> _Fetched:
        """Fetch a page; 404, 410 and the statuses in `none` mean that it does not exist."""
        started = now()
        headers = (*_HEADERS, *((("If-None-Match", etag),) if etag else ()))
        async with self.ask(f"{self.index}{project}{project and '/'}", headers, INSTALLER) as answer:
            if answer.status == 429 or answer.status >= 500:
                raise RetryLater(title, answer.status, answer.headers.get("retry-after"))
            instant = shown_at(answer.headers, started, now())
            if answer.status in (404, 410) or answer.status in none or (answer.status == 304 and etag):
                return _Fetched(project, instant, answer, None)
            if answer.status != 200:
                raise BadUpstream(f"the registry answered {answer.status} for {title}")
            self._check_own(answer, title)
            return _Fetched(project, instant, answer, await answer.read(self._max_page, title))

    def _check_own(self, answer: UpstreamResponse, title: str) -> None:
        """Raise BadUpstream if another host answers for a named registry: it would own every name.

        That is dependency confusion.
        """
        if not self._strict or origin(answer.url) == origin(self.index):
            return
        if urlsplit(answer.url).hostname == urlsplit(self.index).hostname and answer.url.startswith("https:"):
            raise BadUpstream(
                f"the registry redirects from http to https for {title}: use https in the address of its index"
            )
        raise BadUpstream(
            f"the registry redirects to {origin(answer.url)} for {title}, so that is not its own page (dependency "
            "confusion): if the registry forwards names that it does not have, turn that off"
        )

    @asynccontextmanager
    async def ask(self, url: str, headers: Headers = (), agent: str = "") -> AsyncIterator[UpstreamResponse]:
        """Send a GET, with the operator's credentials if it goes to the registry's own origin.

        `agent` is the `User-Agent` product of a client that the registry may treat differently (see
        `UpstreamClient.ask`). The answer does not mention the credentials: what is fetched with them is for everybody
        who can reach the mirror.
        """
        if self._address:
            self.since = await self._address.check(canonical_url(self.index))
            self._address = None
        self.requests += 1
        address = read_url(url).wire
        credentials = self._credentials if origin(address) == origin(self.index) else NOBODY
        try:
            async with self._upstream.ask(
                address, headers=headers, credentials=credentials, agent=agent, trusted=True
            ) as answer:
                if answer.status == 429 or answer.status >= 500:
                    self.rest.extend(max(TROUBLE, seconds_in(answer.headers.get("retry-after", ""))))
                yield replace(answer, sent=())
        except (TimedOut, Unreachable, Busy):
            self.rest.extend(TROUBLE)
            raise


@dataclass(frozen=True)
class _Fetched:
    """An answer of the registry, the instant that it shows, and its body, None if it is not a page."""

    project: str
    instant: int
    answer: UpstreamResponse
    body: bytes | None


def _parse(body: bytes, answer: UpstreamResponse, limit: int, asked: Asked) -> Page | ProjectList:
    try:
        plain = decoded(body, answer.headers.get("content-encoding"), limit)
        page = parse(plain, answer.headers.get("content-type"), answer.base, asked)
    except (BadPage, BadCoding) as error:
        raise BadUpstream(f"{redact(answer.url)} is not an index page: {error}") from error
    serial = answer.headers.get("x-pypi-last-serial", "")
    return msgspec.structs.replace(page, serial=int(serial)) if _SERIAL.fullmatch(serial) else page


def _etag(answer: UpstreamResponse) -> str | None:
    """Return the entity tag of an answer (RFC 9110 section 8.8.3), None if it has none that can be sent back."""
    text = answer.headers.get("etag", "")
    return text if _ETAG.fullmatch(text) else None
