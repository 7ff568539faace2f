"""What is in force of the settings: the default, else what the file says, else the variable, else the option."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from httpcache import settings_file
from httpcache.adapter import Adapter
from httpcache.errors import MirrorError
from httpcache.settings import PASSWORD, Setting, Settings, declared
from httpcache.settings_file import SettingsFile

from .options import read_list

FILE = Path("httpcache.toml")
"""The settings file that is read if no other is named, and if it is there."""

Given: TypeAlias = Mapping[str, tuple[Any, tuple[str, ...]]]
"""By name of setting: the value that options and variables give it, and which did."""


@dataclass(frozen=True)
class Found:
    """The value of a setting, and where it comes from: nowhere if it is the default."""

    value: Any
    origins: tuple[str, ...] = ()


@dataclass(frozen=True)
class InForce:
    """The settings of a command: by name, the values in force. `given` are those not from the file."""

    file: SettingsFile
    given: Given
    found: Mapping[str, Found]

    def reread(self, installed: Sequence[Adapter]) -> InForce:
        """Return what is in force if the file is read again. Raises MirrorError."""
        settings = [setting for setting in every(installed) if setting.name in self.found]
        return find(settings, self.given, self.file.path, installed)

    def settings(self, installed: Sequence[Adapter], environment: Mapping[str, str]) -> Settings:
        """Return the settings of a mirror. Raises MirrorError if they contradict each other or cannot be used."""
        values = {
            field: self.found[setting.name].value for field, setting in declared().items() if setting.name in self.found
        }
        names = [setting.name for adapter in installed for setting in adapter.settings]
        chosen = Settings(
            **values,
            adapters={name: self.found[name].value for name in names},
            file=self.file,
            environment=environment,
        )
        _check(chosen, installed)
        return chosen


def every(installed: Iterable[Adapter]) -> list[Setting[Any]]:
    """Return every setting of the mirror and of its adapters."""
    return [*declared().values(), *(setting for adapter in installed for setting in adapter.settings)]


def named_file(path: Path | None) -> SettingsFile:
    """Return the settings file, or none if none is named and there is none. Raises MirrorError."""
    if path is None and not FILE.exists():
        return SettingsFile()
    return settings_file.read(path or FILE)


def find(settings: Iterable[Setting[Any]], given: Given, path: Path | None, installed: Sequence[Adapter]) -> InForce:
    """Return what is in force of some settings; all of the file has to be known. Raises MirrorError."""
    file = named_file(path)
    tables = [name for adapter in installed for name in adapter.tables]
    file.check_keys([*(setting.name for setting in every(installed)), *tables])
    return InForce(file, given, {setting.name: _found(setting, file, given) for setting in settings})


def _found(setting: Setting[Any], file: SettingsFile, given: Given) -> Found:
    values: list[tuple[Any, tuple[str, ...]]] = []
    if setting.name in file.document:
        values.append((_from_file(setting, file), (file.where(setting.name),)))
    if setting.name in given:
        values.append(given[setting.name])
    if not setting.is_list:
        return Found(*values[-1]) if values else Found(setting.default)
    return Found(
        (*setting.default, *(each for value, _ in values for each in value)),
        tuple(origin for _, origins in values for origin in origins),
    )


def _from_file(setting: Setting[Any], file: SettingsFile) -> Any:
    """Return what the file says: a value of its kind's types, or a string that the option would take."""
    value = file.document[setting.name]
    try:
        if not setting.is_list:
            return setting.kind.read(_text(setting, value, file))
        if isinstance(value, str):
            return read_list(setting, value)
    except ValueError as error:
        raise file.wrong(f"{setting.name}: {error}", setting.name) from None
    if not isinstance(value, list):
        raise file.wrong(f"{setting.name}: write a list, or a string with commas between the values", setting.name)
    found = []
    for number, each in enumerate(value):
        try:
            found.append(setting.kind.read(_text(setting, each, file)))
        except ValueError as error:
            raise file.wrong(f"{setting.name}: {error}", setting.name, number) from None
    return found


def _text(setting: Setting[Any], value: Any, file: SettingsFile) -> str:
    """Return a value as the option would take it. Raises ValueError if it is of another type."""
    kind = setting.kind
    if type(value) in kind.natives:
        return kind.write(value) if isinstance(value, bool) else f"{value}"
    if not isinstance(value, str):
        names = {(bool,): "true, false or ", (int,): "a whole number or ", (int, float): "a number or "}
        raise ValueError(f"write {names.get(kind.natives, '')}a string")
    return kind.place(value, file.folder)


def _check(chosen: Settings, installed: Sequence[Adapter]) -> None:
    """Raise MirrorError if settings contradict each other, or name what cannot be used."""
    from httpcache.upstream import transport  # imports an HTTP client, which most commands do not need

    if chosen.root_path_stripped and not chosen.root_path:
        raise MirrorError("--root-path-stripped needs --root-path: name the prefix that the proxy strips")
    secret = set(chosen.keep_headers) & set(chosen.credential_headers)
    if secret:
        raise MirrorError(f"--keep-header {secret.pop()} carries credentials, which are never kept: remove it")
    if chosen.offline and (chosen.capture or chosen.capture_every):
        raise MirrorError("--capture sends requests to upstreams, --offline forbids that: remove one of them")
    if chosen.pages == PASSWORD and not chosen.pages_password_hash:
        raise MirrorError("--pages password needs --pages-password-hash: `httpcache pages-password` makes one")
    transport.check(chosen)
    for adapter in installed:
        adapter.check(chosen)
