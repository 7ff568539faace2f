"""Answers the addresses of the dated and live indexes, and of their files.

/<date>/<project>/   /<instant>/<project>/   /live/<project>/   /live-<N>d/<project>/
/files/<project>/<sha256>/<filename>         and the same with .metadata appended

/<date>/simple/ is also the project list, unless a project has that name, and /<date>/simple/<project>/ is the project.
/<date>/<project>/json, /<date>/pypi/<project>/json and /<date>/pypi/<project>/<version>/json follow PyPI's JSON API.
A named registry has the same addresses below its name. A group of registries has all of them except the files, which
are served at the addresses of their own registry.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from functools import partial
from urllib.parse import unquote

import anyio.to_thread
import msgspec
from packaging.utils import canonicalize_name
from starlette.types import ASGIApp

from httpcache.errors import BadAddress, NotFound, Refused
from httpcache.metrics import WITHHELD, Metrics
from httpcache.request import Request
from httpcache.store.record import Record
from httpcache.store.store import Store
from httpcache.store.usage import Subject
from httpcache.web.content_coding import Body
from httpcache.web.responses import HIT, RENEWED, STORED, BytesResponse, answer_with, redirect
from pypi_adapter.addresses import PYPI, AsOf, Now, When, is_when, meant, parse_when, segment
from pypi_adapter.instants import now
from pypi_adapter.policy.policy import Policy
from pypi_adapter.registry.metadata_source import SUFFIX
from pypi_adapter.registry.registry import View
from pypi_adapter.simple.json_api import project_json
from pypi_adapter.simple.model import SHA256, File, ProjectList, ProjectStatus, is_distribution, map_files

from .dated_pages import PASSING, led_below
from .groups import Source, all_names, first_with
from .index_response import chosen, index_response, page_response
from .read_ahead import ReadAhead

SIMPLE = "simple"
"""What some clients append to the address of an index, because PyPI's address ends with it."""

_PROJECT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_COLON = re.compile("%3A", re.IGNORECASE)  # clients percent-encode it
_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?")
_LIST = "public, max-age=600"


