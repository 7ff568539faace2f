"""What both forms of a bill of materials say: package URLs, addresses, and an identity that the content gives."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from packageurl import PackageURL

from .components import Component, Materials

ADVISORY = "https://osv.dev/vulnerability/"


def purl(component: Component) -> PackageURL | None:
    """Return the package URL of a component (https://github.com/package-url/purl-spec), None if it is no package."""
    known = component.described
    if not known:
        return None
    names_file = known.type == "pypi"
    qualifiers = {"file_name": component.filename} if names_file else None
    return PackageURL(known.type, known.namespace or None, known.name, known.version, qualifiers)


def location(component: Component, mirror: str) -> str:
    """Return the address of a component; without the address of the mirror it is path-absolute."""
    return mirror.rstrip("/") + component.address


def identity(materials: Materials) -> UUID:
    """Return a UUID that is the same for the same build with the same files."""
    files: Sequence[str] = sorted(f"{each.address} {each.file.digest}" for each in materials.components)
    return uuid5(NAMESPACE_URL, "\n".join([f"httpcache:build:{materials.build.label}", *files]))


def moment(seconds: float) -> datetime:
    """Return an instant, given in seconds since the epoch, in whole seconds of UTC."""
    return datetime.fromtimestamp(int(seconds), UTC)


def written(seconds: float) -> str:
    """Return an instant in RFC 3339."""
    return f"{moment(seconds):%Y-%m-%dT%H:%M:%SZ}"


def facts(component: Component) -> list[tuple[str, str]]:
    """Return what the mirror knows of how a component was taken, as names and values."""
    file = component.file
    return [
        ("httpcache:address", component.address),
        *(("httpcache:through", name) for name in component.through),
        ("httpcache:taken", written(component.first)),
        ("httpcache:size", str(file.size)),
        *([("httpcache:client", file.client)] if file.client else []),
        *([("httpcache:private", "true")] if file.is_private else []),
    ]


def about_build(materials: Materials) -> list[tuple[str, str]]:
    """Return what is known of the build, as names and values."""
    build = materials.build
    return [
        *(("httpcache:through", name) for name in build.indexes),
        ("httpcache:first", written(build.first)),
        ("httpcache:last", written(build.last)),
        ("httpcache:complete", "true" if build.is_whole else "false"),
    ]
