"""Benchmarks of shardplan against the installed torch: ``python -m benchmarks``."""