class Dated:
    """The dated and live views of one registry, or of several in their order of precedence.

    `path` is the prefix of its addresses below the root path: "" for the built-in registry, or "/<name>". `openers`:
    see `Rights.check_registries`. `read_ahead` is told what clients ask for.
    """

    def __init__(
        self,
        path: str,
        sources: Sequence[Source],
        openers: Sequence[Set[str]],
        store: Store,
        metrics: Metrics,
        read_ahead: ReadAhead | None = None,
    ) -> None:
        self._path = path
        self._sources = sources
        self._openers = openers
        self._store = store
        self._read_ahead = read_ahead
        self._metrics = metrics
        own = [source for source in sources if source.registry.path == path]
        self._own = own[0] if own else None  # a group has no files of its own

    async def answer(self, request: Request) -> ASGIApp | None:
        """Answer a request for one of the addresses above, or return None for any other. Raises MirrorError."""
        parts = request.path.removeprefix("/").split("/")
        if self._path:
            name, *parts = parts
            if f"/{name}" != self._path:  # compared as sent, undecoded; in an instant only the colon is decoded
                return None
        base = f"{request.root}{self._path}"
        own = self._own if parts[:1] == ["files"] else None
        first, *rest = [part for part in parts if part] or [""]
        when = None if own else parse_when(_COLON.sub(":", first), now())
        if self._path or own or when:
            request.rights.check_registries(self._title if self._path else f"{self._title} {PYPI}", self._openers)
        if own:
            return await self._file(request, own, base, [unquote(part) for part in parts[1:]])
        if when is None and self._path:  # below a name there are no pins of the generic mirror
            hint = meant(first, now(), base)
            raise BadAddress(hint) if hint else NotFound(self._how(base))
        if when is None:
            return None
        whole = "" not in parts[:-1]  # otherwise it has superfluous slashes
        return await self._view(request, when, f"{base}/{first}/", rest, whole=whole, slash=parts[-1] == "")

    def kind(self, path: str) -> str | None:
        """Return what a raw path is for: file, metadata, group, live or dated; None if it is of another kind."""
        first, *rest = path.removeprefix("/").split("/")
        if self._path:
            if f"/{first}" != self._path:
                return None
            first = next(filter(None, rest), "")
        if first == "files" and self._own:
            return "metadata" if path.endswith(SUFFIX) else "file"
        if not is_when(_COLON.sub(":", first)):
            return None
        if not self._own:
            return "group"
        return "live" if first.startswith("live") else "dated"

    async def _view(
        self, request: Request, when: When, prefix: str, rest: Sequence[str], *, whole: bool, slash: bool
    ) -> ASGIApp:
        """Answer a request for the rest of an address, after the date or `live`."""
        wanted = rest[1:] if len(rest) > 2 and rest[0] == SIMPLE else rest
        match wanted:
            case ["pypi", project, "json"]:
                return await self._json(request, when, unquote(project), None)
            case [project, "json"] if project != SIMPLE:  # simple/json is the page of a project named `json`
                return await self._json(request, when, unquote(project), None)
            case ["pypi", project, version, "json"]:
                return await self._json(request, when, unquote(project), unquote(version))
        if len(rest) == 2 and rest[0] == SIMPLE:  # some clients append it to the address of any index
            prefix, rest = f"{prefix}{SIMPLE}/", rest[1:]
        if len(rest) > 1:
            raise NotFound(f"there is no such page: an index is at {prefix}, a project at {prefix}<project>/")
        if rest:
            return await self._page(request, when, prefix, unquote(rest[0]), canonical=whole and slash)
        return await self._list(request, when, prefix) if whole else redirect(prefix)

    def _how(self, base: str) -> str:
        files = f", a file at {base}/files/<project>/<sha256>/<filename>" if self._own else ""
        return (
            f"{self._title} has its index at {base}/<date>/, a project at {base}/<date>/<project>/{files}; "
            "in place of <date>, use an instant, live or live-<N>d if you like"
        )

    @property
    def _title(self) -> str:
        name = self._path.removeprefix("/")
        return " ".join(filter(None, ("the registry" if self._own else "the group", name)))

    async def _page(self, request: Request, when: When, prefix: str, project: str, *, canonical: bool) -> ASGIApp:
        name = _normal(project)
        if name != project or not canonical:
            return redirect(f"{prefix}{name}/")
        source, view = await first_with(self._sources, name, when)
        page = view.page
        if page is None and name == SIMPLE and not prefix.endswith(f"/{SIMPLE}/"):
            return await self._list(request, when, f"{prefix}{SIMPLE}/")
        if page is None:
            raise self._none(name, when, source, view)
        if self._read_ahead:
            self._read_ahead.page(_agent(request), self._path, self._sources, when, name, source, view)
        media_type, policy = chosen(request.accept), await source.policy.current()
        slow = await source.registry.files.ranges.known_to_ignore(page.hosts)
        derived = not slow or len(slow) < len(page.hosts)
        body, cache_control = await source.pages.rendered(name, page, media_type, policy, view.status, derived=derived)
        status = _status(when, view.observed, view.stale)
        if request.root != request.root_path:
            body = led_below(body, media_type, request.root_path, request.root)
        subject = self._subject(when)
        return page_response(media_type, body, cache_control, status, subject=subject, lasting=not view.observed)

    async def _json(self, request: Request, when: When, project: str, version: str | None) -> ASGIApp:
        """Answer as PyPI's JSON API does, from the same history: pip-compile reads the digests from it.

        pip-compile compares absolute URLs, so this is the only answer whose links contain the `Host` of the request,
        and caches must not store it.
        """
        name = _normal(project)
        source, view = await first_with(self._sources, name, when)
        if view.page is None:
            raise self._none(name, when, source, view)
        page, policy = view.page, await source.policy.current()

        def render() -> bytes | None:
            kept = policy.page(page.page(), view.status)
            if not all("sha256" in file.hashes for file in kept.files):
                raise NotFound(
                    f"the registry does not announce a sha256 for every file of {name}, as this API requires: "
                    "use the simple index"
                )
            return project_json(map_files(kept, lambda file: _absolute(file, request)), version)

        body = await anyio.to_thread.run_sync(render)
        if body is None:
            raise NotFound(f"{name} has no version {version!r} {_phrase(when)}")
        status = _status(when, view.observed, view.stale)
        headers = {"cache-status": status}
        return BytesResponse(Body(body), "application/json", "no-store", headers, subject=self._subject(when))

    def _subject(self, when: When) -> Subject:
        """Return the index that is noted as used."""
        return Subject(f"{self._path}/{segment(when)}".removeprefix("/"))

    def _none(self, name: str, when: When, source: Source, view: View) -> NotFound:
        owned = f": it belongs to {source.registry.name}, which had it before" if view.owned and not self._own else ""
        return NotFound(f"{self._title} has no project {name} {_phrase(when)}{owned}")

    async def _list(self, request: Request, when: When, prefix: str) -> ASGIApp:
        names, observed = await all_names(self._sources, when)
        return await index_response(
            ProjectList(tuple(sorted(names))),
            request.accept,
            prefix=prefix,
            cache_control=_LIST if isinstance(when, AsOf) else PASSING,
            cache_status=_status(when, observed),
            subject=self._subject(when),
            lasting=isinstance(when, AsOf) and not observed,
        )

    def _check(self, policy: Policy, project: str, file: File, status: ProjectStatus | None) -> None:
        """Raise Refused if a file is withheld, and count that."""
        try:
            policy.check(project, file, status)
        except Refused:
            self._metrics.count(WITHHELD, self._path.removeprefix("/") or PYPI)
            raise

    async def _file(self, request: Request, source: Source, base: str, parts: list[str]) -> ASGIApp:
        if len(parts) != 3:
            raise NotFound(f"a file is at {base}/files/<project>/<sha256>/<filename>")
        project, content, filename = canonicalize_name(parts[0]), *parts[1:]
        wanted = filename.removesuffix(SUFFIX)
        if not _PROJECT.fullmatch(project) or not is_distribution(wanted):
            raise NotFound(f"a file is at {base}/files/<project>/<sha256>/<filename>")
        registry = source.registry
        listed = partial(registry.file, project, content, wanted)
        if SHA256.fullmatch(content) and await registry.files.is_frozen(project, content, filename):
            file = File(wanted, "", {"sha256": content})  # it was listed, or it would not be frozen
        else:
            file = await listed()
        status = await registry.status(project)
        policy = await source.policy.current()
        self._check(policy, project, file, status)
        find = None if file.url else listed
        if filename == wanted:
            whole = policy.needs_content(project, file)
            may_redirect = request.is_get and bool(SHA256.fullmatch(content))  # so its digest has been checked
            outcome = await registry.files.open(project, file, find, whole=whole, may_redirect=may_redirect)
            if isinstance(outcome, Record) and outcome.digest != content:  # the index may not have announced the sha256
                hashed = msgspec.structs.replace(file, hashes={"sha256": outcome.digest})
                self._check(await source.policy.current(), project, hashed, status)
            return answer_with(self._store, outcome, vary=None)
        if not wanted.endswith(".whl"):
            raise NotFound("only wheels have a metadata file here (PEP 658)")
        if self._read_ahead:
            self._read_ahead.metadata(_agent(request), source, project, file, find)
        return answer_with(self._store, await registry.files.open_metadata(project, file, find), vary=None)


