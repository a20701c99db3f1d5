"""The parts of examples/train_save_reshard.py."""
