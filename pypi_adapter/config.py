"""The configuration file (TOML): the tables of `policy`, and registries and groups besides the built-in registry.

    [[registry]]
    name = "internal"
    index = "https://gitlab.example/api/v4/projects/7/packages/pypi/simple/"
    user = "ci"                            # Basic (RFC 7617); instead of user and password:
    password = { env = "GITLAB_TOKEN" }    #     header = "Private-Token"
    capture = "requested"                  #     value = { file = "/run/secrets/token" }
    read-ahead = true                      # false: fetch nothing before a client asks for it

    [[group]]
    name = "everything"
    registries = ["internal", "pypi"]      # "pypi" is the built-in one

Paths are relative to the file. It contains no secrets: it names the variable or the file that holds each one.
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
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, and surrogates (undecodable bytes)
_HOW = 'write { env = "VARIABLE" } or { file = "PATH" }: secrets are not written in this file'


@dataclass(frozen=True)
class RegistryConfig:
    """A registry besides the built-in one: its index, the operator's credentials, and the scope of its capture.

    `read_ahead`: whether it is asked for what installers will probably want next.
    """

    name: str
    index: str
    credentials: Credentials = field(repr=False)
    capture: Scope
    read_ahead: bool = True


@dataclass(frozen=True)
class GroupConfig:
    """The names of a group's registries, in order of precedence."""

    name: str
    registries: tuple[str, ...]


