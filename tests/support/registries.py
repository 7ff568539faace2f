"""Package registries on upstreams, in the link shapes of the real ones; the test changes them over time."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, unquote

from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.packages import Dist
from tests.support.upstream import NOT_FOUND, Request, Response, Upstream, redirect

JSON: Final = "application/vnd.pypi.simple.v1+json"
HTML: Final = "application/vnd.pypi.simple.v1+html"
FORBIDDEN: Final = Response(b"<Error><Code>AccessDenied</Code></Error>", 403, {"Content-Type": "application/xml"})


@dataclass(frozen=True)
class Release:
    """One file on the fake PyPI."""

    dist: Dist
    at: str
    yanked: bool | str = False

    @property
    def path(self) -> str:
        """Where the file host has it: named by its digest, so other bytes are another path."""
        digest = self.dist.sha256
        return f"/packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{self.dist.filename}"


class PyPI:
    """A PyPI on two upstreams, `index` and `files`, as PyPI has it.

    Pages come as JSON or HTML by `Accept`, `_last-serial` rises with each change. Uploading a file name
    again puts other bytes in its place, which PyPI never does and other registries do.
    """

    def __init__(self, index: Upstream, files: Upstream, *, core_metadata: bool = False) -> None:
        """Serve from the two upstreams, with `.metadata` files if `core_metadata`."""
        self.index, self.files, self.core_metadata = index, files, core_metadata
        self.serial = 1000
        self.projects: dict[str, dict[str, Release]] = {}
        self.serials: dict[str, int] = {}
        self.statuses: dict[str, Mapping[str, str]] = {}
        index.otherwise = self._page
        files.otherwise = self._file

    @property
    def url(self) -> str:
        """The simple index, with its slash."""
        return f"{self.index.url}/simple/"

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """Both servers."""
        return self.index, self.files

    def upload(self, dist: Dist, at: str, *, yanked: bool | str = False) -> Release:
        """Publish a file with `at` as its upload time (ISO 8601 with Z; fractions may be left out)."""
        release = Release(dist, at if "." in at else at.replace("Z", ".000000Z"), yanked)
        self.projects.setdefault(dist.name, {})[dist.filename] = release
        self._changed(dist.name)
        return release

    def yank(self, dist: Dist, reason: bool | str = True) -> None:
        """Yank a file; False takes it back."""
        files = self.projects[dist.name]
        files[dist.filename] = replace(files[dist.filename], yanked=reason)
        self._changed(dist.name)

    def delete(self, dist: Dist) -> None:
        """Remove a file, and with its last file the project."""
        files = self.projects[dist.name]
        del files[dist.filename]
        if not files:
            del self.projects[dist.name]
        self._changed(dist.name)

    def set_status(self, project: str, status: str, reason: str = "") -> None:
        """The PEP 792 status of a project."""
        self.statuses[project] = {"status": status} | ({"reason": reason} if reason else {})
        self._changed(project)

    def release(self, dist: Dist) -> Release:
        """What is published under this file's name."""
        return self.projects[dist.name][dist.filename]

    def file_url(self, dist: Dist) -> str:
        """Where the file host has this file."""
        return self.files.url + self.release(dist).path

    def _changed(self, project: str) -> None:
        self.serial += 1
        self.serials[project] = self.serial

    def _page(self, request: Request) -> Response:
        if request.path == "/simple/":
            return self._list(request)
        if not request.path.startswith("/simple/"):
            return NOT_FOUND
        asked = request.path.removeprefix("/simple/")
        name = canonicalize_name(asked.rstrip("/"))
        if asked != f"{name}/":
            return redirect(f"/simple/{name}/", 301)
        if name not in self.projects:
            return NOT_FOUND
        headers = {"X-PyPI-Last-Serial": str(self.serials[name]), "Vary": "Accept"}
        releases = sorted(self.projects[name].values(), key=lambda release: release.dist.filename)
        if JSON in request.headers.get("accept", ""):
            body = json.dumps(self._json(name, releases)).encode()
            return Response(body, 200, {"Content-Type": JSON, **headers})
        body = self._html(name, releases).encode()
        return Response(body, 200, {"Content-Type": _html_type(request), **headers})

    def _list(self, request: Request) -> Response:
        names = sorted(self.projects)
        if JSON in request.headers.get("accept", ""):
            meta = {"_last-serial": self.serial, "api-version": "1.1"}
            projects = [{"_last-serial": self.serials[name], "name": name} for name in names]
            body = json.dumps({"meta": meta, "projects": projects}).encode()
            return Response(body, 200, {"Content-Type": JSON, "Vary": "Accept"})
        anchors = "".join(f'<a href="/simple/{name}/">{name}</a>\n' for name in names)
        body = f"<!DOCTYPE html><html><body>\n{anchors}</body></html>".encode()
        return Response(body, 200, {"Content-Type": _html_type(request), "Vary": "Accept"})

    def _json(self, name: str, releases: list[Release]) -> dict[str, Any]:
        files = []
        for release in releases:
            dist = release.dist
            file: dict[str, Any] = {
                "filename": dist.filename,
                "hashes": {"sha256": dist.sha256},
                "requires-python": dist.requires_python,
                "size": len(dist.data),
                "upload-time": release.at,
                "url": self.files.url + release.path,
                "yanked": release.yanked,
            }
            if self.core_metadata:
                advertised = {"sha256": dist.metadata_sha256} if dist.is_wheel else False
                file["core-metadata"] = file["data-dist-info-metadata"] = advertised
            files.append(file)
        page: dict[str, Any] = {
            "files": files,
            "meta": {"_last-serial": self.serials[name], "api-version": "1.1"},
            "name": name,
            "versions": sorted({release.dist.version for release in releases}, key=Version),
        }
        if name in self.statuses:
            page["meta"]["api-version"] = "1.4"
            page["project-status"] = self.statuses[name]
        return page

    def _html(self, name: str, releases: list[Release]) -> str:
        anchors = []
        for release in releases:
            dist = release.dist
            attributes = _requires_python(dist)
            if release.yanked:
                reason = release.yanked if isinstance(release.yanked, str) else ""
                attributes += f' data-yanked="{html.escape(reason)}"'
            if self.core_metadata and dist.is_wheel:
                digest = f"sha256={dist.metadata_sha256}"
                attributes += f' data-dist-info-metadata="{digest}" data-core-metadata="{digest}"'
            link = f"{self.files.url}{release.path}#sha256={dist.sha256}"
            anchors.append(f'<a href="{link}"{attributes}>{dist.filename}</a><br />\n')
        return _document(name, anchors, '<meta name="pypi:repository-version" content="1.1">')

    def _file(self, request: Request) -> Response:
        path = request.path.removesuffix(".metadata")
        for files in list(self.projects.values()):
            for release in list(files.values()):
                if release.path != path:
                    continue
                if path == request.path:
                    return Response(release.dist.data, 200, {"Content-Type": "application/octet-stream"})
                if self.core_metadata and release.dist.is_wheel:
                    return Response(release.dist.metadata, 200, {"Content-Type": "application/octet-stream"})
        return NOT_FOUND


