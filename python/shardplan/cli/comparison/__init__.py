"""Compares the values of two checkpoints, for ``diff --deep``."""
