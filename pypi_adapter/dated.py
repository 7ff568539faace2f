"""The addresses of the dated and live indexes, and of their files.

/<date>/<project>/   /<instant>/<project>/   /live/<project>/   /live-<N>d/<project>/
/files/<project>/<sha256>/<filename>         and the same with .metadata behind it
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

import msgspec
from packaging.utils import canonicalize_name
from starlette.types import ASGIApp

from httpcache.errors import NotFound
from httpcache.incoming import Incoming
from httpcache.mirror import Mirror
from httpcache.responses import FOREVER, HIT, RENEWED, STORED, answer_with, redirect

from .catalog import Catalog
from .metadata import SUFFIX
from .page import File, ProjectList, is_distribution
from .registry import Registry, now, token
from .render import advertised, index_response
from .rulebook import Rulebook
from .when import AsOf, Now, When, parse_when

_PROJECT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_DATED = f"public, {FOREVER}"
_LIVE = "public, max-age=60"
_LIST = "public, max-age=600"


class Dated:
    """The dated and live views of one registry."""

    def __init__(self, registry: Registry, mirror: Mirror, rulebook: Rulebook) -> None:
        self._registry = registry
        self._rulebook = rulebook
        self._catalog = Catalog(registry, mirror)
        self._store = mirror.store

    async def answer(self, incoming: Incoming) -> ASGIApp | None:
        """Answer the addresses above, None for others. Raises MirrorError."""
        first, *rest = incoming.path.removeprefix("/").split("/")
        if first == "files":
            return await self._file([unquote(part) for part in rest])
        when = parse_when(unquote(first), now())
        if when is None:
            return None
        prefix = f"{incoming.root}/{first}/"
        project, *rest = rest or [""]
        if rest not in ([], [""]):
            raise NotFound(f"there is no such page: an index is at {prefix}, a project at {prefix}<project>/")
        if not project:
            return await self._list(incoming, when, prefix)
        return await self._page(incoming, when, prefix, unquote(project), slash=bool(rest))

    async def _page(self, incoming: Incoming, when: When, prefix: str, project: str, *, slash: bool) -> ASGIApp:
        if not _PROJECT.fullmatch(project):
            raise NotFound(f"{project[:100]!r} is no name of a project (PEP 508)")
        name = canonicalize_name(project)
        if name != project or not slash:
            return redirect(f"{prefix}{name}/")
        if isinstance(when, AsOf):
            view = await self._registry.as_of(name, when.instant)
        else:
            exempt = (await self._rulebook.current()).exempt
            view = await self._registry.live(name, 0 if name in exempt else when.days)
        if view.page is None:
            raise NotFound(f"the registry has no project {name} {_phrase(when)}")
        page = (await self._rulebook.current()).page(view.page, view.status)
        lasting = isinstance(when, AsOf) and page is view.page  # what is withheld can be had again later
        return await index_response(
            page,
            incoming.accept,
            link=lambda file: _linked(file, incoming.root, name),
            prefix=prefix,
            cache_control=_DATED if lasting else _LIVE,
            cache_status=_status(when, observed=view.observed),
        )

    async def _list(self, incoming: Incoming, when: When, prefix: str) -> ASGIApp:
        if isinstance(when, AsOf):
            page, observed = await self._catalog.as_of(when.instant)
        else:
            page, observed = await self._catalog.live(), True
        rules = (await self._rulebook.current()).rules
        listed = tuple(name for name in page.names if not rules.project(name))
        return await index_response(
            ProjectList(listed),
            incoming.accept,
            link=lambda file: file,
            prefix=prefix,
            cache_control=_LIST if isinstance(when, AsOf) else _LIVE,
            cache_status=_status(when, observed=observed),
        )

    async def _file(self, parts: list[str]) -> ASGIApp:
        if len(parts) != 3:
            raise NotFound("a file is at /files/<project>/<sha256>/<filename>")
        project, content, filename = canonicalize_name(parts[0]), *parts[1:]
        wanted = filename.removesuffix(SUFFIX)
        if not _PROJECT.fullmatch(project) or not is_distribution(wanted):
            raise NotFound("a file is at /files/<project>/<sha256>/<filename>")
        file = await self._registry.file(project, content, wanted)
        status = await self._registry.status(project)
        (await self._rulebook.current()).check(project, file, status)
        if filename == wanted:
            return answer_with(self._store, await self._registry.open(project, file), vary=None)
        if not wanted.endswith(".whl"):
            raise NotFound("only wheels have a metadata file here (PEP 658)")
        return answer_with(self._store, await self._registry.open_metadata(project, file), vary=None)


def _linked(file: File, root: str, project: str) -> File:
    """Give a file its address on the mirror; every wheel has a metadata file there (PEP 658)."""
    return msgspec.structs.replace(
        file,
        url=f"{root}/files/{project}/{token(file)}/{quote(file.filename, safe='')}",
        core_metadata=advertised(file),
        gpg_sig=None if file.gpg_sig else file.gpg_sig,  # there is no .asc here
    )


def _status(when: When, *, observed: bool) -> str:
    """What the mirror did (RFC 9211): a live page is always asked for anew."""
    if isinstance(when, Now):
        return RENEWED
    return STORED if observed else HIT


def _phrase(when: When) -> str:
    return "now" if isinstance(when, Now) else "at that instant"
