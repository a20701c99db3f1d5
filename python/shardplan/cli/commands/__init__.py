"""The commands, one a module: each makes plain data and shows it."""
