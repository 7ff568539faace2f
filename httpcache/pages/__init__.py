"""Pages for people: how to use the mirror, and what is in it."""
