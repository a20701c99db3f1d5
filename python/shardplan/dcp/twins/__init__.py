"""Twins: native functions with the names, arguments, results and errors of upstream's."""
