"""The operator's one file (TOML): the tables of `policy`, and registries and groups beside the built-in registry.

    [[registry]]
    name = "internal"
    index = "https://gitlab.example/api/v4/projects/7/packages/pypi/simple/"
    user = "ci"                            # Basic (RFC 7617), or in place of user and password:
    password = { env = "GITLAB_TOKEN" }    #     header = "Private-Token"
    capture = "requested"                  #     value = { file = "/run/secrets/token" }

    [[group]]
    name = "everything"
    registries = ["internal", "pypi"]      # "pypi" is the built-in one

Paths in it are relative to it. No secret stands in it: a variable or a file is named that has it.
"""

from __future__ import annotations

import re
import tomllib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from packaging.utils import InvalidName, canonicalize_name

from httpcache.credentials import AUTHORIZATION, Credentials
from httpcache.errors import BadAddress, MirrorError
from httpcache.freezing.mirror import NOBODY
from httpcache.target import pin_prefix, read_address
from pypi_adapter.policy.policy import Policy, Tables, read_policies
from pypi_adapter.registry.passes import ALL, LISTED, REQUESTED, Scope
from pypi_adapter.registry.registry import PYPI

from .addresses import is_when

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 section 5.6.2
_HEADER_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # controls, and what bytes that are not UTF-8 become
_HOW = 'write { env = "VARIABLE" } or { file = "PATH" }: a secret does not stand in this file'


@dataclass(frozen=True)
class RegistryConfig:
    """A registry beside the built-in one: its index, the operator's credentials for it, the scope of its capture."""

    name: str
    index: str
    credentials: Credentials = field(repr=False)
    capture: Scope


@dataclass(frozen=True)
class GroupConfig:
    """Registries by their names, in the order in which they are asked."""

    name: str
    registries: tuple[str, ...]


@dataclass(frozen=True)
class Config:
    """What the operator's file says.

    `policy` is for the built-in registry, `named_policy` for those in `registries`.
    """

    policy: Policy = field(default_factory=Policy)
    named_policy: Policy = field(default_factory=Policy)
    registries: tuple[RegistryConfig, ...] = ()
    groups: tuple[GroupConfig, ...] = ()


