"""What can be rebuilt of a checkpoint, and the steps that rebuild it."""
