"""Parse and render simple index pages: PEP 503 HTML and PEP 691 JSON. Pure: no network, no state.

One model serves both forms, with what the later rules added: yanked files (PEP 592), API versions (PEP 629),
metadata files (PEP 658, PEP 714), sizes, times and versions (PEP 700), alternate locations (PEP 708),
attestations (PEP 740) and project status (PEP 792). What a page does not say is not made up.
"""

from __future__ import annotations

import codecs
import hashlib
import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import quote, unquote, urljoin, urlsplit

import lxml.etree
import msgspec
from packaging.utils import canonicalize_name

# The hashes a link's fragment may name, the one to write first: every index has sha256, then by strength.
_HASHES = (
    "sha256", "sha512", "sha384", "sha3_512", "sha3_384", "sha3_256", "blake2b", "blake2s",
    "sha224", "sha3_224", "sha1", "md5",
)  # fmt: skip
_DIGEST_LENGTHS = {name: 2 * hashlib.new(name, usedforsecurity=False).digest_size for name in _HASHES}
_HASH_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,31}", re.ASCII)
_HEX = re.compile(r"[0-9a-fA-F]+", re.ASCII)
_HASH_IN_FRAGMENT = re.compile(rf"(?:^|&)({'|'.join(_HASHES)})=([0-9a-f]+)(?=&|$)", re.IGNORECASE)

MAX_LINKS = 2_000_000
_DISTRIBUTION_ENDINGS = (
    ".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tbz", ".tar.xz", ".txz", ".tar.lz", ".tlz", ".tar.lzma",
    ".tar.z", ".tar", ".egg", ".exe", ".msi", ".rpm", ".deb", ".dmg",
)  # fmt: skip

_API_VERSION_1 = re.compile(r"\s*1(?:\.\d+)?\s*")
_SERIAL = re.compile(r"\d{1,18}", re.ASCII)
_SERIAL_COMMENT = re.compile(r"<!--\s*SERIAL (\d{1,18})\s*-->", re.ASCII)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
# Supersets of ASCII that decode in linear time. Anything else is read as UTF-8: addresses are ASCII anyway.
_CHARSETS = re.compile(r"iso-8859-(?:[1-9]|1[013-6])|latin-?1|windows-125[0-8]", re.IGNORECASE)
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"<\0", b"\0<")
_PROJECT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", re.IGNORECASE | re.ASCII)
_SAFE_FILENAME = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f-\x9f]+")
# An address that needs no resolving and no quoting, as nearly all of them are.
_PLAIN_URL = re.compile(r"https?://[a-z0-9.-]+(?::\d+)?/[\w.~!$&'()*+,;=:@%/?-]*", re.ASCII)
_ILLEGAL_IN_URL = re.compile(r"[^!-~]|[\"<>\\^`{|}]")


class BadPage(ValueError):
    """The body is not an index page that can be understood."""


