"""What `balance demo` runs: three real models, the real sources they read, and a day of demand.

Nothing here knows Ray: the same models, sources and workload run in a plain process, in an executor
and in a test.  Importing the package is cheap; statsmodels, pandas and psutil are loaded at first use.
"""

from __future__ import annotations
