"""Versions as Poetry, Pipenv and conda write them, as specifiers (PEP 440). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

_PARTS = re.compile(r"\s*,\s*|\s+(?=[<>=!~^])")
_CONDA = re.compile(r"(==?|)\s*([\w.*+!-]+)(?:[=\s]+(\S+))?")


def alternatives(text: str) -> list[SpecifierSet]:
    """Return what a constraint of Poetry allows: versions in one of these. Raises ValueError.

    `^1.2` is `>=1.2,<2`: nothing changes up to the first number that is not zero. `~1.2` is `>=1.2,<1.3`.
    """
    try:
        return [SpecifierSet(",".join(_specifiers(each))) for each in re.split(r"\|\|?", text)]
    except (InvalidSpecifier, InvalidVersion) as error:
        raise ValueError(f"{text} is no constraint of Poetry") from error


def _specifiers(text: str) -> Iterator[str]:
    for part in filter(None, _PARTS.split(text.strip())):
        part = re.sub(r"\s+", "", part)
        if part == "*":
            continue
        if part.startswith("^") or (part.startswith("~") and not part.startswith("~=")):
            yield from _range(part[1:], is_caret=part.startswith("^"))
        elif part[0] in "<>!~" or part.startswith("=="):
            yield part
        else:
            yield f"=={part.removeprefix('=')}"


def _range(text: str, *, is_caret: bool) -> Iterator[str]:
    release = Version(text).release
    yield f">={text}"
    place = min(1, len(release) - 1)
    if is_caret:
        place = next((at for at, number in enumerate(release) if number), len(release) - 1)
    yield f"<{'.'.join(map(str, [*release[:place], release[place] + 1]))}"


def conda(text: str) -> str:
    """Return a specifier for what follows the name in a dependency of conda. Raises ValueError.

    `=1.2` is `==1.2.*`, and what has a build, `=1.2=py38_0` or `1.2 py38_0`, is `==1.2`.
    """
    found = _CONDA.fullmatch(text)
    if found:
        sign, version, build = found.groups()
        version = re.sub(r"(?<=\d)\*$", ".*", version)
        is_whole = build or sign != "=" or version.endswith("*")
        text = "" if version == "*" else f"=={version}" if is_whole else f"=={version}.*"
    try:
        return str(SpecifierSet(text))
    except InvalidSpecifier as error:
        raise ValueError(f"{text} are no versions") from error
