"""Access keys: which there are, and how often each, and each client, may ask."""
