"""Tests of access keys."""
