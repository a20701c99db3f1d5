"""Errors of saves and loads that say all that is wrong."""
