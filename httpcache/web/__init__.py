"""The ASGI application: requests to responses."""
