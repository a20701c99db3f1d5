"""Planners, and what they do between local and final plans."""
