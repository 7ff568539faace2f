"""Requests to upstreams: the guard against SSRF, bounds, content codings."""
