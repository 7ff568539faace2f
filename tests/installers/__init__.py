"""Tests of `pypi_adapter.installers`."""
