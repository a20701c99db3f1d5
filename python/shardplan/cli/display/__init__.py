"""Output as text, tables, progress bars and pictures."""
