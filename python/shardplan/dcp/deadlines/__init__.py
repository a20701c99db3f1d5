"""A deadline for the ranks of a save or load: ``register(timeout=...)``.

Before a collective of a save or load, each rank reports its arrival in the store of the process
group, and waits there for the others. So a rank that does not arrive blocks nobody in a collective,
which could not be left again: every other rank raises, and so does the late rank when it comes.
"""
