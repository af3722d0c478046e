"""Methods compared over protocols, trials and seeds, from run folders alone.

`runs` finds finished runs and says what each is, `grouping` puts them into settings and methods,
`warnings` says where they are not alike, `statistics` holds the numbers, `analysis` draws conclusions, `comparison` joins these,
`tables` and `export` say what is shown.
"""

from __future__ import annotations

from openset_core.results.comparison.comparison import Comparison, compare, compare_runs

__all__ = ["Comparison", "compare", "compare_runs"]
