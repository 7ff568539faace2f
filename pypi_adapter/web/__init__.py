"""Index pages and files as responses: dated, live, and behind a pin."""
