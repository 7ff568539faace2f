"""Requests to upstreams: the SSRF guard, limits and content codings."""
