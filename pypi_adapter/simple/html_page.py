"""Parses and renders index pages as HTML: PEP 503 with the additions of PEP 592, 629, 658, 708, 740 and 792. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import quote, unquote, urlsplit

import lxml.etree
from packaging.utils import canonicalize_name

from httpcache.errors import plain

from .links import (
    PROJECT_NAME,
    SAFE_FILENAME,
    api_version,
    check_api_version,
    check_count,
    file_link,
    fragment_of,
    last_segment,
    named_by,
    names_hash,
    only_hashes,
    project_of,
    provenance_url,
    resolve,
    without_user,
)
from .model import BadPage, File, Page, ProjectList, ProjectStatus, Unread, is_distribution
from .upload_time import upload_time

Asked: TypeAlias = type[Page] | type[ProjectList] | None
"""What was requested: a project's page or the project list; None if the address does not tell."""

_SERIAL_COMMENT = re.compile(r"<!--\s*SERIAL (\d{1,18})\s*-->", re.ASCII)
_LISTING = re.compile(r"<(?:title|h1)[^<>]*>\s*(?:index of|directory listing)\b", re.IGNORECASE)
_CUT = re.compile(r"(?:\.\.>|\.{2,}|\u2026)$")  # at the end of a name in a directory listing
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
# Supersets of ASCII that decode in linear time. Anything else is read as UTF-8: addresses are ASCII anyway.
_CHARSETS = re.compile(r"iso-8859-(?:[1-9]|1[013-6])|latin-?1|windows-125[0-8]", re.IGNORECASE)


def to_html(page: Page | ProjectList, prefix: str = "", others: Sequence[str] = ()) -> bytes:
    """Render PEP 503 HTML in UTF-8. Equal pages give equal bytes.

    HTML cannot express sizes and versions (PEP 700). Upload times go where PyTorch's index has them and uv looks for
    them. The links of a project list begin with `prefix`. `others` are further addresses to link after the files.
    """
    if isinstance(page, ProjectList):
        links = [_html_link(f"{prefix}{quote(canonicalize_name(name), safe='')}/", "", name) for name in page.names]
        return _html_document("Simple index", _html_meta("repository-version", "1.0"), links)
    metas = [_html_meta("repository-version", api_version(page))]
    metas += [_html_meta("tracks", url) for url in page.tracks]
    metas += [_html_meta("alternate-locations", url) for url in page.alternate_locations]
    if page.status:
        metas.append(_html_meta("project-status", page.status.status))
        if page.status.reason is not None:
            metas.append(_html_meta("project-status-reason", page.status.reason))
    links = [_html_file(file) for file in page.files]
    links += [_html_link(url, "", url.partition("?")[0].rstrip("/").rpartition("/")[2]) for url in others]
    return _html_document(f"Links for {page.name}", "".join(metas), links)


def parse_html(body: bytes, content_type: str, url: str, asked: Asked = None) -> Page | ProjectList:
    """Parse PEP 503 HTML, leaving out only the parts that cannot be read. For `url` and `asked` see `parser.parse`.

    Raises `BadPage` if the page has no files and does not declare itself an index: it could come from a broken server.
    """
    text = _decode(body, content_type)
    found = _read_html(text)
    check_api_version(found.metas.get("pypi:repository-version", ["1.0"])[0] or "1.0")
    serials = _SERIAL_COMMENT.findall(text)
    serial = int(serials[-1]) if serials else None
    base = resolve(url, found.base or "") or url
    files, unread = _html_files(found.anchors, base)
    is_listing = _LISTING.search(text) is not None or any(map(_is_signature, found.anchors))
    if not (files or unread or asked is Page or (is_listing and asked is None)):
        names = tuple(filter(None, (_html_anchor_project(anchor, base) for anchor in found.anchors)))
        if names:
            return ProjectList(names, serial)
    if not (files or unread or is_listing or _says_index(content_type, found.metas, text)):
        raise BadPage("it has no links to files, and nothing in it says that it is an index page")
    return Page(
        name=project_of(url),
        files=files,
        serial=serial,
        status=_html_status(found.metas),
        tracks=tuple(map(without_user, found.metas.get("pypi:tracks", ()))),
        alternate_locations=tuple(map(without_user, found.metas.get("pypi:alternate-locations", ()))),
        unread=unread,
    )