@dataclass(frozen=True)
class Shape:
    """How a kind of registry builds its pages: where they are, where the files are, how the one links to
    the other. The templates know `origin`, `project`, `version`, `sha256`, `filename` and `quoted`.
    """

    index: str
    file: str
    link: str
    hashes: bool = True
    unknown: Response = NOT_FOUND
    content_type: str | None = "text/html; charset=utf-8"
    head: str = ""


SHAPES: Final = {
    "ngc": Shape(index="/", file="/{project}/{filename}", link="{quoted}"),
    "pytorch": Shape(
        index="/whl/cu121/",
        file="/whl/cu121/{quoted}",
        link="/whl/cu121/{quoted}",
        hashes=False,
        unknown=FORBIDDEN,
        content_type="text/html",
    ),
    "gitlab": Shape(
        index="/api/v4/projects/42/packages/pypi/simple/",
        file="/api/v4/projects/42/packages/pypi/files/{sha256}/{filename}",
        link="{origin}/api/v4/projects/42/packages/pypi/files/{sha256}/{quoted}",
    ),
    "artifactory": Shape(
        index="/artifactory/api/pypi/local/simple/",
        file="/artifactory/api/pypi/local/packages/{project}/{version}/{filename}",
        link="../../packages/{project}/{version}/{quoted}",
    ),
    "devpi": Shape(
        index="/team/dev/+simple/",
        file="/team/dev/+f/{sha256:.3}/{sha256:.16}/{filename}",
        link="../../+f/{sha256:.3}/{sha256:.16}/{quoted}",
        head='<meta name="pypi:repository-version" content="1.0">',
    ),
    "protocol-relative": Shape(
        index="/simple/",
        file="/pool/{filename}",
        link="//{host}/pool/{quoted}",
    ),
    "base": Shape(
        index="/simple/",
        file="/elsewhere/files/{filename}",
        link="files/{quoted}",
        head='<base href="{origin}/elsewhere/">',
    ),
}
"""The link shapes by the product that has them; the last two are HTML's own."""


