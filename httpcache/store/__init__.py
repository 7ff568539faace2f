"""The store: an index of keys and content-addressed blobs, on one machine's disk."""