def other_links(body: bytes, content_type: str, url: str) -> tuple[str, ...]:
    """Return the links of an HTML page that do not lead to files: those to its own site, and to signatures anywhere.

    Links to the page itself, such as those that sort a listing, are left out. Raises `BadPage`.
    """
    found = _read_html(_decode(body, content_type))
    base = resolve(url, found.base or "") or url
    own = urlsplit(url)
    links: dict[str, None] = {}
    for anchor in found.anchors:
        leads = resolve(base, anchor.href.partition("#")[0])
        if leads and not is_distribution(last_segment(leads)):
            parts = urlsplit(leads)
            is_own = parts[:2] == own[:2] and parts.path != own.path
            if is_own or _is_signature(anchor):
                links[leads] = None
    return tuple(links)


def _says_index(content_type: str, metas: Mapping[str, object], text: str) -> bool:
    """Whether an HTML page declares itself an index page."""
    typed = "application/vnd.pypi.simple" in content_type.lower()
    return typed or any(name.startswith("pypi:") for name in metas) or "links for" in text.lower()


def _is_signature(anchor: _Anchor) -> bool:
    """Whether a link leads to a companion of a file: its signature, its metadata, its digest."""
    name, dot, _ = anchor.named.rpartition(".")
    return bool(dot) and is_distribution(name)


def _decode(body: bytes, content_type: str) -> str:
    """Decode an HTML body. Bytes that are invalid in its charset become U+FFFD, and so does NUL."""
    charset = _CHARSET.search(content_type) or _CHARSET.search(body[:1024].decode("ascii", "replace"))
    known = charset is not None and _CHARSETS.fullmatch(charset[1])
    return body.decode(charset[1] if charset and known else "utf-8", "replace").replace("\0", "\ufffd")


@dataclass
class _Anchor:
    """A link: its attributes, and its text up to the first tag or comment in it."""

    attributes: Mapping[str, str]
    texts: list[str] = field(default_factory=list)

    @property
    def href(self) -> str:
        return self.attributes.get("href", "")

    @property
    def text(self) -> str:
        return "".join(self.texts).strip()

    @property
    def named(self) -> str:
        """The file name at the end of the address, even if the address cannot be resolved."""
        return named_by(self.href)


class _HtmlReader:
    """Collects what an index page says from lxml's events, without a tree, whose cost a hostile page could choose."""

    def __init__(self) -> None:
        self.metas: dict[str, list[str]] = {}
        self.base: str | None = None
        self.anchors: list[_Anchor] = []
        self._open: _Anchor | None = None

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._open = None
        if tag == "a":
            self._open = _Anchor(dict(attributes))
            self.anchors.append(self._open)
            check_count(len(self.anchors))
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
    target: Any = reader  # the stubs want methods that take bytes, which this parser never passes
    parser = lxml.etree.HTMLParser(target=target, encoding="utf-8", no_network=True, huge_tree=True)
    try:
        lxml.etree.fromstring(text.encode(), parser)
    except lxml.etree.LxmlError as error:
        raise BadPage(f"not an HTML index page: {error}") from error
    # The parser returns what it has when it hits a limit: with part of a page, files would seem to have been removed.
    fatal = parser.error_log.filter_from_fatals()
    if fatal:
        raise BadPage(f"not an HTML index page: {fatal[0].message}")
    return reader


def _html_files(anchors: Sequence[_Anchor], base: str) -> tuple[tuple[File, ...], Unread | None]:
    """Return the linked files, and what cannot be read of them."""
    files, lost, fields = [], [], {}
    for anchor in anchors:
        file = _html_file_of(anchor, base)
        if file is None:
            lost += _lost(anchor, base)
            continue
        files.append(file)
        missing = _unread(anchor, file)
        if missing:
            fields[file.filename] = missing
    return tuple(files), Unread(entries=frozenset(lost), fields=fields) if lost or fields else None


def _lost(anchor: _Anchor, base: str) -> list[str]:
    """Return the name of the file that an unusable anchor names, in a list; an empty list if it names none."""
    names = (anchor.named,) if resolve(base, anchor.href) else (anchor.text, anchor.named)
    return [name for name in names if _is_file(name)][:1]


def _is_file(name: str) -> bool:
    return is_distribution(name) and SAFE_FILENAME.fullmatch(name) is not None


def _html_file_of(anchor: _Anchor, base: str) -> File | None:
    attributes = anchor.attributes
    link = file_link(base, anchor.href)
    if link is None:
        return None
    url, hashes = link
    filename = last_segment(url)
    if not _is_file(filename):
        return None
    yanked = attributes.get("data-yanked")
    metadata = attributes.get("data-core-metadata", attributes.get("data-dist-info-metadata"))
    return File(
        filename=filename,
        url=url,
        hashes=hashes,
        requires_python=plain(attributes.get("data-requires-python", "")) or None,
        upload_time=upload_time(attributes.get("data-upload-time", "")),
        yanked=False if yanked is None else plain(yanked) or True,
        core_metadata=None if metadata is None else _html_metadata(metadata),
        gpg_sig={"true": True, "false": False}.get(attributes.get("data-gpg-sig", "")),
        provenance=provenance_url(attributes.get("data-provenance")),
    )


