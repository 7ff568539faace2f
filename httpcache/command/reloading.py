"""The settings of a running server, which are read again at SIGHUP."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from httpcache import logs
from httpcache.adapter import Adapter
from httpcache.errors import MirrorError

from .in_force import InForce, every
from .shown import in_words

log = logging.getLogger("httpcache")


class Reloading:
    """The settings in force, and how to read them again. `settings` are those that a worker is to have."""

    def __init__(self, in_force: InForce, installed: Sequence[Adapter], environment: Mapping[str, str]) -> None:
        """Raises MirrorError if the settings are not valid."""
        self._in_force = in_force
        self._installed = installed
        self._environment = environment
        self.settings = in_force.settings(installed, environment)

    def again(self) -> bool:
        """Read the file again; log what changed, and what needs a restart. Return whether there are new settings.

        A file that is not valid changes nothing. One that is the same counts as new: the files that it names may have
        changed.
        """
        old = self._in_force
        logs.start(self.settings.log_level, self.settings.log_format)
        try:
            new = old.reread(self._installed)
            new.settings(self._installed, self._environment)  # it has to be good for a restart, too
            fixed = {setting.name for setting in every(self._installed) if setting.is_fixed}
            kept = {name: old.found[name] if name in fixed else found for name, found in new.found.items()}
            self.settings = (now := replace(new, found=kept)).settings(self._installed, self._environment)
        except MirrorError as error:
            log.error("the settings stay as they were: %s", error.text)
            return False
        self._in_force = now
        logs.start("info", self.settings.log_format)  # for these lines
        log.info("the settings were read again%s", f" from {now.file.path}" if now.file.path else "")
        for line in self._changes(old, new):
            log.info("%s", line)
        logs.begin(self.settings.log_level)
        return True

    def _changes(self, old: InForce, new: InForce) -> Iterator[str]:
        """Yield a line for each setting and each table that has changed."""
        for setting in every(self._installed):
            before, after = old.found[setting.name], new.found[setting.name]
            if before.value != after.value:
                was, now = (in_words(setting, found) or "nothing" for found in (before, after))
                where = f" ({', '.join(after.origins) or 'default'})"
                if setting.is_fixed:
                    yield f"{setting.name}: {now}{where} needs a restart: until then it is {was}"
                else:
                    yield f"{setting.name}: {now}{where}; it was {was}"
        names = {setting.name for setting in every(self._installed)}
        for key in sorted((old.file.document.keys() | new.file.document.keys()) - names):
            if old.file.document.get(key) != new.file.document.get(key):
                yield f"[{key}]: changed"
