"""Diagnosis of faulty boxes, and formatting of units. Nothing here imports torch."""
