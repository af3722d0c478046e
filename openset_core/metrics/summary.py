"""The table of metrics, openness, and every metric of one scorer at once."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from types import MappingProxyType

import attrs
import numpy as np
import numpy.typing as npt

from openset_core.metrics.checks import (
    IntArray,
    check_same_length,
    checked_scores,
    class_indices,
    positive_int,
)
from openset_core.metrics.curves import COMPAT_MODES, open_set_curve
from openset_core.metrics.decisions import macro_f1, open_set_predictions


@attrs.frozen
class MetricInfo:
    """How a table or a report presents a metric.

    Attributes:
        title: printable name.
        definition: one line.
        higher_is_better: direction.
    """

    title: str
    definition: str
    higher_is_better: bool = True


METRICS: Mapping[str, MetricInfo] = MappingProxyType(
    {
        "accuracy": MetricInfo(
            "Accuracy", "Share of known samples given their own class, without rejection."
        ),
        "auroc": MetricInfo(
            "AUROC", "Probability that an unknown sample scores above a known one, ties one half."
        ),
        "oscr": MetricInfo(
            "OSCR", "Area under the rate of known samples accepted and correct over FPR."
        ),
        "tnr_at_tpr95": MetricInfo(
            "TNR@TPR95", "Share of unknown samples rejected where 95 % of the known are accepted."
        ),
        "fpr_at_tpr95": MetricInfo(
            "FPR@TPR95",
            "Share of unknown samples accepted where 95 % of the known are accepted.",
            higher_is_better=False,
        ),
        "dtacc": MetricInfo(
            "DTACC", "Best mean of known accepted and unknown rejected over all thresholds."
        ),
        "auin": MetricInfo("AUIN", "Area under precision-recall with known samples as positives."),
        "auout": MetricInfo(
            "AUOUT", "Area under precision-recall with unknown samples as positives."
        ),
        "macro_f1": MetricInfo(
            "Macro-F1", "Mean F1 of the known classes and the unknown class at the threshold."
        ),
        "known_accepted": MetricInfo(
            "Known accepted", "Share of known samples given a known class at the threshold."
        ),
        "unknown_rejected": MetricInfo(
            "Unknown rejected", "Share of unknown samples called unknown at the threshold."
        ),
        "openness": MetricInfo(
            "Openness",
            "How much of the test is new: 1 - sqrt(2 K / (2 K + unknown classes)).",
            higher_is_better=False,
        ),
        "incremental_accuracy": MetricInfo(
            "Incremental accuracy",
            "Accuracy over base classes and all that were added after training.",
        ),
    }
)
"""Every key `evaluate` can return, in its order, and what a protocol adds about the test itself,
with what a table needs to print it."""


def openness(num_train: int, num_test: int, *, num_target: int | None = None) -> float:
    """How open a problem is: 0 for a closed set, towards 1 as unknown classes are added.

    ``1 - sqrt(2 * num_train / (num_target + num_test))``, Scheirer et al. 2013, where `num_test`
    counts known AND unknown test classes. Papers use three readings of it:

    * `num_target` given: the original, with `num_target` classes to be recognised;
    * `num_target` left out: every training class is a target, ``1 - sqrt(2 K / (K + num_test))``.
      This is M2IOSR Sec. 5.2: K = 10 and 10 .. 100 unknown classes cover 18 % to 59 %;
    * ``num_target=num_test``: ``1 - sqrt(K / num_test)``, the form of Neal et al. 2018 (6 known of
      10 classes: 22.5 %, where the second reading gives 13.4 %).

    Args:
        num_train: number of classes trained on.
        num_test: number of classes met in the test, known ones included.
        num_target: number of classes to recognise; default `num_train`.

    Returns:
        Openness in [0, 1).

    Raises:
        ValueError: if a count is not a positive integer, or if the test has so few classes that
            the openness would be negative.

    >>> round(openness(10, 20), 4)
    0.1835
    """
    train = positive_int("num_train", num_train)
    test = positive_int("num_test", num_test)
    target = train if num_target is None else positive_int("num_target", num_target)
    if 2 * train > target + test:
        raise ValueError(
            f"num_test must count known and unknown test classes, but {test} (with {target} target "
            f"classes) is too few for {train} training classes: openness would be negative."
        )
    return 1.0 - sqrt(2 * train / (target + test))


def evaluate(
    known_scores: npt.ArrayLike,
    unknown_scores: npt.ArrayLike,
    *,
    known_predicted: npt.ArrayLike,
    known_labels: npt.ArrayLike,
    num_classes: int,
    threshold: float | None = None,
    unknown_predicted: npt.ArrayLike | None = None,
    compat: str | None = None,
) -> dict[str, float]:
    """Compute every metric of one scorer on one pair of known and unknown test sets.

    Args:
        known_scores: scores of known test samples, [N], higher = more unknown.
        unknown_scores: scores of unknown test samples, [M].
        known_predicted: class each known sample gets if accepted, in 0..K, [N].
        known_labels: true classes, in 0..K-1, [N].
        num_classes: K, the number of known classes.
        threshold: accept iff score <= threshold; adds `macro_f1`, `known_accepted` and
            `unknown_rejected`. Choose it on validation data, see `threshold_at_acceptance`.
        unknown_predicted: class each unknown sample gets if accepted, in 0..K, [M]; needed with
            `threshold`, since an accepted unknown sample is a false positive of that class.
        compat: None for the exact definitions of `OpenSetCurve`, or "arpl" for those of the
            released ARPL evaluation, `ArplCurve`. What depends on `threshold`, and the accuracy,
            is the same in both.

    Returns:
        Fractions in [0, 1] by the keys of `METRICS`, in that order; multiply by 100 for tables.

    Raises:
        ValueError: if an argument is malformed, lengths differ, `threshold` comes without
            `unknown_predicted`, or `compat` is not a known mode.

    >>> known = {"known_predicted": [0, 1], "known_labels": [0, 1], "num_classes": 2}
    >>> evaluate([0.1, 0.3], [0.2, 0.9], **known)["auroc"]
    0.75
    """
    if compat is not None and compat not in COMPAT_MODES:
        known_modes = ", ".join(map(repr, COMPAT_MODES))
        raise ValueError(f"compat must be None or one of {known_modes}, but is {compat!r}.")
    size = positive_int("num_classes", num_classes)
    given = class_indices("known_predicted", known_predicted, size, unknown=True)
    labels = class_indices("known_labels", known_labels, size, unknown=False)
    known_scores = checked_scores("known_scores", known_scores)
    check_same_length(known_scores=known_scores, known_predicted=given, known_labels=labels)
    exact = open_set_curve(known_scores, unknown_scores, given == labels)
    curve = exact if compat is None else COMPAT_MODES[compat](exact)
    values = {
        "accuracy": exact.accuracy(),
        "auroc": curve.auroc(),
        "oscr": curve.oscr(),
        "tnr_at_tpr95": curve.tnr_at_tpr(0.95),
        "fpr_at_tpr95": curve.fpr_at_tpr(0.95),
        "dtacc": curve.dtacc(),
        "auin": curve.auin(),
        "auout": curve.auout(),
    }
    if threshold is not None:
        if unknown_predicted is None:
            raise ValueError("unknown_predicted must be given with threshold: macro-F1 needs it.")
        known = _decisions("known", known_scores, given, threshold, size)
        unknown = _decisions("unknown", unknown_scores, unknown_predicted, threshold, size)
        true = np.concatenate([labels, np.full(len(unknown), size)])
        values["macro_f1"] = macro_f1(np.concatenate([known, unknown]), true, size)
        values["known_accepted"] = int(np.count_nonzero(known != size)) / len(known)
        values["unknown_rejected"] = int(np.count_nonzero(unknown == size)) / len(unknown)
    return values


def _decisions(
    side: str,
    scores: npt.ArrayLike,
    predicted: npt.ArrayLike,
    threshold: float,
    num_classes: int,
) -> IntArray:
    """`open_set_predictions` whose errors name the arguments of the caller's `side`."""
    checked = checked_scores(f"{side}_scores", scores)
    classes = class_indices(f"{side}_predicted", predicted, num_classes, unknown=True)
    check_same_length(**{f"{side}_scores": checked, f"{side}_predicted": classes})
    return open_set_predictions(checked, classes, threshold, num_classes)
