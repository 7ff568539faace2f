"""Tests of what is frozen and who may read it."""
