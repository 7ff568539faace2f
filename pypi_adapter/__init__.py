"""Python package indexes on the freezing mirror: dated, live, and any registry pinned."""

from .adapter import PypiAdapter

adapter = PypiAdapter()
