"""Lists and dicts that are columns until somebody touches them."""
