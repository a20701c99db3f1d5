"""shardplan and the installed torch side by side: ``python -m benchmarks``."""
