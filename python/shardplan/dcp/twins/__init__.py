"""Functions that answer to upstream's: same names, arguments, results and errors."""
