"""Exact open-set recognition metrics, all read off one sort of the pooled scores.

Conventions, the same in the whole of openset:

* A score is HIGHER = MORE UNKNOWN. A sample is accepted as known iff ``score <= threshold``.
* TPR is the share of KNOWN samples accepted, FPR the share of UNKNOWN samples accepted, and CCR
  (correct classification rate) the share of KNOWN samples accepted and given their own class.
* With K known classes, class indices are ``0 .. K-1`` and index ``K`` means unknown. There is no
  second spelling of it: ``-1`` is refused.
* Every rate is a fraction in [0, 1], computed in float64 from integer counts. Samples with equal
  scores are accepted or rejected together, so no value depends on the order of the samples.

Published tables are often computed with the evaluation released with ARPL, whose definitions differ
in small ways. ``evaluate(..., compat="arpl")`` follows those instead; ``ArplCurve`` says how.

Only NumPy and attrs are needed.
"""

from openset_core.metrics.curves import COMPAT_MODES, ArplCurve, OpenSetCurve, open_set_curve
from openset_core.metrics.decisions import (
    closed_set_accuracy,
    confusion_matrix,
    macro_f1,
    open_set_predictions,
    threshold_at_acceptance,
)
from openset_core.metrics.incremental import IncrementalResults, add_classes_one_by_one
from openset_core.metrics.summary import METRICS, MetricInfo, evaluate, openness

__all__ = [
    "COMPAT_MODES",
    "METRICS",
    "ArplCurve",
    "IncrementalResults",
    "MetricInfo",
    "OpenSetCurve",
    "add_classes_one_by_one",
    "closed_set_accuracy",
    "confusion_matrix",
    "evaluate",
    "macro_f1",
    "open_set_curve",
    "open_set_predictions",
    "openness",
    "threshold_at_acceptance",
]
