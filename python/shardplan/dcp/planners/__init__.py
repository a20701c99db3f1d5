"""Planners of saves and loads, and the work of the coordinator."""
