"""Asks a running mirror as a client does: for commands that work from another machine."""

from __future__ import annotations

import base64
import http.client
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, cast
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import ProxyHandler, Request, build_opener

from httpcache import only_if_cached
from httpcache.access_keys import key_of
from httpcache.adapter import Fetched
from httpcache.errors import MirrorError, NotFound, one_line, redact

TRIES = 5
FIRST_PAUSE = 1.0  # seconds; twice as long each time
LONGEST_PAUSE = 60.0  # seconds
SILENCE = 120.0  # seconds without a byte
CHUNK = 1 << 18
LARGEST_PAGE = 512 << 20  # bytes
_LACKS = {504: "not frozen here", 403: "withheld here"}


class Drained(NamedTuple):
    """A file that the mirror has sent: its size in bytes, and whether the mirror had it already."""

    size: int
    was_there: bool


class Asker:
    """A client of the mirror at a URL, whose login is sent along (Basic). No proxy is used. Threads may share it.

    An access key among the login goes into `url` instead, so that programs that are given the URL can use it, too.
    With `only_stored`, the mirror answers from its store alone (RFC 9111 section 5.2.1.7).
    """

    def __init__(self, mirror: str, environment: Mapping[str, str] | None = None, *, only_stored: bool = False) -> None:
        """Raise MirrorError if it is not the address of a mirror."""
        self.environment = environment or {}
        address = urlsplit(mirror)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise MirrorError(f"{redact(mirror)} is not an http or https URL: use one like http://127.0.0.1:8080")
        login, _, host = address.netloc.rpartition("@")
        self.url = urlunsplit((address.scheme, host, address.path.rstrip("/"), "", ""))
        self._headers = {"User-Agent": "httpcache"}
        if only_stored:
            self._headers["Cache-Control"] = only_if_cached.DIRECTIVE
        authorization = f"Basic {base64.b64encode(unquote(login).encode()).decode()}"
        if key := key_of(authorization):
            self.url += f"/k/{key}"
        elif login:
            self._headers["Authorization"] = authorization
        self._opener = build_opener(ProxyHandler({}))

    def read(self, url: str, accept: str) -> Fetched:
        """Return what a URL answers. Raises MirrorError."""
        with _told(), self._opened(url, {"Accept": accept}) as answer:
            body = answer.read(LARGEST_PAGE)
            return Fetched(answer.url, answer.headers.get("Content-Type", ""), body)

    def drain(self, url: str) -> Drained:
        """Read all of a file and keep nothing of it: then the mirror has it whole. Raises MirrorError."""
        with _told(), self._opened(url, {}) as answer:
            size = 0
            while piece := answer.read(CHUNK):
                size += len(piece)
            if answer.length:
                raise MirrorError("the mirror broke off: see its log")
            return Drained(size, "; hit" in answer.headers.get("Cache-Status", ""))

    def lack(self, url: str) -> str | None:
        """Return why a URL does not have a whole file, None if it has. Raises MirrorError if that is not known."""
        try:
            with self._opened(url, {}, method="HEAD"):
                return None
        except HTTPError as error:
            if error.code in (401, 403, 404, 410, 504):
                return _LACKS.get(error.code, f"the mirror answers {error.code}")
            raise MirrorError(f"the mirror answers {error.code} for {redact(url)}") from error
        except URLError as error:
            raise MirrorError(f"the mirror cannot be reached ({error.reason}): is it running?") from error

    def _opened(self, url: str, headers: dict[str, str], method: str = "GET") -> http.client.HTTPResponse:
        request = Request(url, headers=self._headers | headers, method=method)  # noqa: S310 - __init__ has checked the scheme
        for attempt in range(TRIES):
            try:
                return cast("http.client.HTTPResponse", self._opener.open(request, timeout=SILENCE))
            except HTTPError as error:
                if error.code not in (429, 503) or attempt == TRIES - 1:
                    raise
                with error:
                    time.sleep(_pause(error, attempt))
        raise AssertionError("the last try returns or raises")


def _pause(error: HTTPError, attempt: int) -> float:
    asked = error.headers.get("Retry-After", "")
    return min(float(asked) if asked.isdecimal() else FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)


@contextmanager
def _told() -> Iterator[None]:
    """Raise MirrorError with what the mirror says, or with why it cannot be reached."""
    try:
        yield
    except HTTPError as error:
        with error:
            text = one_line(error.read(2000).decode("utf-8", "replace").strip())
        raise (NotFound if error.code == 404 else MirrorError)(f"{error.code}: {text}") from error
    except URLError as error:
        raise MirrorError(f"the mirror cannot be reached ({error.reason}): is it running?") from error
    except (OSError, http.client.HTTPException) as error:
        raise MirrorError(f"the mirror broke off ({error!r})") from error
