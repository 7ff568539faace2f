"""Pure: what an installer will want, from what it says of itself, from index pages, and from METADATA."""
