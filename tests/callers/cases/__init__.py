"""One caller in each module; ``callers.case`` describes what a module has."""
