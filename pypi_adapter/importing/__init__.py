"""What was uploaded to a registry before this mirror looked, according to another source."""