def _unread(anchor: _Anchor, file: File) -> tuple[str, ...]:
    """Return the fields of a file that are given but invalid."""
    attributes = anchor.attributes
    lost = [] if file.hashes or not names_hash(anchor.href) else ["hashes"]
    for name, value in (("upload_time", file.upload_time), ("gpg_sig", file.gpg_sig), ("provenance", file.provenance)):
        if value is None and attributes.get(f"data-{name.replace('_', '-')}"):
            lost.append(name)
    return tuple(lost)


def _html_metadata(value: str) -> bool | dict[str, str]:
    """Read `true` or `<hash name>=<digest>` (PEP 658). As in installers, other text is true, except `false`."""
    name, equals, digest = value.partition("=")
    return only_hashes({name: digest}) or True if equals else value != "false"


def _html_anchor_project(anchor: _Anchor, base: str) -> str | None:
    """Return the project that an anchor leads to; None for `../`, for sort links and for prose.

    The name is taken from the address, because directory listings truncate the text (`a-long-na..>`). The text shows
    that the link is not prose.
    """
    path = urlsplit(resolve(base, anchor.href.partition("#")[0]) or base).path.removesuffix("index.html")
    if path == urlsplit(base).path or (path.endswith("/") and urlsplit(base).path.startswith(path)):
        return None  # the page itself, or a folder above it
    if _is_signature(anchor):
        return None
    name, text = unquote(path.rstrip("/").rpartition("/")[2]), anchor.text.strip("/")
    shown = _CUT.sub("", text)
    if PROJECT_NAME.fullmatch(text):  # the index's own spelling, if it is the same name
        same = not PROJECT_NAME.fullmatch(name) or canonicalize_name(text) == canonicalize_name(name)
        return text if same else name
    return name if PROJECT_NAME.fullmatch(name) and shown != text and name.startswith(shown) else None


def _html_status(metas: dict[str, list[str]]) -> ProjectStatus | None:
    status = metas.get("pypi:project-status")
    reason = metas.get("pypi:project-status-reason")
    if not status and not reason:
        return None
    return ProjectStatus(plain(status[0] if status else "") or "active", plain(reason[0]) if reason else None)


def _html_document(title: str, metas: str, links: list[str]) -> bytes:
    head = f'<meta charset="utf-8">\n{metas}<title>{_escape(title)}</title>'
    body = f"<h1>{_escape(title)}</h1>\n{''.join(links)}"
    return f"<!DOCTYPE html>\n<html>\n<head>\n{head}\n</head>\n<body>\n{body}</body>\n</html>\n".encode()


def _html_meta(name: str, content: str) -> str:
    return f'<meta name="pypi:{name}" content="{_escape(plain(content))}">\n'


def _html_link(href: str, attributes: str, text: str) -> str:
    return f'<a href="{_escape(href)}"{attributes}>{_escape(text)}</a><br>\n'


def _html_file(file: File) -> str:
    attributes = ""
    if file.requires_python is not None:
        attributes += f' data-requires-python="{_escape(file.requires_python)}"'
    if file.upload_time is not None:
        attributes += f' data-upload-time="{_escape(file.upload_time)}"'
    if file.yanked:
        attributes += f' data-yanked="{_escape(file.yanked) if isinstance(file.yanked, str) else ""}"'
    if file.core_metadata:
        value = "true" if file.core_metadata is True else fragment_of(file.core_metadata) or "true"
        attributes += f' data-core-metadata="{_escape(value)}" data-dist-info-metadata="{_escape(value)}"'
    if file.gpg_sig is not None:
        attributes += f' data-gpg-sig="{"true" if file.gpg_sig else "false"}"'
    if file.provenance is not None:
        attributes += f' data-provenance="{_escape(file.provenance)}"'
    digest = fragment_of(file.hashes)
    return _html_link(f"{file.url}#{digest}" if digest else file.url, attributes, file.filename)


def _escape(text: str) -> str:
    """Escape for an attribute or a text. Line breaks too: parsers change them, and each link is one line here."""
    return html.escape(text).replace("\r", "&#13;").replace("\n", "&#10;")
