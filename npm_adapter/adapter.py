"""The adapter that `httpcache` finds through its entry point: npm registries behind a pin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from httpcache.adapter import Build, Client, Command, Described, Fetched, Followed, Part, Recipe, Tool, Unmet, Wish
from httpcache.settings import Setting, Settings

if TYPE_CHECKING:
    from httpcache.adapter import Bound as BoundAdapter
    from httpcache.freezing.mirror import Mirror
    from httpcache.settings_file import SettingsFile
    from httpcache.store.builds import File
    from httpcache.store.store import Store
    from httpcache.target import Target


class NpmAdapter:
    """See `httpcache.adapter.Adapter`."""

    settings: Sequence[Setting[Any]] = ()
    tables: Sequence[str] = ()
    commands: Sequence[Command] = ()
    tools: Sequence[Tool] = ()

    def check(self, settings: Settings) -> None:
        """Do nothing: the adapter has no settings."""

    def bind(self, mirror: Mirror) -> BoundAdapter:
        """Return the adapter bound to a mirror."""
        from .bound import Bound  # what only a server needs

        return Bound(mirror)

    def followed(self, settings: Settings) -> Sequence[Followed]:
        """Return nothing: npm's registries are behind pins."""
        return ()

    async def last_capture(self, store: Store, name: str) -> None:
        """Do nothing: there are none."""

    def plan(self, build: Build, read: Callable[[str, str], Fetched]) -> Iterable[Wish | Unmet] | None:
        """Return the packages that a package-lock.json names."""
        from .package_lock import planned  # only `httpcache warm` needs it

        return planned(build, read)

    def lock(self, build: Build) -> None:
        """Do nothing: npm writes its lock file itself."""

    def parts(self, store: Store, file: SettingsFile, name: str, date: str, *, settle: bool) -> AsyncIterator[Part]:
        """Return what packuments of a pin have announced; there are no dated indexes."""
        from .announcements import carried  # only an export needs it

        return carried(store, "" if date else name)

    async def log_names(self, store: Store, file: SettingsFile) -> AsyncIterator[str]:
        """Yield the names of what pins have seen of registries. Raises StoreError."""
        for pin in await store.index.pins():
            yield f"npm/{pin.pin}/registries"

    async def story(self, store: Store, file: SettingsFile, target: Target, digest: str) -> None:
        """Do nothing: which packument lists a file is not told."""

    def logs_of(self, project: str) -> Sequence[str]:
        """Return nothing: its logs are not published."""
        return ()

    def retold(self, client: Client, project: str, date: str) -> None:
        """Return nothing: there are no dated indexes of npm."""

    def told_apart(self, log: str, one: Sequence[bytes], other: Sequence[bytes]) -> None:
        """Return nothing: its logs are not published."""

    async def describe(self, store: Store, settings: Settings, files: Sequence[File]) -> Sequence[Described | None]:
        """Return what package.json says of the tarballs that packuments have announced."""
        from .described import describe  # only a bill of materials needs it

        return [await describe(store, file) for file in files]

    def usage(self, address: str, date: str) -> Sequence[tuple[str, str]]:
        """Return the command lines for npm, pnpm and Yarn."""
        registry = f"{address}/npm-{date}/$(npm config get registry)"
        return [
            ("npm", f"npm install --registry {registry} PACKAGE"),
            ("pnpm", f"pnpm add --registry {registry} PACKAGE"),
            ("Yarn 1", f"yarn add --registry {registry} PACKAGE"),
        ]

    def recipes(self, address: str, date: str) -> Sequence[Recipe]:
        """Return how npm, pnpm and Yarn install through a pin."""
        registry = f"{address}/tools-{date}/$(npm config get registry)"
        return [
            Recipe(
                "npm", "The first request for each package freezes its versions.", f"npm install --registry {registry}"
            ),
            Recipe(
                "npm",
                "In .npmrc. Leave the mirror's address out of lock files.",
                f"registry={address}/tools-{date}/https://registry.example/\nomit-lockfile-registry-resolved=true",
            ),
            Recipe(
                "pnpm",
                "The first request for each package freezes its versions.",
                f"pnpm install --registry {registry}",
            ),
            Recipe("Yarn", "Yarn 1.", f"yarn install --registry {registry}"),
            Recipe(
                "Yarn",
                "Yarn 4, in .yarnrc.yml; over http also unsafeHttpWhitelist.",
                f'npmRegistryServer: "{address}/tools-{date}/https://registry.example/"',
            ),
        ]
