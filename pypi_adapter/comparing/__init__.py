"""What a resolver would see differently at two dates."""
