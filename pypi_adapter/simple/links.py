"""What HTML and JSON index pages share: links, names, hashes, API versions. Pure."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urljoin, urlsplit

from packaging.utils import canonicalize_name

from httpcache.target import PORT

from .model import HASHES, HEX, BadPage, Page

MAX_LINKS = 2_000_000
SERIAL = re.compile(r"\d{1,18}", re.ASCII)
PROJECT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", re.IGNORECASE | re.ASCII)
SAFE_FILENAME = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f-\x9f]+")
_HASH_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,31}", re.ASCII)
_HASH_IN_FRAGMENT = re.compile(rf"(?:^|&)({'|'.join(HASHES)})=([0-9a-f]+)(?=&|$)", re.IGNORECASE)
_HASH_NAMED = re.compile(rf"(?:^|&)(?:{'|'.join(HASHES)})=", re.IGNORECASE)
_API_VERSION_1 = re.compile(r"\s*1(?:\.\d+)*\s*")
_LOWER_HEX = re.compile(r"[0-9a-f]+")
# An address that needs neither resolving nor quoting, like nearly all addresses.
_PLAIN_URL = re.compile(rf"https?://[a-z0-9.-]+(?::{PORT})?/[\w.~!$&'()*+,;=:@%/?-]*", re.ASCII)
# One that `urljoin` would leave as it is, but for an empty query and empty parameters, which it drops.
_ABSOLUTE = re.compile(r"https?://[^/?#][^#]*")
_USER = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*://|//)[^/?#]*@")
_ILLEGAL_IN_URL = re.compile(r"[^!-~]|[\"<>\\^`{|}]")


def check_api_version(version: str) -> None:
    """Raise BadPage for any major version but 1 (PEP 629)."""
    if not _API_VERSION_1.fullmatch(version):
        raise BadPage(f"the API version is {version[:20]!r}, and only 1.x is supported")


def names_hash(link: str) -> bool:
    """Whether the fragment of a link gives a hash, valid or not."""
    return _HASH_NAMED.search(link.partition("#")[2]) is not None


def check_count(links: int) -> None:
    """Raise BadPage if a page has too many links for memory: the largest known list has some 700,000 projects."""
    if links > MAX_LINKS:
        raise BadPage(f"it has more than {MAX_LINKS} links")


def resolve(base: str, link: str) -> str | None:
    """Return the absolute URL of a link, quoted as needed, without fragment and user; None if it is not http(s)."""
    if _PLAIN_URL.fullmatch(link):
        return link
    link = re.sub(r"[\t\r\n]", "", link.strip())
    try:
        quoted = _ILLEGAL_IN_URL.sub(lambda match: quote(match[0]), link)
        url = quoted if _ABSOLUTE.fullmatch(quoted) else urljoin(base, quoted)
        parts = urlsplit(url)
        if not link or parts.scheme not in ("http", "https") or not parts.hostname:
            return None
        if ":" in parts.netloc and parts.port == 0:
            return None
    except ValueError:  # an invalid IPv6 address or port
        return None
    return without_user(url)


def without_user(url: str) -> str:
    """Return an address without user and password, which must not be shown to anyone."""
    return _USER.sub(r"\1", url, count=1) if "@" in url else url


def file_link(base: str, link: str) -> tuple[str, dict[str, str]] | None:
    """Return the absolute URL of a file link and the hashes in its fragment; None if it is not http(s)."""
    link, mark, fragment = link.partition("#")
    url = resolve(base, link)
    if url is None:
        return None
    if not mark:
        return url, {}
    return url, {name.lower(): digest.lower() for name, digest in _HASH_IN_FRAGMENT.findall(fragment)}


def last_segment(url: str) -> str:
    """Return the last segment of an address's path, decoded."""
    return unquote(urlsplit(url).path.rpartition("/")[2])


def named_by(link: str) -> str:
    """Return the file name at the end of a link, even if the link cannot be resolved; empty if it has none."""
    name = unquote(re.split(r"[?#]", link.strip(), maxsplit=1)[0].rpartition("/")[2])
    return name if SAFE_FILENAME.fullmatch(name) else ""


def project_of(url: str) -> str:
    """Return the normalised project name in the address of its page (PEP 503)."""
    return canonicalize_name(unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2]))


def is_complete(page: Page) -> bool:
    """Whether the page has all that PEP 700 requires."""
    return page.versions is not None and all(file.size is not None for file in page.files)


def api_version(page: Page) -> str:
    """Return the lowest API version that has all that the page says."""
    attested = any(file.provenance is not None for file in page.files)
    return lowest_version(page, attested=attested, complete=is_complete(page))


def lowest_version(page: Page, *, attested: bool, complete: bool) -> str:
    """Return the lowest API version of a page; `attested`: a file has attestations; `complete`: see `is_complete`."""
    if page.status:
        return "1.4"
    if attested:
        return "1.3"
    if page.tracks or page.alternate_locations:
        return "1.2"
    return "1.1" if complete else "1.0"


def only_hashes(found: dict[str, str]) -> dict[str, str]:
    """Return the well-formed hashes, in lower case: only a name and hex may be written into links again."""
    if len(found) == 1 and "sha256" in found and _LOWER_HEX.fullmatch(found["sha256"]):
        return found  # the case for nearly all files
    return {
        name.lower(): digest.lower()
        for name, digest in found.items()
        if _HASH_NAME.fullmatch(name) and HEX.fullmatch(digest)
    }


def provenance_url(url: str | None) -> str | None:
    """Return the URL of a provenance file (PEP 740), or None if it is not a valid URL."""
    return resolve("", url) if url else None


def fragment_of(hashes: dict[str, str]) -> str | None:
    """Return the hash for the fragment of a link, `<name>=<digest>`, with its value as given; None if there is none."""
    return next((f"{name}={hashes[name]}" for name in HASHES if name in hashes), None)
