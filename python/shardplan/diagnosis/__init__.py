"""What is wrong with boxes, in words; without torch."""
