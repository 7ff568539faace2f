"""Tests of what many requests cost."""
