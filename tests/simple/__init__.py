"""Tests of simple index pages."""
