"""Everything that imports torch.

Importing this package checks first that torch and Python are those that the native modules were
built for; otherwise the first error would be about whatever another torch lacks.
"""

from __future__ import annotations

from .._build import misfit

problem = misfit()
if problem is not None:
    raise ImportError(problem)
