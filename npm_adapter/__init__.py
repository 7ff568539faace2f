"""npm registries on the freezing mirror: packuments behind a pin lead through the pin."""

from .adapter import NpmAdapter

adapter = NpmAdapter()
