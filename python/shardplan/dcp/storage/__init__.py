"""Storage readers and writers, and the metadata file."""
