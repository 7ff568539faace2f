"""What is frozen and who may read it; one download for many readers."""
