"""Pure: parses and renders simple index pages, by way of one model."""
