"""Passes over a registry, and the rescue of files that it removes."""
