"""The command line: ``ls``, ``inspect``, ``verify``, ``diff``, ``reshard``, ``simulate``, ``info``.

Each command is a module in ``commands``. Its ``run`` returns plain data, which ``--json`` prints,
and its ``show`` formats the data as text. No command except ``info --check`` imports torch.
"""
