"""What is known of a frozen tarball of npm: its package, by its address, and the licence in its package.json."""

from __future__ import annotations

import re
from urllib.parse import unquote

import msgspec

from httpcache.adapter import Described
from httpcache.errors import MirrorError
from httpcache.store.builds import File
from httpcache.store.store import Store
from httpcache.store.tarballs import member
from httpcache.target import Target, looks_like_url

from .announcements import Announcements

_TARBALL = re.compile(r".*?/(?:(@[^/]+)/)?([^/]+)/-/\2-([^/]+)\.tgz")
_MANIFEST = re.compile(r"[^/]+/package\.json")
_LONGEST = 100  # characters of a licence


async def describe(store: Store, file: File) -> Described | None:
    """Return what is known of a tarball that a packument of its pin announced, None for any other file.

    Raises StoreError.
    """
    found = _TARBALL.fullmatch(unquote(file.url)) if looks_like_url(file.url) else None
    if not found or not await Announcements(store).find(Target(file.pin, file.url)):
        return None
    namespace, name, version = found.groups()
    try:
        manifest = await member(store, file.digest, file.size, lambda path: _MANIFEST.fullmatch(path) is not None)
    except MirrorError:  # it may have been removed since
        manifest = None
    return Described("npm", name, version, namespace or "", _licences(manifest or b""))


def _licences(manifest: bytes) -> tuple[str, ...]:
    """Return the licence in a package.json: an SPDX expression, or in old ones an object or a list of them."""
    try:
        document = msgspec.json.decode(manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ()
    if not isinstance(document, dict):
        return ()
    some = document.get("license") or document.get("licenses")
    declared = some if isinstance(some, list) else [some]
    names = [each.get("type") if isinstance(each, dict) else each for each in declared]
    return tuple(name[:_LONGEST] for name in names if isinstance(name, str) and name.strip())
