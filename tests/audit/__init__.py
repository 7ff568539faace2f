"""Tests of the history that can be audited."""