class File(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    """One distribution file as an index lists it. `None` is what the index does not say.

    `url` is absolute and has no fragment. `size` is in bytes, `upload_time` as the index wrote it (PEP 700).
    `yanked` is the reason where there is one (PEP 592). `core_metadata` is whether a metadata file exists, or
    its hashes (PEP 658, PEP 714). `provenance` is an address (PEP 740).
    """

    filename: str
    url: str
    hashes: dict[str, str]
    requires_python: str | None = None
    size: int | None = None
    upload_time: str | None = None
    yanked: bool | str = False
    core_metadata: bool | dict[str, str] | None = None
    gpg_sig: bool | None = None
    provenance: str | None = None


class ProjectStatus(msgspec.Struct, frozen=True):
    """A project's status marker, such as `archived`, and why (PEP 792)."""

    status: str
    reason: str | None = None


class Page(msgspec.Struct, frozen=True):
    """A project's page: its files in the index's order, and what the index says of the project.

    `versions` is `None` where the index lists none (PEP 700). `serial` grows with each change of the project.
    `tracks` and `alternate_locations` are addresses as written (PEP 708).
    """

    name: str
    files: tuple[File, ...] = ()
    versions: tuple[str, ...] | None = None
    serial: int | None = None
    status: ProjectStatus | None = None
    tracks: tuple[str, ...] = ()
    alternate_locations: tuple[str, ...] = ()


class ProjectList(msgspec.Struct, frozen=True):
    """The root page of an index: the names of its projects, in its order and spelling."""

    names: tuple[str, ...]
    serial: int | None = None


def parse(body: bytes, content_type: str | None, url: str) -> Page | ProjectList:
    """Read an index page.

    The first byte that is no space tells JSON from HTML, for many registries send a wrong content type; the
    content type decides where that byte tells nothing. `url` is the address that the body came from, after
    redirects: links are relative to it. Left out are links other than http and https, and files whose name
    could leave a folder. Raises `BadPage`.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    if _is_json(body, content_type or ""):
        return _parse_json(body, url)
    return _parse_html(body, content_type or "", url)


def to_json(page: Page | ProjectList) -> bytes:
    """Render PEP 691 JSON. Equal pages give equal bytes.

    The API version is the lowest that has what the page says, and 1.0 where sizes or versions are unknown,
    because 1.1 and later promise them (PEP 700).
    """
    if isinstance(page, ProjectList):
        projects = [{"name": name} for name in page.names]
        return _ENCODER.encode({"meta": {"api-version": "1.0"}, "projects": projects})
    meta: dict[str, object] = {"api-version": _api_version(page) if _is_complete(page) else "1.0"}
    document: dict[str, object] = {"meta": meta, "name": page.name, "files": page.files}
    if page.tracks:
        meta["tracks"] = page.tracks
    if page.versions is not None:
        document["versions"] = page.versions
    if page.alternate_locations:
        document["alternate-locations"] = page.alternate_locations
    if page.status:
        document["project-status"] = {"status": page.status.status} | (
            {} if page.status.reason is None else {"reason": page.status.reason}
        )
    return _ENCODER.encode(document)


def to_html(page: Page | ProjectList, prefix: str = "") -> bytes:
    """Render PEP 503 HTML in UTF-8. Equal pages give equal bytes.

    Sizes, times and versions have no place in it (PEP 700). The links of a project list begin with `prefix`.
    """
    if isinstance(page, ProjectList):
        links = [_html_link(f"{prefix}{quote(canonicalize_name(name), safe='')}/", "", name) for name in page.names]
        return _html_document("Simple index", _html_meta("repository-version", "1.0"), links)
    metas = [_html_meta("repository-version", _api_version(page))]
    metas += [_html_meta("tracks", url) for url in page.tracks]
    metas += [_html_meta("alternate-locations", url) for url in page.alternate_locations]
    if page.status:
        metas.append(_html_meta("project-status", page.status.status))
        if page.status.reason is not None:
            metas.append(_html_meta("project-status-reason", page.status.reason))
    return _html_document(f"Links for {page.name}", "".join(metas), [_html_file(file) for file in page.files])


def strongest(hashes: dict[str, str]) -> tuple[str, str] | None:
    """The hash to hold a file to: sha256 where there is one, else the strongest; its name, and its value in hex.

    A value that cannot be one of that name is passed over.
    """
    return next(((name, hashes[name].lower()) for name in _HASHES if _is_digest(name, hashes.get(name, ""))), None)


def _is_digest(name: str, text: str) -> bool:
    return len(text) == _DIGEST_LENGTHS[name] and _HEX.fullmatch(text) is not None


def _fragment(hashes: dict[str, str]) -> str | None:
    """The hash that a link names, as it came."""
    return next((f"{name}={hashes[name]}" for name in _HASHES if name in hashes), None)


def map_files(page: Page, change: Callable[[File], File | None]) -> Page:
    """The page with each file changed, for example its address; those for which there is None are left out."""
    return msgspec.structs.replace(page, files=tuple(file for file in map(change, page.files) if file))


def is_distribution(filename: str) -> bool:
    """Whether a name is one that distribution files have, by its ending."""
    return filename.lower().endswith(_DISTRIBUTION_ENDINGS)


# --- what both forms share


def _is_json(body: bytes, content_type: str) -> bool:
    first = body[:1].strip() or body.lstrip()[:1]
    if not first:
        raise BadPage("the body is empty")
    if first in b"{<":
        return first == b"{"
    declared = content_type.lower()
    if "json" in declared or "html" in declared:
        return "json" in declared
    raise BadPage(f"neither JSON nor HTML: it is {content_type or 'untyped'} and starts with {first!r}")


def _check_api_version(version: str) -> None:
    """Refuse every major version but 1 (PEP 629)."""
    if not _API_VERSION_1.fullmatch(version):
        raise BadPage(f"the API version is {version[:20]!r}, and only 1.x is known")


def _check_count(links: int) -> None:
    """Refuse what would take the memory of many: the largest list there is has some 700,000 projects."""
    if links > MAX_LINKS:
        raise BadPage(f"it has more than {MAX_LINKS} links")


def _resolve(base: str, link: str) -> str | None:
    """The absolute address of a link without fragment, quoted where it must be; None if it is not http(s)."""
    if _PLAIN_URL.fullmatch(link):
        return link
    link = re.sub(r"[\t\r\n]", "", link.strip())
    try:
        url = urljoin(base, _ILLEGAL_IN_URL.sub(lambda match: quote(match[0]), link))
        parts = urlsplit(url)
        return url if link and parts.scheme in ("http", "https") and parts.hostname else None
    except ValueError:  # a broken IPv6 address, for example
        return None


def _link(base: str, link: str) -> tuple[str, dict[str, str]] | None:
    """The absolute address of a file link, and the hashes in its fragment."""
    link, _, fragment = link.partition("#")
    url = _resolve(base, link)
    if url is None:
        return None
    return url, {name.lower(): digest.lower() for name, digest in _HASH_IN_FRAGMENT.findall(fragment)}


def _last_segment(url: str) -> str:
    """The last segment of an address's path, decoded."""
    return unquote(urlsplit(url).path.rpartition("/")[2])


def _project(url: str) -> str:
    """The normalised project name in the address of its page (PEP 503)."""
    return canonicalize_name(unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2]))


