"""Makes the wheels of a release, and an index that pip installs them from: ``make wheel``."""
