"""Tests of the capture and of rescues."""
