"""The adapter that `httpcache` loads through its entry point. What a server needs of it is in `bound`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from httpcache.adapter import Build, Client, Described, Fetched, Followed, Part, Recipe, Retold, Story, Unmet, Wish
from httpcache.credentials import Credentials
from httpcache.settings import Settings

from .addresses import PYPI
from .commands import COMMANDS
from .settings import SETTINGS, upstream_of
from .tools import TOOLS

if TYPE_CHECKING:
    from httpcache.adapter import Bound
    from httpcache.freezing.mirror import Mirror
    from httpcache.settings_file import SettingsFile
    from httpcache.store.builds import File
    from httpcache.store.store import Store
    from httpcache.target import Target

    from .policy.policy import Policy


class PypiAdapter:
    """See `httpcache.adapter.Adapter`."""

    settings = SETTINGS
    tables = ("cooldown", "advisories", "block", "allow", "registry", "group")
    commands = COMMANDS
    tools = TOOLS

    def check(self, settings: Settings) -> None:
        """Raise MirrorError if a table of the adapter is not valid."""
        from .config import read_config

        read_config(settings.file, settings.environment)

    def bind(self, mirror: Mirror) -> Bound:
        """Return the adapter bound to a mirror."""
        from .bound import bind  # what only a server needs

        return bind(mirror)

    def followed(self, settings: Settings) -> Sequence[Followed]:
        """Return the built-in registry, and those of the settings file. Raises MirrorError."""
        from .config import read_config

        named = read_config(settings.file, settings.environment).registries
        own = Followed(PYPI, upstream_of(settings), Credentials())
        return [own, *(Followed(each.name, each.index, each.credentials) for each in named)]

    async def last_capture(self, store: Store, name: str) -> tuple[float, int] | None:
        """See `httpcache.adapter.Adapter`."""
        from pypi_adapter.registry.passes import Passes  # only a server and `httpcache doctor` need them

        passes = await Passes(store, name).all()
        return (passes[-1].finished / 1e6, len(passes[-1].failed)) if passes else None

    def plan(self, build: Build, read: Callable[[str, str], Fetched]) -> Iterable[Wish | Unmet] | None:
        """See `httpcache.adapter.Adapter`. Any file that is of no other ecosystem is taken for a requirements file."""
        from .warming import planning  # only this command needs it

        return None if build.file and build.file.suffix == ".json" else planning.plan(build, read)

    def lock(self, build: Build) -> str | None:
        """Return a pylock.toml of what a requirements file resolves to (PEP 751)."""
        from .warming import locking  # only this command needs it

        return locking.lock(build, build.file) if build.file and build.file.suffix != ".json" else None

    def parts(self, store: Store, file: SettingsFile, name: str, date: str, *, settle: bool) -> AsyncIterator[Part]:
        """Return what belongs to a registry or group, as of a date or in all, or to a pin."""
        from .belongings import parts  # only an export needs it

        return parts(store, file, name, date, settle=settle)

    def log_names(self, store: Store, file: SettingsFile) -> AsyncIterator[str]:
        """Yield the names of the logs of all registries."""
        from .belongings import log_names  # only an audit needs it

        return log_names(store, file)

    async def story(self, store: Store, file: SettingsFile, target: Target, digest: str) -> Story | None:
        """Return where a file is listed, and which rule, advisory or quarantine withholds it."""
        from .config import Document  # only `httpcache show` needs these
        from .policy.policy import read_policies
        from .policy.rule_log import CurrentPolicy
        from .story import story

        async def policy_of(registry: str) -> Policy:
            policies = read_policies(file.tables(Document), file)
            return await CurrentPolicy(store, policies[registry != PYPI]).current()

        return await story(store, target, digest, policy_of)

    def logs_of(self, project: str) -> Sequence[str]:
        """Return the name of the log of a project's observations."""
        from .auditing import log_of  # only an audit needs it

        return [log_of(project)]

    def retold(self, client: Client, project: str, date: str) -> Retold:
        """Return the page of a project at a date, as a mirror serves it. Raises MirrorError."""
        from .auditing import DatedPage  # only an audit needs it

        return DatedPage(client, project, date)

    def told_apart(self, log: str, one: Sequence[bytes], other: Sequence[bytes]) -> str:
        """Return in what the pages of a project differ, by the logs of two mirrors."""
        from .auditing import told_apart  # only an audit needs it

        return told_apart(one, other)

    async def describe(self, store: Store, settings: Settings, files: Sequence[File]) -> Sequence[Described | None]:
        """Return what METADATA and the operator's advisories say of distribution files."""
        from .described import describe  # only a bill of materials needs it

        return await describe(store, settings, files)

    def usage(self, address: str, date: str) -> Sequence[tuple[str, str]]:
        """Return a label and a command for each client that the start page shows."""
        return [
            ("pip", f"pip install -i {address}/{date}/ PACKAGE"),
            ("uv", f"uv pip install --index-url {address}/{date}/ PACKAGE"),
            ("Poetry", f"poetry source add --priority=primary mirror {address}/{date}/"),
        ]

    def recipes(self, address: str, date: str) -> Sequence[Recipe]:
        """Return how Python's package managers install as of a date."""
        from .pages.recipes import recipes  # only the start page needs them

        return recipes(address, date)
