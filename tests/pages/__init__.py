"""Tests of the pages for people over HTTP."""
