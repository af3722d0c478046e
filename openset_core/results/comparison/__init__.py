"""Methods compared over protocols, trials and seeds, from run folders alone.

`runs` finds finished runs and says what each is, `grouping` puts them into settings and methods,
`statistics` holds the numbers, `analysis` draws conclusions, `warnings` says where runs differ,
`tables` and `export` say what is shown, `comparison` joins these.
"""

from __future__ import annotations

from openset_core.results.comparison.comparison import Comparison, compare, compare_runs

__all__ = ["Comparison", "compare", "compare_runs"]
