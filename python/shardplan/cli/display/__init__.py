"""Shows data on a terminal, in text and in pictures."""
