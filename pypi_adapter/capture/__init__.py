"""Captures of a registry, and the rescue of files that it removes."""