def _is_complete(page: Page) -> bool:
    """Whether the page has all that PEP 700 requires."""
    return page.versions is not None and all(file.size is not None for file in page.files)


def _api_version(page: Page) -> str:
    if page.status:
        return "1.4"
    if any(file.provenance is not None for file in page.files):
        return "1.3"
    if page.tracks or page.alternate_locations:
        return "1.2"
    return "1.1" if _is_complete(page) else "1.0"


def _hashes(found: Mapping[str, str]) -> dict[str, str]:
    """Those of the hashes that have the shape of one: what is written into links again is a name and hex."""
    return {
        name.lower(): digest.lower()
        for name, digest in found.items()
        if _HASH_NAME.fullmatch(name) and _HEX.fullmatch(digest)
    }


def _provenance(url: str | None) -> str | None:
    """The address of a provenance file (PEP 740), None where it is none, or carries a user."""
    resolved = _resolve("", url) if url else None
    return None if resolved is None or "@" in urlsplit(resolved).netloc else resolved


# --- JSON


class _JsonFile(msgspec.Struct, rename="kebab"):
    filename: str
    url: str
    hashes: dict[str, str] | None = None
    requires_python: str | None = None
    size: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    upload_time: str | None = None
    yanked: bool | str | None = None
    core_metadata: bool | dict[str, str] | None = None
    dist_info_metadata: bool | dict[str, str] | None = None
    gpg_sig: bool | None = None
    provenance: str | None = None


class _JsonProject(msgspec.Struct):
    name: str


class _JsonStatus(msgspec.Struct):
    status: str | None = None
    reason: str | None = None


class _JsonMeta(msgspec.Struct, rename="kebab"):
    api_version: str | None = None
    last_serial: int | str | None = msgspec.field(default=None, name="_last-serial")
    tracks: list[str] | None = None


class _JsonDocument(msgspec.Struct, rename="kebab"):
    meta: _JsonMeta | None = None
    name: str | None = None
    files: list[_JsonFile] | None = None
    projects: list[_JsonProject] | None = None
    versions: list[str] | None = None
    project_status: _JsonStatus | None = None
    alternate_locations: list[str] | None = None


_DECODER = msgspec.json.Decoder(_JsonDocument)
_ENCODER = msgspec.json.Encoder(order="deterministic")


def _parse_json(body: bytes, url: str) -> Page | ProjectList:
    try:
        document = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadPage(f"not a JSON index page: {error}") from error
    meta = document.meta or _JsonMeta()
    _check_api_version(meta.api_version or "1.0")
    serial = int(str(meta.last_serial)) if _SERIAL.fullmatch(str(meta.last_serial)) else None
    _check_count(len(document.files or ()) + len(document.projects or ()))
    if document.files is not None:
        files = (_json_file(file, url) for file in document.files)
        return Page(
            name=document.name or _project(url),
            files=tuple(file for file in files if file is not None),
            versions=None if document.versions is None else tuple(document.versions),
            serial=serial,
            status=_json_status(document.project_status),
            tracks=tuple(meta.tracks or ()),
            alternate_locations=tuple(document.alternate_locations or ()),
        )
    if document.projects is not None:
        names = (project.name for project in document.projects)
        return ProjectList(tuple(filter(_PROJECT_NAME.fullmatch, names)), serial)
    raise BadPage("not a JSON index page: it has neither `files` nor `projects`")


