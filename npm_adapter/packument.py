"""Reads packuments and manifests of one version, the digests they announce, and rewrites their links. Pure.

A packument is the answer of an npm registry for `/<package>`: a JSON object whose `versions` are manifests, each with a
`dist` that has the URL of its tarball (`tarball`) and its digests (`integrity`, `shasum`). For `/<package>/<version>`
the registry answers with one manifest. https://github.com/npm/registry/blob/main/docs/responses/package-metadata.md
"""

from __future__ import annotations

import binascii
import codecs
import hashlib
import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from httpcache.errors import BadAddress
from httpcache.freezing.download import Digest
from httpcache.target import Address, resolve

ABBREVIATED = "application/vnd.npm.install-v1+json"
"""The media type of an abbreviated packument, which has only what an installer needs."""

Document = dict[str, Any]

_ALGORITHMS = ("sha512", "sha384", "sha256", "sha1")  # strongest first: only it counts (W3C SRI section 3.3.4)
_SHASUM = re.compile(r"[0-9A-Fa-f]{40}")
_PACKUMENT_FIELDS = ("name", "dist-tags", "modified", "versions")
_MANIFEST_FIELDS = (
    *("name", "version", "deprecated", "dependencies", "optionalDependencies", "devDependencies"),
    *("bundleDependencies", "bundledDependencies", "peerDependencies", "peerDependenciesMeta", "acceptDependencies"),
    *("bin", "directories", "dist", "engines", "cpu", "os", "libc", "funding", "_hasShrinkwrap", "hasInstallScript"),
)
_INSTALL_SCRIPTS = ("preinstall", "install", "postinstall")


def read(body: bytes) -> Document | None:
    """Parse a packument or a manifest; return None if it is neither."""
    try:
        found = msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return None
    is_manifest = "version" in found and isinstance(found.get("dist"), dict)
    return found if is_manifest or isinstance(found.get("versions"), dict) else None


def registry(document: Document, base: str) -> str | None:
    """Return the URL of a packument's registry, with a slash at the end; None if `base` does not end with the name."""
    path = base.partition("?")[0]
    name = re.escape(document["name"]).replace("/", "(?:/|%2[Ff])")
    found = re.fullmatch(f"(.*/){name}/?", path)
    return found[1] if found else None


def announced(document: Document, base: str) -> Iterator[tuple[Address, tuple[Digest, ...]]]:
    """Yield the address of each tarball that can be fetched, with the digests of which it must match one.

    `base` is the URL that the document came from: links are relative to it.
    """
    for dist in _dists(document):
        address = _resolved(base, dist.get("tarball"))
        if address:
            yield address, digests(dist)


def digests(dist: Mapping[str, object]) -> tuple[Digest, ...]:
    """Return the digests of a tarball: the strongest of `integrity` (W3C SRI), else `shasum`; no invalid ones."""
    text = dist.get("integrity")
    integrity = [_sri(word) for word in text.split()] if isinstance(text, str) else []
    for algorithm in _ALGORITHMS:
        found = tuple(digest for digest in integrity if digest and digest.algorithm == algorithm)
        if found:
            return found
    shasum = dist.get("shasum")
    is_digest = isinstance(shasum, str) and _SHASUM.fullmatch(shasum)
    return (Digest("sha1", str(shasum).lower()),) if is_digest else ()


def lead(document: Document, base: str, link: Callable[[Address], str]) -> None:
    """Rewrite the URLs of tarballs and attestations to what `link` returns; remove those that cannot be fetched.

    The document is changed in place. `base` is the URL that it came from: its links are relative to it.
    """
    for dist in _dists(document):
        attestations = dist.get("attestations")
        for holder, name in ((dist, "tarball"), (attestations, "url")):
            if isinstance(holder, dict) and name in holder:
                address = _resolved(base, holder.pop(name))
                if address:
                    holder[name] = link(address)


def abbreviated(document: Document) -> Document:
    """Return the abbreviated form of a packument, as registries do for the media type ABBREVIATED."""
    versions = document.get("versions")
    if not isinstance(versions, dict):
        return document
    time = document.get("time")
    modified = {"modified": time["modified"]} if isinstance(time, dict) and "modified" in time else {}
    short = {version: _short(manifest) for version, manifest in versions.items()}
    return modified | _fields(document, _PACKUMENT_FIELDS) | {"versions": short}


def _short(manifest: object) -> object:
    if not isinstance(manifest, dict):
        return manifest
    scripts = manifest.get("scripts")
    has_scripts = isinstance(scripts, dict) and any(name in scripts for name in _INSTALL_SCRIPTS)
    return ({"hasInstallScript": True} if has_scripts else {}) | _fields(manifest, _MANIFEST_FIELDS)


def _fields(holder: Document, names: tuple[str, ...]) -> Document:
    return {name: holder[name] for name in names if name in holder}


def _dists(document: Document) -> Iterator[Document]:
    versions = document.get("versions")
    for manifest in (document, *(versions.values() if isinstance(versions, dict) else ())):
        if isinstance(manifest, dict) and isinstance(manifest.get("dist"), dict):
            yield manifest["dist"]


def _resolved(base: str, link: object) -> Address | None:
    try:
        return resolve(base, link) if isinstance(link, str) else None
    except BadAddress:
        return None


def _sri(word: str) -> Digest | None:
    """Parse `sha512-<base64>`, which options may follow; None if it is invalid."""
    algorithm, _, value = word.partition("?")[0].partition("-")
    if algorithm not in _ALGORITHMS:
        return None
    try:
        digest = b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    is_whole = len(digest) == hashlib.new(algorithm, usedforsecurity=False).digest_size
    return Digest(algorithm, digest.hex()) if is_whole else None
