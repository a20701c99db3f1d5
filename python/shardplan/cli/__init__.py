"""The command line: ``ls``, ``inspect``, ``verify``, ``diff``, ``reshard``, ``simulate``, ``info``.

A command is a module of its name: it makes plain data, which ``--json`` prints as it is, and shows
it to people. None of them imports torch.
"""
