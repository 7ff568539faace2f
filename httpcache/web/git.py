"""Git over HTTP: clones over the dumb protocol are frozen like files; the smart protocol cannot be frozen.

A smart server computes its response to each request (a POST), so there is nothing to freeze. A dumb server has only
files: the list of refs, and objects named by their content. https://git-scm.com/docs/http-protocol
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
    "git's smart protocol cannot be frozen, because a server's response depends on what a clone already has. "
    "Use a repository that is served as files (the dumb protocol, after `git update-server-info`), "
    "or the archive of a commit (/<pin>/https://host/.../<commit>.tar.gz)"
)


def is_git(request: Request) -> bool:
    """Whether this is a request from git for an upstream URL, under a pin."""
    agent = request.headers.get("user-agent", "")
    return agent.startswith("git/") and not request.raw and looks_like_url(split_path(request.path).rest)


async def answer_git(mirror: Mirror, request: Request) -> ASGIApp:
    """Answer a git request under a pin as a dumb server does. Raises MirrorError.

    Git requests the refs with a query that names the smart service; without that query, a server that supports both
    protocols answers with the dumb one. A missing file is part of the state of the repository, so its absence is frozen
    too, except that of the refs.
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
