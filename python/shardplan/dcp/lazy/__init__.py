"""Lazy lists and dicts, backed by native columns until first access."""
