"""Methods compared over protocols, trials and seeds, from run folders alone.

`runs` finds finished runs, `sorting` puts them into settings and methods, `comparability` says
where they are not alike, `statistics` holds the numbers, `comparing` joins these, `tables` says
what is shown, `formats` and `records` how.
"""

from __future__ import annotations

from openset_core.results.comparison.comparing import Comparison, compare, compare_runs

__all__ = ["Comparison", "compare", "compare_runs"]
