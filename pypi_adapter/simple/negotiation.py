"""Pure: content negotiation (RFC 9110 section 12.5.1) between the media types of an index page (PEP 691)."""

from __future__ import annotations

from enum import StrEnum

from httpcache.accept import quality

_SIMPLE = "application/vnd.pypi.simple."


class MediaType(StrEnum):
    """The media types of an index page, in order of preference."""

    JSON = f"{_SIMPLE}v1+json"
    HTML = f"{_SIMPLE}v1+html"
    LEGACY = "text/html"


def choose(accept: str | None) -> MediaType | None:
    """Return the media type to answer with, or None if the header allows none of them.

    Without a header, and for `*/*`, it is `text/html`, which clients that do not know PEP 691 expect. Among types of
    equal weight the more specific match wins, then JSON, which says the most.
    """
    ranges = _ranges(accept or "") or {"*/*": 1.0}
    ranks = {media_type: _rank(media_type, ranges) for media_type in MediaType}
    best = max(ranks.values())
    weight, exactness = best
    if weight == 0:
        return None
    if exactness == 0 and ranks[MediaType.LEGACY] == best:
        return MediaType.LEGACY
    return next(media_type for media_type in MediaType if ranks[media_type] == best)


def is_installer(accept: str | None) -> bool:
    """Whether an installer sent the header: it has a media type of PEP 691, or only `text/html` (pip < 22.2)."""
    ranges = _ranges(accept or "")
    return any(name.startswith(_SIMPLE) for name in ranges) or list(ranges) == [MediaType.LEGACY]


def _ranges(accept: str) -> dict[str, float]:
    """Return the header's media ranges with their weights from 0 to 1, leaving out what cannot be parsed."""
    ranges: dict[str, float] = {}
    for element in accept.lower().split(","):
        name, *parameters = (part.strip() for part in element.split(";"))
        name = name.replace(f"{_SIMPLE}latest+", f"{_SIMPLE}v1+")
        weight = _weight(parameters)
        if weight is not None and name.count("/") == 1:
            ranges[name] = max(weight, ranges.get(name, 0.0))
    return ranges


def _weight(parameters: list[str]) -> float | None:
    """Return the `q` of a media range's parameters, 1 if absent; None if it is not a number from 0 to 1."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return quality(value)
    return 1.0


def _rank(media_type: MediaType, ranges: dict[str, float]) -> tuple[float, int]:
    """Return the weight of a media type and how specific its match is, both from the most specific matching range."""
    wildcard = media_type.partition("/")[0] + "/*"
    for exactness, name in ((2, media_type.value), (1, wildcard), (0, "*/*")):
        if name in ranges:
            return ranges[name], exactness
    return 0.0, 0