def _json_file(file: _JsonFile, base: str) -> File | None:
    link = _link(base, file.url)
    if link is None or not _SAFE_FILENAME.fullmatch(file.filename):
        return None
    url, hashes = link
    metadata = file.dist_info_metadata if file.core_metadata is None else file.core_metadata
    return File(
        filename=file.filename,
        url=url,
        hashes=hashes | _hashes(file.hashes or {}),
        requires_python=file.requires_python or None,
        size=file.size,
        upload_time=file.upload_time,
        yanked=file.yanked or False,
        core_metadata=_hashes(metadata) or bool(metadata) if isinstance(metadata, dict) else metadata,
        gpg_sig=file.gpg_sig,
        provenance=_provenance(file.provenance),
    )


def _json_status(status: _JsonStatus | None) -> ProjectStatus | None:
    if status is None or (status.status is None and status.reason is None):
        return None
    return ProjectStatus(status.status or "active", status.reason)


# --- HTML


def _parse_html(body: bytes, content_type: str, url: str) -> Page | ProjectList:
    text = _decode(body, content_type)
    found = _read_html(text)
    _check_api_version(found.metas.get("pypi:repository-version", ["1.0"])[0])
    serials = _SERIAL_COMMENT.findall(text)
    serial = int(serials[-1]) if serials else None
    if not found.anchors and not _says_index(content_type, found.metas, text):
        raise BadPage("it has no links, and nothing in it says that it is an index page")
    base = _resolve(url, found.base or "") or url
    files = tuple(file for anchor in found.anchors if (file := _html_anchor_file(anchor, base)) is not None)
    names = () if files else tuple(filter(None, map(_html_anchor_project, found.anchors)))
    if names:
        return ProjectList(names, serial)
    return Page(
        name=_project(url),
        files=files,
        serial=serial,
        status=_html_status(found.metas),
        tracks=tuple(found.metas.get("pypi:tracks", ())),
        alternate_locations=tuple(found.metas.get("pypi:alternate-locations", ())),
    )


def _says_index(content_type: str, metas: Mapping[str, object], text: str) -> bool:
    """Whether an HTML page calls itself an index page: an empty one could as well be that of a broken server."""
    typed = "application/vnd.pypi.simple" in content_type.lower()
    return typed or any(name.startswith("pypi:") for name in metas) or "links for" in text.lower()


def _decode(body: bytes, content_type: str) -> str:
    """The text of an HTML body. Bytes that its charset does not have become U+FFFD, and so does NUL."""
    if body.startswith(_UTF_16):
        raise BadPage("it is UTF-16, which no index uses")
    charset = _CHARSET.search(content_type) or _CHARSET.search(body[:1024].decode("ascii", "replace"))
    known = charset is not None and _CHARSETS.fullmatch(charset[1])
    return body.decode(charset[1] if charset and known else "utf-8", "replace").replace("\0", "\ufffd")


@dataclass
class _Anchor:
    """A link: its attributes, and its text up to the first thing in it that is not text."""

    attributes: Mapping[str, str]
    texts: list[str] = field(default_factory=list)


class _HtmlReader:
    """Takes what an index page says out of lxml's events: no tree, whose cost a hostile page could choose."""

    def __init__(self) -> None:
        self.metas: dict[str, list[str]] = {}
        self.base: str | None = None
        self.anchors: list[_Anchor] = []
        self._open: _Anchor | None = None

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._open = None
        if tag == "a" and attributes.get("href"):
            self._open = _Anchor(dict(attributes))
            self.anchors.append(self._open)
            _check_count(len(self.anchors))
        elif tag == "meta":
            self.metas.setdefault(attributes.get("name", ""), []).append(attributes.get("content", ""))
        elif tag == "base" and self.base is None:
            self.base = attributes.get("href")

    def end(self, tag: str) -> None:
        self._open = None

    def comment(self, text: str) -> None:
        self._open = None

    def data(self, text: str) -> None:
        if self._open:
            self._open.texts.append(text)

    def close(self) -> _HtmlReader:
        return self


