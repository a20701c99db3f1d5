"""What the installed torch has: its own functions, the names that callers replace in it."""
