"""Carries what is frozen from one mirror to another in one file, for sites without a network."""
