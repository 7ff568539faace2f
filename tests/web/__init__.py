"""Tests of responses over HTTP."""
