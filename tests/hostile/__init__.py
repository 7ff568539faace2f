"""Tests of hostile input."""
