"""Opens and reads checkpoints for the commands."""