def _read_html(text: str) -> _HtmlReader:
    reader = _HtmlReader()
    target: Any = reader  # the stubs want methods for bytes, which this parser never hands over
    parser = lxml.etree.HTMLParser(target=target, encoding="utf-8", no_network=True, huge_tree=True)
    try:
        lxml.etree.fromstring(text.encode(), parser)
    except lxml.etree.LxmlError as error:
        raise BadPage(f"not an HTML index page: {error}") from error
    # The parser gives what it has when a limit stops it: part of a page would look like files that are gone.
    fatal = parser.error_log.filter_from_fatals()
    if fatal:
        raise BadPage(f"not an HTML index page: {fatal[0].message}")
    return reader


def _html_anchor_file(anchor: _Anchor, base: str) -> File | None:
    attributes = anchor.attributes
    link = _link(base, attributes["href"])
    if link is None:
        return None
    url, hashes = link
    filename = _last_segment(url)
    if not is_distribution(filename) or not _SAFE_FILENAME.fullmatch(filename):
        return None
    yanked = attributes.get("data-yanked")
    metadata = attributes.get("data-core-metadata", attributes.get("data-dist-info-metadata"))
    return File(
        filename=filename,
        url=url,
        hashes=hashes,
        requires_python=attributes.get("data-requires-python") or None,
        yanked=False if yanked is None else yanked or True,
        core_metadata=None if metadata is None else _html_metadata(metadata),
        gpg_sig={"true": True, "false": False}.get(attributes.get("data-gpg-sig", "")),
        provenance=_provenance(attributes.get("data-provenance")),
    )


def _html_metadata(value: str) -> bool | dict[str, str]:
    """`true`, or `<hash name>=<digest>` (PEP 658); installers take any other text for `true`."""
    name, equals, digest = value.partition("=")
    return _hashes({name: digest}) or True if equals else value != "false"


def _html_anchor_project(anchor: _Anchor) -> str | None:
    """The project an anchor names; None for `../`, for sort links and for prose."""
    name = "".join(anchor.texts).strip().strip("/")
    path = anchor.attributes["href"].partition("#")[0].partition("?")[0]
    return name if path and _PROJECT_NAME.fullmatch(name) else None


def _html_status(metas: dict[str, list[str]]) -> ProjectStatus | None:
    status = metas.get("pypi:project-status")
    reason = metas.get("pypi:project-status-reason")
    if not status and not reason:
        return None
    return ProjectStatus((status and status[0]) or "active", reason[0] if reason else None)


def _html_document(title: str, metas: str, links: list[str]) -> bytes:
    head = f'<meta charset="utf-8">\n{metas}<title>{_escape(title)}</title>'
    body = f"<h1>{_escape(title)}</h1>\n{''.join(links)}"
    return f"<!DOCTYPE html>\n<html>\n<head>\n{head}\n</head>\n<body>\n{body}</body>\n</html>\n".encode()


def _html_meta(name: str, content: str) -> str:
    return f'<meta name="pypi:{name}" content="{_escape(content)}">\n'


def _html_link(href: str, attributes: str, text: str) -> str:
    return f'<a href="{_escape(href)}"{attributes}>{_escape(text)}</a><br>\n'


def _html_file(file: File) -> str:
    attributes = ""
    if file.requires_python is not None:
        attributes += f' data-requires-python="{_escape(file.requires_python)}"'
    if file.yanked:
        attributes += f' data-yanked="{_escape(file.yanked) if isinstance(file.yanked, str) else ""}"'
    if file.core_metadata:
        value = "true" if file.core_metadata is True else _fragment(file.core_metadata) or "true"
        attributes += f' data-core-metadata="{_escape(value)}" data-dist-info-metadata="{_escape(value)}"'
    if file.gpg_sig is not None:
        attributes += f' data-gpg-sig="{"true" if file.gpg_sig else "false"}"'
    if file.provenance is not None:
        attributes += f' data-provenance="{_escape(file.provenance)}"'
    digest = _fragment(file.hashes)
    return _html_link(f"{file.url}#{digest}" if digest else file.url, attributes, file.filename)


def _escape(text: str) -> str:
    """Escape for an attribute or a text. Line ends too: parsers change them, and a link is one line here."""
    return html.escape(text).replace("\r", "&#13;").replace("\n", "&#10;")
