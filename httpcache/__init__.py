"""A generic freezing HTTP mirror: the first request fetches a file, and every later one gets the same bytes."""

__version__ = "0.1.0"
