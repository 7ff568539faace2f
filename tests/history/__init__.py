"""Tests of histories and what they are as of an instant."""
