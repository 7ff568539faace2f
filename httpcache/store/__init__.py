"""The store: an index of entries and content-addressed blobs, on the disk of one machine."""