def _normal(project: str) -> str:
    """Return the normalised name of a project (PEP 503). Raises NotFound if it is not a valid name."""
    if not _PROJECT.fullmatch(project):
        raise NotFound(f"{project[:100]!r} is not a valid project name (PEP 508)")
    return canonicalize_name(project)


def _agent(request: Request) -> str:
    return request.headers.get("user-agent", "")


def _absolute(file: File, request: Request) -> File:
    """Return a file with an absolute URL, as a client would resolve its link on a page."""
    host = request.headers.get("host", "")
    address = f"{request.scope['scheme']}://{host}" if _HOST.fullmatch(host) else ""
    return msgspec.structs.replace(file, url=address + request.link(file.url))


def _status(when: When, observed: bool, stale: str | None = None) -> str:
    """Return what the mirror did, for `Cache-Status` (RFC 9211).

    A live page is always requested again; if it is outdated, there is the reason (section 2.7).
    """
    if isinstance(when, AsOf):
        return STORED if observed else HIT
    if stale is None:
        return RENEWED
    detail = "".join(letter for letter in stale if " " <= letter <= "~" and letter not in '"\\')
    return f'{RENEWED}; detail="not the newest page of the registry: {detail}"'


def _phrase(when: When) -> str:
    return "now" if isinstance(when, Now) else "at that instant"
