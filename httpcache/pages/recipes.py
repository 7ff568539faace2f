"""Lines to copy for clients that fetch files by their address; package managers are the adapters'."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from httpcache.adapter import Adapter, Recipe

FIRST = "The first request freezes what the upstream sends; the date of a pin is only a part of its name."


def recipes(address: str, date: str, adapters: Sequence[Adapter]) -> dict[str, list[Recipe]]:
    """Return the recipes of all clients by the name of the client, in the order in which they are shown."""
    found: dict[str, list[Recipe]] = {}
    for recipe in [*(each for adapter in adapters for each in adapter.recipes(address, date)), *_files(address, date)]:
        found.setdefault(recipe.client, []).append(recipe)
    places = {name: place for place, name in enumerate(ORDER)}
    return dict(sorted(found.items(), key=lambda item: places.get(item[0], len(places))))


ORDER = ("pip", "uv", "Poetry", "PDM", "pipenv", "conda", "Docker", "curl", "wget", "apt", "npm", "pnpm", "Yarn")


def _files(address: str, date: str) -> Sequence[Recipe]:
    pin, host = f"{address}/tools-{date}", urlsplit(address).hostname or ""
    docker = f'ARG PIN={pin}\nRUN curl -fsSLO "${{PIN}}/https://example.com/tool.tar.gz"'
    apt = "echo 'Acquire::Check-Valid-Until \"false\";' | sudo tee /etc/apt/apt.conf.d/99frozen"
    return [
        Recipe("Docker", f"In a Dockerfile, for files. {host} must be a name that the build can resolve.", docker),
        Recipe("curl", FIRST, f"curl -fLO {pin}/https://example.com/file.tar.gz"),
        Recipe("wget", FIRST, f"wget {pin}/https://example.com/file.tar.gz"),
        Recipe(
            "wget",
            "A directory listing with all below it.",
            f"wget -r -np -e robots=off {pin}/https://example.com/wheels/",
        ),
        Recipe("apt", f"In /etc/apt/sources.list. {FIRST}", f"deb {pin}/http://apt.example/debian stable main"),
        Recipe("apt", "If the repository has a Valid-Until, which passes although its Release is frozen.", apt),
    ]
