"""Freezing: what is frozen, who may read it, and one download for many readers (single-flight)."""
