"""The commands. Each module has HELP, EXAMPLE, ``add_arguments``, ``run`` and ``show``.

``run`` returns plain data and the exit status; ``show`` prints the data as text.
"""
