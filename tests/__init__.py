"""The tests: real clients, real sockets, upstreams started here."""
