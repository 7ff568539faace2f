"""Tests of what is imported of the time before the first observation."""
