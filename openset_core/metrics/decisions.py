"""Decisions over K+1 classes: the threshold that makes them, and what they are worth."""

from __future__ import annotations

from math import ceil, isnan

import numpy as np
import numpy.typing as npt

from openset_core.metrics.checks import (
    IntArray,
    check_same_length,
    checked_integers,
    checked_scores,
    checked_share,
    class_indices,
    positive_int,
)


def threshold_at_acceptance(validation_scores: npt.ArrayLike, acceptance: float = 0.95) -> float:
    """The smallest threshold that accepts at least this share of known validation samples.

    Use scores of known samples held out of training, never of test samples.

    Args:
        validation_scores: scores of known samples, [N], higher = more unknown.
        acceptance: the share to accept, in (0, 1].

    Returns:
        One of the scores. With ties at it, more than `acceptance` may be accepted.

    Raises:
        ValueError: if the scores are not a finite, non-empty vector, or `acceptance` is outside
            (0, 1].

    >>> threshold_at_acceptance([0.1, 0.2, 0.3, 0.4], 0.75)
    0.3
    """
    scores = checked_scores("validation_scores", validation_scores)
    share = checked_share("acceptance", acceptance)
    total = len(scores)
    needed = max(1, ceil(share * total))
    # The product may be rounded across an integer (0.07 * 100 > 7); the quotient is what is meant.
    while needed > 1 and (needed - 1) / total >= share:
        needed -= 1
    while needed / total < share:
        needed += 1
    return float(np.partition(scores, needed - 1)[needed - 1])


def open_set_predictions(
    scores: npt.ArrayLike, predicted_class: npt.ArrayLike, threshold: float, num_classes: int
) -> IntArray:
    """Turn closed-set predictions into predictions over K+1 classes.

    Args:
        scores: [N], higher = more unknown.
        predicted_class: the class each sample gets if accepted, integers in 0..K, [N]. One that is
            K already (OpenMax can say so itself) stays unknown whatever its score.
        threshold: accept iff score <= threshold; infinities are allowed.
        num_classes: K, the number of known classes.

    Returns:
        Class indices in 0..K, K = unknown, int64 [N].

    Raises:
        ValueError: if an argument is malformed or the lengths differ.

    >>> open_set_predictions([0.2, 0.9], [1, 0], threshold=0.5, num_classes=3).tolist()
    [1, 3]
    """
    count = positive_int("num_classes", num_classes)
    checked = checked_scores("scores", scores)
    classes = class_indices("predicted_class", predicted_class, count, unknown=True)
    check_same_length(scores=checked, predicted_class=classes)
    if isnan(threshold):
        raise ValueError("threshold must be a number, but is NaN.")
    return np.where(checked <= threshold, classes, np.int64(count))


def closed_set_accuracy(predicted: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Share of known samples whose class is right, in [0, 1].

    Args:
        predicted: class of the largest class score, integers [N].
        labels: true classes, integers [N].

    Raises:
        ValueError: if an argument is not a non-empty integer vector or the lengths differ.

    >>> closed_set_accuracy([0, 1, 1, 2], [0, 1, 2, 2])
    0.75
    """
    given, true = checked_integers("predicted", predicted), checked_integers("labels", labels)
    check_same_length(predicted=given, labels=true)
    return int(np.count_nonzero(given == true)) / len(true)


def confusion_matrix(predicted: npt.ArrayLike, labels: npt.ArrayLike, num_classes: int) -> IntArray:
    """Count samples by true class (row) and predicted class (column).

    Args:
        predicted: class indices in 0..K, K = unknown, [N].
        labels: true class indices in 0..K, [N].
        num_classes: K, the number of known classes.

    Returns:
        Counts, int64 [K+1, K+1]; the last row and column are the unknown class.

    Raises:
        ValueError: if an argument is malformed or the lengths differ.

    >>> confusion_matrix([0, 1, 2], [0, 1, 1], num_classes=2).tolist()
    [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    """
    given, true, size = _open_set_pairs(predicted, labels, num_classes)
    cells = np.bincount(true * size + given, minlength=size * size)
    return cells.reshape(size, size).astype(np.int64, copy=False)


def macro_f1(predicted: npt.ArrayLike, labels: npt.ArrayLike, num_classes: int) -> float:
    """Mean of the F1 scores of the K known classes and of the unknown class, in [0, 1].

    The mean of per-class F1, not the F1 of mean precision and mean recall that some released code
    computes. A class with no sample, true or predicted, has F1 = 0 and stays in the mean, as in
    scikit-learn's ``f1_score(average="macro", labels=range(K + 1), zero_division=0)``.

    Args:
        predicted: class indices in 0..K, K = unknown, [N].
        labels: true class indices in 0..K, [N].
        num_classes: K, the number of known classes.

    Raises:
        ValueError: if an argument is malformed or the lengths differ.

    >>> round(macro_f1([0, 1, 2, 2], [0, 1, 1, 2], num_classes=2), 4)
    0.7778
    """
    given, true, size = _open_set_pairs(predicted, labels, num_classes)
    hits = np.bincount(true[given == true], minlength=size)
    involved = np.bincount(given, minlength=size) + np.bincount(true, minlength=size)
    # F1 = 2 TP / (2 TP + FP + FN), and the denominator is predicted + true.
    return float(np.mean(2 * hits / np.maximum(involved, 1)))


def _open_set_pairs(
    predicted: npt.ArrayLike, labels: npt.ArrayLike, num_classes: int
) -> tuple[IntArray, IntArray, int]:
    """Checked predictions and labels, and K + 1."""
    count = positive_int("num_classes", num_classes)
    given = class_indices("predicted", predicted, count, unknown=True)
    true = class_indices("labels", labels, count, unknown=True)
    check_same_length(predicted=given, labels=true)
    return given, true, count + 1
