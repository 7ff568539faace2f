"""What became of each request: how it was answered, how many bytes were sent, and how long it took."""

from __future__ import annotations

from bisect import bisect_left

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Scope, Send

from httpcache.metrics import SECONDS, Metrics
from httpcache.store.recorder import Recorder
from httpcache.store.usage import Journal, Uses

from .labels import labelled
from .response_cache import CachedResponse
from .sending import Answer

OWN, PINNED, UNKNOWN = "own", "pinned", "other"
"""Kinds of what is asked for: the mirror's own addresses, those behind a pin, and no address of the mirror at all."""
SHORTEST = SECONDS[0]  # of the buckets: nearly every hit is in it
MEMORY = "memory"
"""The result of an answer that was kept ready."""


class Sent:
    """Passes the messages of a response on, and counts."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.bytes = 0
        self.cache_status = ""
        self._length = 0

    async def __call__(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            self.status = message["status"]
            self.cache_status = headers.get(b"cache-status", b"").decode("latin-1")
            self._length = int(headers.get(b"content-length", 0))
        elif message["type"] == "http.response.pathsend":
            self.bytes = self._length
        else:
            self.bytes += len(message.get("body", b""))
        await self._send(message)


class Accounts:
    """Counts answers for the metrics and the usage journal, and records what builds take.

    To count an answer that was ready is part of each hit; what a build gets is never ready.
    """

    def __init__(self, metrics: Metrics, journal: Journal, recorder: Recorder) -> None:
        self._metrics = metrics
        self._journal = journal
        self._recorder = recorder

    def ready(self, answer: CachedResponse, scope: Scope, seconds: float) -> None:
        """Count an answer that was ready."""
        answers = answer.answers
        if answers is not None:
            answers.bytes += answer.length
            answers.sum += seconds
            answers.buckets[bisect_left(SECONDS, seconds) if seconds > SHORTEST else 0] += 1
        uses = answer.uses
        if uses is not None:
            client = scope["client"]
            name = client[0] if client else ""
            if name in uses.clients:
                uses.clients[name] += 1
            else:
                self._journal.begin(uses, name)

    def counted(self, answer: CachedResponse, kind: str) -> CachedResponse:
        """Return an answer that is to be kept ready, with where it is counted."""
        uses = Uses(answer.subject, answer.length) if answer.subject else None
        return answer._replace(answers=self._metrics.answers(kind, MEMORY), uses=uses)

    def made(self, kind: str, sent: Sent, scope: Scope, seconds: float, response: ASGIApp | None = None) -> None:
        """Count any other answer."""
        answers = self._metrics.answers(kind, result(sent.status, sent.cache_status))
        answers.bytes += sent.bytes
        answers.note(seconds)
        if isinstance(response, Answer) and 0 < sent.status < 400:
            if response.subject:
                client = scope["client"]
                self._journal.note(response.subject, client[0] if client else "", sent.bytes)
            build = labelled(scope)
            if build:
                agent = Headers(scope=scope).get("user-agent", "")
                taken = response.record if scope["method"] == "GET" else None
                self._recorder.note(build.label, build.through, agent, taken)


def result(status: int, cache_status: str) -> str:
    """Return what an answer counts as, by its status and what it says in `Cache-Status` (RFC 9211).

    Errors count by the class of their status. "engine" is what came from another machine of the store, "aborted" what
    had no answer because the client left.
    """
    if status == 0:
        return "aborted"
    if status >= 400:
        return f"error_{status // 100}xx"
    if "fwd=stale" in cache_status:
        return "revalidated"
    if "fwd=" in cache_status:
        return "shared" if "collapsed" in cache_status else "fetched"
    if "hit" in cache_status:
        return "engine" if "recalled" in cache_status or status == 307 else "disk"
    return "made"
