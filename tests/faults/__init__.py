"""Tests of what fails, hangs or is killed."""
