"""Tests of npm registries."""
