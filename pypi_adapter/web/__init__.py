"""Serves index pages and files: dated, live, and behind a pin."""
