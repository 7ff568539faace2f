"""npm registries on the freezing mirror: links of packuments behind a pin stay within the pin."""

from .adapter import NpmAdapter

adapter = NpmAdapter()
