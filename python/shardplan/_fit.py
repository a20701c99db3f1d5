"""Imported before torch is: refuses a torch or Python that the native modules were not built for.

Without it the first error would be about whatever another torch lacks.
"""

from __future__ import annotations

from ._build import misfit

problem = misfit()
if problem is not None:
    raise ImportError(problem)
