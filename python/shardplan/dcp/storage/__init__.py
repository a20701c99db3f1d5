"""Readers and writers of checkpoints, and the file of their metadata."""