@dataclass(frozen=True)
class Config:
    """The contents of the configuration file.

    `policy` applies to the built-in registry, `named_policy` to those in `registries`.
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
    read_ahead: bool = msgspec.field(default=True, name="read-ahead")


class _Group(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    registries: tuple[str, ...]


class _Document(Tables, forbid_unknown_fields=True):
    registry: tuple[_Registry, ...] = ()
    group: tuple[_Group, ...] = ()


def read_config(path: Path, environment: Mapping[str, str]) -> Config:
    """Read the configuration file; `environment` holds the variables that it may name.

    Raises MirrorError with a message that says what is wrong and contains no secret.
    """
    try:
        document = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _Document)
    except OSError as error:
        raise MirrorError(f"the configuration {path} cannot be read: {error.strerror}") from error
    except (ValueError, msgspec.ValidationError) as error:
        raise MirrorError(f"the configuration {path} is not valid: {error}") from error
    policy, named_policy = read_policies(document, path)
    try:
        _check_names([*document.registry, *document.group])
        registries = tuple(_registry(table, path.parent, environment) for table in document.registry)
        groups = tuple(_group(table, document.registry) for table in document.group)
    except MirrorError as error:
        raise MirrorError(f"the configuration {path}: {error.text}") from None
    return Config(policy, named_policy, registries, groups)


def _check_names(tables: Sequence[_Registry | _Group]) -> None:
    """Raise MirrorError if a name is used twice, or is ambiguous as the first segment of an address."""
    names = [table.name for table in tables]
    for name in names:
        reserved = name in (PYPI, "files") or is_when(name) or pin_prefix(name) != name
        if reserved or not _NAME.fullmatch(name):
            raise MirrorError(
                f"{name!r} is not a valid name for a registry or a group: use a-z, 0-9 and '-' between them, without "
                "a date at the end; pypi, files, live and live-<N>d are reserved"
            )
        if names.count(name) > 1:
            raise MirrorError(f"two registries or groups are named {name!r}: give each its own name")


def _registry(table: _Registry, folder: Path, environment: Mapping[str, str]) -> RegistryConfig:
    try:
        return RegistryConfig(
            table.name,
            _index(table.index),
            _credentials(table, folder, environment),
            read_scope(table.capture, folder),
            table.read_ahead,
        )
    except MirrorError as error:
        raise MirrorError(f"[[registry]] {table.name!r}: {error.text}") from None


def _index(text: str) -> str:
    try:
        return read_address(text.rstrip("/") + "/").wire
    except BadAddress:  # its message is about requests, and may show a secret
        raise MirrorError(
            "index is not the URL of a simple index: use http or https, without a user name or a query"
        ) from None


def _credentials(table: _Registry, folder: Path, environment: Mapping[str, str]) -> Credentials:
    match (table.user, table.password, table.header, table.value):
        case (None, None, None, None):
            return NOBODY
        case (str(user), password, None, None) if password is not None:
            return _sent(AUTHORIZATION, _basic(user, _secret("password", password, folder, environment)))
        case (None, None, str(header), value) if value is not None:
            return _sent(header, _secret("value", value, folder, environment))
    raise MirrorError("credentials are incomplete or mixed: set user and password, or header and value")


def _sent(header: str, value: str) -> Credentials:
    """Return credentials that are sent with the first attempt, without waiting for a challenge."""
    if not _HEADER_NAME.fullmatch(header):
        raise MirrorError(f"{header!r} is not a valid header name (RFC 9110 section 5.1)")
    if not _HEADER_VALUE.fullmatch(value):
        raise MirrorError(
            "value has characters that a header cannot carry: use visible ASCII, with spaces only in between"
        )
    return Credentials(((header.lower(), value),))


def _basic(user: str, password: str) -> str:
    """Return the `Authorization` value for a user and a password (RFC 7617), in UTF-8."""
    if ":" in user or _UNFIT.search(user):
        raise MirrorError("user has a colon or a control character, which Basic cannot carry (RFC 7617 section 2)")
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def _secret(key: str, reference: object, folder: Path, environment: Mapping[str, str]) -> str:
    """Return the secret that a key refers to, from a variable or a file.

    Raises MirrorError, whose message does not contain the secret.
    """
    match reference:
        case {"env": str(name), **rest} if not rest:
            source, secret = f"the variable {name}", environment.get(name)
            if secret is None:
                raise MirrorError(f"{key}: {source} is not set")
        case {"file": str(name), **rest} if not rest:
            source, secret = f"the file {folder / name}", _read(key, folder / name)
        case _:
            raise MirrorError(f"{key}: {_HOW}")
    if not secret:
        raise MirrorError(f"{key}: {source} is empty")
    if _UNFIT.search(secret):
        raise MirrorError(f"{key}: {source} contains control characters, or bytes that are not UTF-8")
    return secret


def _read(key: str, path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid file name"
        raise MirrorError(f"{key}: the file {path} cannot be read: {reason}") from None
    return text.removesuffix("\n")


def _group(table: _Group, registries: Sequence[_Registry]) -> GroupConfig:
    known = {PYPI, *(registry.name for registry in registries)}
    unknown = [name for name in table.registries if name not in known]
    if unknown:
        raise MirrorError(f"[[group]] {table.name!r}: there is no registry named {unknown[0]!r}")
    if not table.registries or len(set(table.registries)) < len(table.registries):
        raise MirrorError(f"[[group]] {table.name!r}: registries must name at least one registry, and each only once")
    return GroupConfig(table.name, table.registries)


def read_scope(text: str, folder: Path) -> Scope:
    """Parse the scope of a capture: `requested`, `all`, or the name of a file in `folder` with one project per line.

    In the file, `#` begins a comment. Raises MirrorError with a message that says what to write.
    """
    if text in (REQUESTED, ALL):
        return Scope(text)
    try:
        lines = (folder / text).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise MirrorError(
            f"{text!r} is not a capture scope: write requested, all, or the name of a file with one project per line "
            f"({getattr(error, 'strerror', None) or error})"
        ) from error
    written = [name for line in lines if (name := line.partition("#")[0].strip())]
    if not written:
        raise MirrorError(f"{folder / text} contains no project names: write one per line")
    try:
        return Scope(LISTED, tuple(sorted({canonicalize_name(name, validate=True) for name in written})))
    except InvalidName as error:
        raise MirrorError(f"{folder / text}: {error}: write one project name per line") from error