class _Registry(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    index: str
    user: str | None = None
    password: object = None
    header: str | None = None
    value: object = None
    capture: str = REQUESTED


class _Group(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    registries: tuple[str, ...]


class _Document(Tables, forbid_unknown_fields=True):
    registry: tuple[_Registry, ...] = ()
    group: tuple[_Group, ...] = ()


def read_config(path: Path, environment: Mapping[str, str]) -> Config:
    """Read the operator's file; `environment` has the variables that it may name.

    Raises MirrorError with a text that says what is wrong, without any secret.
    """
    try:
        document = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _Document)
    except OSError as error:
        raise MirrorError(f"the configuration {path} cannot be read: {error.strerror}") from error
    except (ValueError, msgspec.ValidationError) as error:
        raise MirrorError(f"the configuration {path} cannot be understood: {error}") from error
    policy, named_policy = read_policies(document, path)
    try:
        _check_names([*document.registry, *document.group])
        registries = tuple(_registry(given, path.parent, environment) for given in document.registry)
        groups = tuple(_group(given, document.registry) for given in document.group)
    except MirrorError as error:
        raise MirrorError(f"the configuration {path}: {error.text}") from None
    return Config(policy, named_policy, registries, groups)


def _check_names(given: Sequence[_Registry | _Group]) -> None:
    """Raise MirrorError where a name could be taken for something else that an address begins with."""
    names = [each.name for each in given]
    for name in names:
        reserved = name in (PYPI, "files") or is_when(name) or pin_prefix(name) != name
        if reserved or not _NAME.fullmatch(name):
            raise MirrorError(
                f"{name!r} is no name for a registry or a group: use a-z, 0-9 and '-' between them, no date at the "
                "end, and not pypi, files, live or live-<N>d"
            )
        if names.count(name) > 1:
            raise MirrorError(f"there are two registries or groups with the name {name!r}")


def _registry(given: _Registry, folder: Path, environment: Mapping[str, str]) -> RegistryConfig:
    try:
        return RegistryConfig(
            given.name,
            _index(given.index),
            _credentials(given, folder, environment),
            read_scope(given.capture, folder),
        )
    except MirrorError as error:
        raise MirrorError(f"[[registry]] {given.name!r}: {error.text}") from None


def _index(text: str) -> str:
    try:
        return read_address(text.rstrip("/") + "/").wire
    except BadAddress:  # its text speaks of requests, and may show what should not be there
        raise MirrorError("index takes the http or https address of a simple index, without user and query") from None


def _credentials(given: _Registry, folder: Path, environment: Mapping[str, str]) -> Credentials:
    match (given.user, given.password, given.header, given.value):
        case (None, None, None, None):
            return NOBODY
        case (str(user), password, None, None) if password is not None:
            return _sent(AUTHORIZATION, _basic(user, _secret("password", password, folder, environment)))
        case (None, None, str(header), value) if value is not None:
            return _sent(header, _secret("value", value, folder, environment))
    raise MirrorError("credentials are user and password, or header and value")


def _sent(header: str, value: str) -> Credentials:
    """Return credentials that go with the first try."""
    if not _HEADER_NAME.fullmatch(header):
        raise MirrorError(f"{header!r} is no name of a header (RFC 9110 section 5.1)")
    if not _HEADER_VALUE.fullmatch(value):
        raise MirrorError("value has characters that no header can carry: visible ASCII and spaces between can be")
    return Credentials(((header.lower(), value),))


def _basic(user: str, password: str) -> str:
    """Return the header for a user and a password (RFC 7617), in UTF-8."""
    if ":" in user or _UNFIT.search(user):
        raise MirrorError("user has a colon or a control character, which Basic cannot carry (RFC 7617 section 2)")
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def _secret(what: str, given: object, folder: Path, environment: Mapping[str, str]) -> str:
    """Return the secret that a variable or a file has. Raises MirrorError, without the secret."""
    match given:
        case {"env": str(name), **rest} if not rest:
            source, secret = f"the variable {name}", environment.get(name)
            if secret is None:
                raise MirrorError(f"{what}: {source} is not set")
        case {"file": str(name), **rest} if not rest:
            source, secret = f"the file {folder / name}", _read(what, folder / name)
        case _:
            raise MirrorError(f"{what}: {_HOW}")
    if not secret:
        raise MirrorError(f"{what}: {source} is empty")
    if _UNFIT.search(secret):
        raise MirrorError(f"{what}: {source} has control characters in it, or bytes that are not UTF-8")
    return secret


def _read(what: str, path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name is none"
        raise MirrorError(f"{what}: the file {path} cannot be read: {reason}") from None
    return text.removesuffix("\n")


def _group(given: _Group, registries: Sequence[_Registry]) -> GroupConfig:
    known = {PYPI, *(registry.name for registry in registries)}
    unknown = [name for name in given.registries if name not in known]
    if unknown:
        raise MirrorError(f"[[group]] {given.name!r}: there is no registry {unknown[0]!r}")
    if not given.registries or len(set(given.registries)) < len(given.registries):
        raise MirrorError(f"[[group]] {given.name!r}: registries takes names of registries, each once")
    return GroupConfig(given.name, given.registries)


def read_scope(text: str, folder: Path) -> Scope:
    """Read a scope as an operator writes it: `requested`, `all`, or a file with one name a line (in `folder`).

    In the file, what follows a `#` is no name. Raises MirrorError with a text that says what to write.
    """
    if text in (REQUESTED, ALL):
        return Scope(text)
    try:
        lines = (folder / text).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise MirrorError(
            f"{text!r} is no scope of a capture: write requested, all, or the name of a file with one project a line "
            f"({getattr(error, 'strerror', None) or error})"
        ) from error
    written = [name for line in lines if (name := line.partition("#")[0].strip())]
    if not written:
        raise MirrorError(f"{folder / text} has no name of a project in it: write one a line")
    try:
        return Scope(LISTED, tuple(sorted({canonicalize_name(name, validate=True) for name in written})))
    except InvalidName as error:
        raise MirrorError(f"{folder / text}: {error}: write one name of a project a line") from error
