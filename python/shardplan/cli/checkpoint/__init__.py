"""Opens checkpoints and reads what the commands ask of them."""
