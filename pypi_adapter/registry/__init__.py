"""One upstream registry: its pages, files, metadata and list of projects."""