class Registry:
    """A registry of one `Shape` on one upstream; publishing a file name again replaces its bytes."""

    def __init__(self, upstream: Upstream, shape: str) -> None:
        """Serve from `upstream` in the shape of that name."""
        self.upstream, self.shape = upstream, SHAPES[shape]
        self.dists: dict[str, Dist] = {}
        upstream.otherwise = self._page

    @property
    def url(self) -> str:
        """The index, with its slash."""
        return self.upstream.url + self.shape.index

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """The one server."""
        return (self.upstream,)

    def upload(self, *dists: Dist) -> None:
        """Publish files."""
        for dist in dists:
            self.dists[dist.filename] = dist

    def file_path(self, dist: Dist) -> str:
        """Where a file is, as its own link leads to it."""
        return self._fill(self.shape.file, dist)

    def _fill(self, template: str, dist: Dist) -> str:
        return template.format(
            origin=self.upstream.url,
            host=f"127.0.0.1:{self.upstream.port}",
            project=dist.name,
            version=dist.version,
            sha256=dist.sha256,
            filename=dist.filename,
            quoted=quote(dist.filename, safe=""),
        )

    def _page(self, request: Request) -> Response:
        path = unquote(request.path)
        dists = sorted(self.dists.values(), key=lambda dist: dist.filename)
        for dist in dists:
            if path == unquote(self.file_path(dist)):
                return Response(dist.data, 200, {"Content-Type": "binary/octet-stream"})
        if not path.startswith(self.shape.index):
            return self.shape.unknown
        asked = path.removeprefix(self.shape.index)
        name = canonicalize_name(asked.rstrip("/"))
        found = [dist for dist in dists if dist.name == name]
        if not found:
            return self.shape.unknown
        if asked != f"{name}/":
            return redirect(f"{self.shape.index}{name}/", 301)
        headers = {"Content-Type": self.shape.content_type} if self.shape.content_type else {}
        return Response(self._html(name, found).encode(), 200, headers)

    def _html(self, name: str, dists: list[Dist]) -> str:
        anchors = []
        for dist in dists:
            fragment = f"#sha256={dist.sha256}" if self.shape.hashes else ""
            link = self._fill(self.shape.link, dist) + fragment
            anchors.append(f'<a href="{link}"{_requires_python(dist)}>{dist.filename}</a><br/>\n')
        return _document(name, anchors, self.shape.head.format(origin=self.upstream.url))


def upheavals(*sources: PyPI | Registry, changes: Iterable[Dist]) -> Iterator[str]:
    """What can befall an upstream, worse each time: `changes` are published, all is removed, it is gone.

    Until the first, nobody but the mirror may have asked it.
    What a mirror answers in the body of `for upheaval in upheavals(...)` must be what it answered before.
    """
    upstreams = [upstream for source in sources for upstream in source.upstreams]
    assert [seen for upstream in upstreams for seen in upstream.strangers] == []
    for source in sources:
        for dist in changes:
            if isinstance(source, Registry):
                source.upload(dist)
            else:
                source.upload(dist, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    yield "changed"
    for upstream in upstreams:
        upstream.empty()
    yield "emptied"
    for upstream in upstreams:
        upstream.stop()
    yield "shut down"


def _html_type(request: Request) -> str:
    return HTML if HTML in request.headers.get("accept", "") else "text/html; charset=UTF-8"


def _requires_python(dist: Dist) -> str:
    if dist.requires_python is None:
        return ""
    return f' data-requires-python="{html.escape(dist.requires_python)}"'


def _document(name: str, anchors: list[str], head: str) -> str:
    title = f"Links for {name}"
    return (
        f"<!DOCTYPE html>\n<html>\n<head>{head}<title>{title}</title></head>\n"
        f"<body>\n<h1>{title}</h1>\n{''.join(anchors)}</body>\n</html>\n"
    )
