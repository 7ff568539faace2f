"""What git asks of an HTTP server: clones by the dumb protocol are frozen like files, the smart one cannot be.

A smart server answers each request (a POST) as it sees fit, so there is nothing to freeze. A dumb one has files: the
list of refs, and objects named by their content. https://git-scm.com/docs/http-protocol
"""

from __future__ import annotations

from starlette.types import ASGIApp

from httpcache.freezing.flight import PassedThrough
from httpcache.freezing.mirror import Mirror, Want
from httpcache.request import Request
from httpcache.target import Target, looks_like_url, split_path

from .responses import answer_with
from .sending import text

SERVICE = "service=git-upload-pack"
SMART = (
    "git's smart protocol cannot be frozen, since what a server answers depends on what a clone already has. "
    "What works behind a pin: a repository that is served as files (after `git update-server-info`), "
    "and archives of a commit (/<pin>/https://host/.../<commit>.tar.gz)"
)


def is_git(request: Request) -> bool:
    """Whether git asks for something under a pin."""
    agent = request.headers.get("user-agent", "")
    return agent.startswith("git/") and not request.raw and looks_like_url(split_path(request.path).rest)


async def answer_git(mirror: Mirror, request: Request) -> ASGIApp:
    """Answer a request of git under a pin, as a server of files does. Raises MirrorError.

    git asks for the refs with a query that names the smart service; without it a server that speaks both answers as a
    dumb one. A file that is not there is part of the repository as it was, so that is frozen too.
    """
    asked = request.target
    refs = asked.url.endswith(f"/info/refs?{SERVICE}")
    target = Target(asked.pin, _plain(asked.url), _plain(asked.wire)) if refs else asked
    credentials = mirror.credentials(target, request.credentials)
    outcome = await mirror.answer(target, Want(credentials=credentials, freeze_absence=not refs))
    response = answer_with(mirror.store, outcome, pinned=request.pinned)
    refused = isinstance(outcome, PassedThrough) and outcome.status != 401
    return text(501, SMART) if refs and refused else response


def _plain(url: str) -> str:
    return url.partition("?")[0]
