"""Methods compared over protocols, trials and seeds, from run folders alone."""

from openset_core.results.comparison.comparison import Comparison, compare, compare_runs

__all__ = ["Comparison", "compare", "compare_runs"]
