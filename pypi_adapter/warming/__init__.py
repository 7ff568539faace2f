"""What builds will ask for, read from their requirements and lock files, to be frozen beforehand."""
