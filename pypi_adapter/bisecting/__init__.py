"""Finds the upload that broke a build, as `git bisect run` finds a commit."""

FOLDER = ".httpcache-bisect"
"""Where environments and results are kept."""
