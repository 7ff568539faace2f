"""The tables of the settings file: those of `policy`, and registries and groups besides the built-in registry.

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
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from httpcache.credentials import AUTHORIZATION, Credentials
from httpcache.freezing.mirror import NOBODY
from httpcache.settings_file import SettingsFile, meant
from httpcache.target import pin_prefix
from pypi_adapter.policy.policy import Policy, Tables, read_policies
from pypi_adapter.registry.scope import REQUESTED, Scope

from .addresses import PYPI, is_when
from .settings import place_scope, read_index, read_scope

T = TypeVar("T")

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
    """The contents of the tables.

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


class Document(Tables, forbid_unknown_fields=True):
    """The tables, as they are in the file."""

    registry: tuple[_Registry, ...] = ()
    group: tuple[_Group, ...] = ()


def read_config(file: SettingsFile, environment: Mapping[str, str]) -> Config:
    """Read the tables of the settings file; `environment` holds the variables that they may name.

    Raises MirrorError with a message that says what is wrong, and where, and contains no secret.
    """
    document = file.tables(Document)
    policy, named_policy = read_policies(document, file)
    _check_names(document, file)
    registries = tuple(_registry(table, number, file, environment) for number, table in enumerate(document.registry))
    groups = tuple(_group(table, number, file, document.registry) for number, table in enumerate(document.group))
    return Config(policy, named_policy, registries, groups)


class _BadKey(Exception):
    """The value of a key of a registry is not valid."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(f"{key}: {text}")
        self.key = key


def _check_names(document: Document, file: SettingsFile) -> None:
    """Raise MirrorError if a name is used twice, or is ambiguous as the first segment of an address."""
    seen = set()
    kinds: list[tuple[str, Sequence[_Registry | _Group]]] = [("registry", document.registry), ("group", document.group)]
    for kind, number, name in [
        (kind, number, table.name) for kind, tables in kinds for number, table in enumerate(tables)
    ]:
        reserved = name in (PYPI, "files") or is_when(name) or pin_prefix(name) != name
        if reserved or not _NAME.fullmatch(name):
            raise file.wrong(
                f"{name!r} is not a valid name for a registry or a group: use a-z, 0-9 and '-' between them, without "
                "a date at the end; pypi, files, live and live-<N>d are reserved",
                kind, number, "name",
            )  # fmt: skip
        if name in seen:
            raise file.wrong(
                f"two registries or groups are named {name!r}: give each its own name", kind, number, "name"
            )
        seen.add(name)


def _registry(table: _Registry, number: int, file: SettingsFile, environment: Mapping[str, str]) -> RegistryConfig:
    try:
        return RegistryConfig(
            table.name,
            _read("index", read_index, table.index),
            _credentials(table, file.folder, environment),
            _read("capture", read_scope, place_scope(table.capture, file.folder)),
            table.read_ahead,
        )
    except _BadKey as error:
        raise file.wrong(f"[[registry]] {table.name!r}: {error}", "registry", number, error.key) from None


def _read(key: str, read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise _BadKey(key, str(error)) from None


def _credentials(table: _Registry, folder: Path, environment: Mapping[str, str]) -> Credentials:
    match (table.user, table.password, table.header, table.value):
        case (None, None, None, None):
            return NOBODY
        case (str(user), password, None, None) if password is not None:
            return _sent(AUTHORIZATION, _basic(user, _secret("password", password, folder, environment)))
        case (None, None, str(header), value) if value is not None:
            return _sent(header, _secret("value", value, folder, environment))
    key = next(each for each in ("user", "password", "header", "value") if getattr(table, each) is not None)
    raise _BadKey(key, "credentials are incomplete or mixed: set user and password, or header and value")


def _sent(header: str, value: str) -> Credentials:
    """Return credentials that are sent with the first attempt, without waiting for a challenge."""
    if not _HEADER_NAME.fullmatch(header):
        raise _BadKey("header", f"{header!r} is not a valid header name (RFC 9110 section 5.1)")
    if not _HEADER_VALUE.fullmatch(value):
        raise _BadKey(
            "value", "it has characters that a header cannot carry: use visible ASCII, with spaces in between"
        )
    return Credentials(((header.lower(), value),))


def _basic(user: str, password: str) -> str:
    """Return the `Authorization` value for a user and a password (RFC 7617), in UTF-8."""
    if ":" in user or _UNFIT.search(user):
        raise _BadKey("user", "it has a colon or a control character, which Basic cannot carry (RFC 7617 section 2)")
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def _secret(key: str, reference: object, folder: Path, environment: Mapping[str, str]) -> str:
    """Return the secret that a key refers to, from a variable or a file.

    Raises _BadKey, whose message does not contain the secret.
    """
    match reference:
        case {"env": str(name), **rest} if not rest:
            source, secret = f"the variable {name}", environment.get(name)
            if secret is None:
                raise _BadKey(key, f"{source} is not set")
        case {"file": str(name), **rest} if not rest:
            source, secret = f"the file {folder / name}", _read_file(key, folder / name)
        case _:
            raise _BadKey(key, _HOW)
    if not secret:
        raise _BadKey(key, f"{source} is empty")
    if _UNFIT.search(secret):
        raise _BadKey(key, f"{source} contains control characters, or bytes that are not UTF-8")
    return secret


def _read_file(key: str, path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid file name"
        raise _BadKey(key, f"the file {path} cannot be read: {reason}") from None
    return text.removesuffix("\n")


def _group(table: _Group, number: int, file: SettingsFile, registries: Sequence[_Registry]) -> GroupConfig:
    known = [PYPI, *(registry.name for registry in registries)]
    head, place = f"[[group]] {table.name!r}", ("group", number, "registries")
    for position, name in enumerate(table.registries):
        if name not in known:
            raise file.wrong(f"{head}: there is no registry named {name!r}{meant(name, known)}", *place, position)
    if not table.registries or len(set(table.registries)) < len(table.registries):
        raise file.wrong(f"{head}: registries must name at least one registry, and each only once", *place)
    return GroupConfig(table.name, table.registries)
