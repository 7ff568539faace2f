"""What the tests stand on: upstreams, packages, registries, the mirror under test and its clients."""
