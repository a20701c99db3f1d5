"""The functions of the installed torch, and a check for names that callers have replaced in it."""
