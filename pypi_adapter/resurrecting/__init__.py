"""Old checkouts: what they ask for, and what of it can be installed as of their date."""

FOLDER = ".httpcache-resurrect"
"""Where environments are made."""
