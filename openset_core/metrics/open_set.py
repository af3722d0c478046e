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

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from math import ceil, isnan, sqrt
from types import MappingProxyType

import attrs
import numpy as np
import numpy.typing as npt

__all__ = [
    "COMPAT_MODES",
    "METRICS",
    "ArplCurve",
    "MetricInfo",
    "OpenSetCurve",
    "OpennessF1",
    "closed_set_accuracy",
    "confusion_matrix",
    "evaluate",
    "f1_against_openness",
    "macro_f1",
    "open_set_curve",
    "open_set_predictions",
    "openness",
    "threshold_at_acceptance",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


# --- Checks on what the caller hands in -----------------------------------------------------------


def _vector(name: str, values: npt.ArrayLike) -> npt.NDArray[np.generic]:
    """Return `values` as a non-empty 1-D array or say what is wrong with it."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, but has shape {array.shape}.")
    if array.size == 0:
        raise ValueError(f"{name} must hold at least one sample, but is empty.")
    return array


def _scores(name: str, values: npt.ArrayLike) -> FloatArray:
    """Return `values` as finite float64 scores."""
    array = _vector(name, values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, but its dtype is {array.dtype}.")
    scores = array.astype(np.float64, copy=False)
    if not np.isfinite(scores).all():
        raise ValueError(f"{name} must be finite, but holds NaN or infinity.")
    return scores


def _integers(name: str, values: npt.ArrayLike) -> IntArray:
    """Return `values` as int64 class indices of any range."""
    array = _vector(name, values)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} must hold integer class indices, but its dtype is {array.dtype}.")
    return array.astype(np.int64, copy=False)


def _class_indices(
    name: str, values: npt.ArrayLike, num_classes: int, *, unknown: bool
) -> IntArray:
    """Return `values` as class indices 0..K-1, or 0..K where `unknown` is allowed."""
    indices = _integers(name, values)
    last = num_classes if unknown else num_classes - 1
    outside = indices[(indices < 0) | (indices > last)]
    if outside.size:
        hint = f" ({num_classes} = unknown)" if unknown else ""
        raise ValueError(f"{name} must lie in 0..{last}{hint}, but holds {outside[0]}.")
    return indices


def _flags(name: str, values: npt.ArrayLike) -> BoolArray:
    """Return `values` (booleans, or integers 0 and 1) as booleans."""
    array = _vector(name, values)
    flags = array.astype(np.bool_, copy=False) if array.dtype.kind in "biu" else None
    if flags is None or (flags != array).any():
        raise ValueError(f"{name} must hold booleans.")
    return flags


def _same_length(**arrays: npt.NDArray[np.generic]) -> None:
    """Raise unless all arrays have as many entries as the first."""
    (first, reference), *others = arrays.items()
    for name, array in others:
        if len(array) != len(reference):
            raise ValueError(
                f"{name} must be as long as {first}, but they have "
                f"{len(array)} and {len(reference)} entries."
            )


def _positive_int(name: str, value: int) -> int:
    """Return `value` as an int of at least one."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be an integer, but is {value!r}.") from None
    if number < 1:
        raise ValueError(f"{name} must be at least 1, but is {number}.")
    return number


def _share(name: str, value: float) -> float:
    """Return `value` if it is a share in (0, 1]."""
    if not 0.0 < value <= 1.0:
        raise ValueError(f"{name} must lie in (0, 1], but is {value}.")
    return float(value)


def _threshold(value: float) -> float:
    """Return `value` if it is a number; infinities are allowed (accept all, accept none)."""
    if isnan(value):
        raise ValueError("threshold must be a number, but is NaN.")
    return float(value)


# --- Areas under curves given as counts -----------------------------------------------------------


def _share_under_curve(hits: IntArray, unknown_accepted: IntArray, num_known: int) -> float:
    """Trapezoid area of hits over unknown_accepted, from (0, 0), both axes scaled to shares.

    Twice the area is an integer, so it is summed in integers and rounded once: the order of the
    additions, and with it the number of tied scores, cannot change the last digits.
    """
    widths = np.diff(unknown_accepted, prepend=0)
    before = np.concatenate([[0], hits[:-1]])
    twice_area = int(np.dot(widths, hits + before))
    return twice_area / (2 * num_known * int(unknown_accepted[-1]))


def _average_precision(positives: IntArray, negatives: IntArray) -> float:
    """Step-wise area under precision-recall; entry t counts the samples of the t-th best score."""
    hits = np.cumsum(positives)
    precision = hits / np.cumsum(positives + negatives)
    return float(np.dot(positives, precision) / hits[-1])


def _trapezoid_precision(positive: BoolArray) -> float:
    """Trapezoid area under precision-recall of ranked samples, with precision 0 at recall 0."""
    hits = np.cumsum(positive)
    precision = hits / np.arange(1, len(positive) + 1)
    before = np.concatenate([[0.0], precision[:-1]])
    # Recall moves only where a positive enters; elsewhere the trapezoid has no width.
    return float((precision + before)[positive].sum() / (2 * hits[-1]))


# --- The operating curve --------------------------------------------------------------------------


@attrs.frozen(eq=False)
class OpenSetCurve:
    """What is accepted at every threshold that tells two samples apart.

    Built by `open_set_curve`. Row t of every array is the rule "accept iff score <= thresholds[t]".
    The rule that accepts nothing, the point (0, 0) of every curve, has no row of its own; the last
    row accepts everything. The arrays are read-only.

    Attributes:
        thresholds: the unique pooled scores, ascending, float64 [T].
        known_accepted: number of known samples accepted, int64 [T].
        unknown_accepted: number of unknown samples accepted, int64 [T].
        correct_accepted: number of known samples accepted and rightly classified, int64 [T], or
            None if it was not said which ones are right.
    """

    thresholds: FloatArray
    known_accepted: IntArray
    unknown_accepted: IntArray
    correct_accepted: IntArray | None = None

    @property
    def num_known(self) -> int:
        """Number of known samples, at least 1."""
        return int(self.known_accepted[-1])

    @property
    def num_unknown(self) -> int:
        """Number of unknown samples, at least 1."""
        return int(self.unknown_accepted[-1])

    @property
    def tpr(self) -> FloatArray:
        """Share of known samples accepted, float64 [T], ascending to 1."""
        return self.known_accepted / self.num_known

    @property
    def fpr(self) -> FloatArray:
        """Share of unknown samples accepted, float64 [T], ascending to 1."""
        return self.unknown_accepted / self.num_unknown

    @property
    def ccr(self) -> FloatArray:
        """Share of known samples accepted and correct, float64 [T], ascending to the accuracy.

        Raises:
            ValueError: if the curve was built without `known_correct`.
        """
        return _correct(self.correct_accepted) / self.num_known

    def roc_points(self) -> tuple[FloatArray, FloatArray]:
        """Points of the ROC curve for plotting: (FPR, TPR), each [T+1], from (0, 0) to (1, 1)."""
        return np.concatenate([[0.0], self.fpr]), np.concatenate([[0.0], self.tpr])

    def oscr_points(self) -> tuple[FloatArray, FloatArray]:
        """Points of the OSCR curve for plotting: (FPR, CCR), each [T+1], to (1, accuracy).

        Raises:
            ValueError: if the curve was built without `known_correct`.
        """
        return np.concatenate([[0.0], self.fpr]), np.concatenate([[0.0], self.ccr])

    def accuracy(self) -> float:
        """Closed-set accuracy of the known samples, the right end of the OSCR curve.

        Raises:
            ValueError: if the curve was built without `known_correct`.
        """
        return int(_correct(self.correct_accepted)[-1]) / self.num_known

    def auroc(self) -> float:
        """P(a known sample scores below an unknown one), ties counting one half.

        The area under TPR over FPR; scikit-learn's `roc_auc_score` with unknown as positive.
        """
        return _share_under_curve(self.known_accepted, self.unknown_accepted, self.num_known)

    def oscr(self) -> float:
        """Area under the open-set classification rate curve, CCR over FPR.

        Trapezoid over the unique thresholds from (0, 0) to (1, accuracy), so at most the accuracy
        and at most the AUROC. Without ties it is OpenAUC (Wang et al. 2022), the share of (known,
        unknown) pairs in which the known sample is right and scores below the unknown one. The
        curve is that of Dhamija et al. 2018.

        Raises:
            ValueError: if the curve was built without `known_correct`.
        """
        correct = _correct(self.correct_accepted)
        return _share_under_curve(correct, self.unknown_accepted, self.num_known)

    def fpr_at_tpr(self, tpr: float = 0.95) -> float:
        """Share of unknown samples accepted at the tightest threshold with TPR >= `tpr`.

        No interpolation: the value belongs to a threshold that exists.

        Args:
            tpr: the share of known samples to accept, in (0, 1].

        Raises:
            ValueError: if `tpr` is outside (0, 1].
        """
        return int(self.unknown_accepted[self._row_at_tpr(tpr)]) / self.num_unknown

    def tnr_at_tpr(self, tpr: float = 0.95) -> float:
        """Share of unknown samples rejected at the tightest threshold with TPR >= `tpr`.

        Args:
            tpr: the share of known samples to accept, in (0, 1].

        Raises:
            ValueError: if `tpr` is outside (0, 1].
        """
        accepted = int(self.unknown_accepted[self._row_at_tpr(tpr)])
        return (self.num_unknown - accepted) / self.num_unknown

    def dtacc(self) -> float:
        """Detection accuracy: the best (TPR + 1 - FPR) / 2 over all thresholds, in [1/2, 1]."""
        return _best_detection(self.tpr, self.fpr)

    def auin(self) -> float:
        """Average precision with the known samples as positives.

        Step-wise, as scikit-learn's `average_precision_score` on the negated scores.
        """
        known, unknown = self._samples_at_each_threshold()
        return _average_precision(known, unknown)

    def auout(self) -> float:
        """Average precision with the unknown samples as positives.

        Step-wise, as scikit-learn's `average_precision_score` on the scores.
        """
        known, unknown = self._samples_at_each_threshold()
        return _average_precision(unknown[::-1], known[::-1])

    def _row_at_tpr(self, tpr: float) -> int:
        return int(np.searchsorted(self.tpr, _share("tpr", tpr), side="left"))

    def _samples_at_each_threshold(self) -> tuple[IntArray, IntArray]:
        return np.diff(self.known_accepted, prepend=0), np.diff(self.unknown_accepted, prepend=0)


@attrs.frozen(eq=False)
class ArplCurve:
    """The released ARPL evaluation's definitions, in openset's conventions.

    Follows what `core/evaluation.py` released with ARPL (Chen et al., TPAMI 2021) computes, so that
    tables compare. It differs from `OpenSetCurve` in this:

    * samples enter one by one, and among equal scores the unknown ones are accepted first: every
      tie counts against the method (AUROC 0 instead of 1/2 when all scores are equal);
    * TNR is taken where TPR is NEAREST to the target, which may be below it; of several such
      points, the one with the highest FPR;
    * AUIN and AUOUT are trapezoids, with an added point of precision 0 at recall 0;
    * OSCR pairs the correct samples strictly below a sample with the unknown samples up to and
      including it, an off-by-one that lowers the area by O(1/n).

    One deliberate difference: the original breaks ties in OSCR by an unstable sort, so its value
    depends on the order of the samples. Here, within equal scores, the unknown samples are accepted
    first, then the wrongly classified, then the correct ones: of all values the original can give,
    this is the lowest, in keeping with how it treats ties elsewhere.

    Attributes:
        is_known: whether the i-th accepted sample is known, bool [N], in order of acceptance.
        is_correct: whether it is known and rightly classified, bool [N], or None.
    """

    is_known: BoolArray
    is_correct: BoolArray | None = None

    @classmethod
    def from_curve(cls, curve: OpenSetCurve) -> ArplCurve:
        """Expand a curve to single samples, with ties in the worst order; needs no other sort."""
        known, unknown = curve._samples_at_each_threshold()
        correct_accepted = curve.correct_accepted
        if correct_accepted is None:
            return cls(_repeat_in_turn([False, True], [unknown, known]))
        correct = np.diff(correct_accepted, prepend=0)
        counts = [unknown, known - correct, correct]
        return cls(
            _repeat_in_turn([False, True, True], counts),
            _repeat_in_turn([False, False, True], counts),
        )

    def auroc(self) -> float:
        """P(a known sample scores strictly below an unknown one); a tie counts nothing."""
        known, unknown = self._accepted()
        return _share_under_curve(known, unknown, int(known[-1]))

    def oscr(self) -> float:
        """Area under strict CCR over inclusive FPR, see the class.

        Raises:
            ValueError: if the curve was built without `known_correct`.
        """
        known, unknown = self._accepted()
        correct = np.cumsum(_correct(self.is_correct))
        # The first accepted sample has no point in the original: its loop stops one short.
        return _share_under_curve(correct[:-1], unknown[1:], int(known[-1]))

    def fpr_at_tpr(self, tpr: float = 0.95) -> float:
        """Share of unknown samples accepted where TPR is nearest to `tpr`.

        Args:
            tpr: the share of known samples to accept, in (0, 1].

        Raises:
            ValueError: if `tpr` is outside (0, 1].
        """
        accepted, total = self._unknown_at_tpr(tpr)
        return accepted / total

    def tnr_at_tpr(self, tpr: float = 0.95) -> float:
        """Share of unknown samples rejected where TPR is nearest to `tpr`.

        Args:
            tpr: the share of known samples to accept, in (0, 1].

        Raises:
            ValueError: if `tpr` is outside (0, 1].
        """
        accepted, total = self._unknown_at_tpr(tpr)
        return (total - accepted) / total

    def dtacc(self) -> float:
        """Detection accuracy: the best (TPR + 1 - FPR) / 2 over the sweep, in [1/2, 1]."""
        known, unknown = self._accepted()
        return _best_detection(known / known[-1], unknown / unknown[-1])

    def auin(self) -> float:
        """Trapezoid area under precision-recall, known positive, precision 0 at recall 0."""
        return _trapezoid_precision(self.is_known)

    def auout(self) -> float:
        """Trapezoid area under precision-recall, unknown positive, precision 0 at recall 0."""
        return _trapezoid_precision(~self.is_known[::-1])

    def _accepted(self) -> tuple[IntArray, IntArray]:
        known = np.cumsum(self.is_known, dtype=np.int64)
        return known, np.arange(1, len(known) + 1) - known

    def _unknown_at_tpr(self, tpr: float) -> tuple[int, int]:
        """Unknown samples accepted at the nearest TPR, and unknown samples in all."""
        target = _share("tpr", tpr)
        known, unknown = self._accepted()
        # The sweep runs from "accept all" to "accept none" and the first minimum counts. Distances
        # are rounded just as the original rounds them, which decides between 0.90 and 1.00 at 0.95.
        tpr_downwards = np.append(known[::-1], 0) / known[-1]
        nearest = int(np.abs(tpr_downwards - target).argmin())
        return int(np.append(unknown[::-1], 0)[nearest]), int(unknown[-1])


COMPAT_MODES: Mapping[str, Callable[[OpenSetCurve], ArplCurve]] = MappingProxyType(
    {"arpl": ArplCurve.from_curve}
)
"""What `evaluate(compat=...)` accepts: name -> the curve with that evaluation's definitions."""


def _correct(correct: npt.NDArray[np.generic] | None) -> npt.NDArray[np.int64]:
    if correct is None:
        raise ValueError("known_correct was not given, and CCR and OSCR need it.")
    return correct.astype(np.int64, copy=False)


def _best_detection(tpr: FloatArray, fpr: FloatArray) -> float:
    # Accepting everything or nothing gives 1/2; the last row of every curve is "everything".
    return float((0.5 * (tpr + 1.0 - fpr)).max())


def _repeat_in_turn(flags: list[bool], counts: list[IntArray]) -> BoolArray:
    """For each threshold, `counts[0]` times flags[0], then `counts[1]` times flags[1], ..."""
    in_turn = np.stack(counts, axis=1).ravel()
    return np.repeat(np.tile(np.array(flags, dtype=np.bool_), len(counts[0])), in_turn)


def open_set_curve(
    known_scores: npt.ArrayLike,
    unknown_scores: npt.ArrayLike,
    known_correct: npt.ArrayLike | None = None,
) -> OpenSetCurve:
    """Sort the pooled scores once and count what each threshold accepts.

    Args:
        known_scores: scores of test samples of known classes, [N], higher = more unknown.
        unknown_scores: scores of test samples of unknown classes, [M].
        known_correct: whether the closed-set class of each known sample is right, bool [N]; needed
            for `ccr`, `oscr` and `accuracy` only.

    Returns:
        The operating curve, from which every threshold-free metric is computed in O(N + M).

    Raises:
        ValueError: if an argument is not one-dimensional, is empty, holds NaN or infinity, or if
            `known_correct` is not as long as `known_scores`.
    """
    known = _scores("known_scores", known_scores)
    unknown = _scores("unknown_scores", unknown_scores)
    pooled = np.concatenate([known, unknown])
    order = np.argsort(pooled)
    ordered = pooled[order]
    last_of_tie = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    known_accepted = np.cumsum(order < len(known), dtype=np.int64)[last_of_tie]
    correct_accepted = None
    if known_correct is not None:
        correct = _flags("known_correct", known_correct)
        _same_length(known_scores=known, known_correct=correct)
        pooled_correct = np.concatenate([correct, np.zeros(len(unknown), dtype=np.bool_)])
        correct_accepted = np.cumsum(pooled_correct[order], dtype=np.int64)[last_of_tie]
    curve = OpenSetCurve(
        thresholds=ordered[last_of_tie],
        known_accepted=known_accepted,
        unknown_accepted=last_of_tie + 1 - known_accepted,
        correct_accepted=correct_accepted,
    )
    for array in (curve.thresholds, curve.known_accepted, curve.unknown_accepted, correct_accepted):
        if array is not None:
            array.flags.writeable = False
    return curve


# --- Metrics of decisions -------------------------------------------------------------------------


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
    """
    scores = _scores("validation_scores", validation_scores)
    share = _share("acceptance", acceptance)
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
    """
    count = _positive_int("num_classes", num_classes)
    checked = _scores("scores", scores)
    classes = _class_indices("predicted_class", predicted_class, count, unknown=True)
    _same_length(scores=checked, predicted_class=classes)
    return np.where(checked <= _threshold(threshold), classes, np.int64(count))


def closed_set_accuracy(predicted: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Share of known samples whose class is right, in [0, 1].

    Args:
        predicted: class of the largest class score, integers [N].
        labels: true classes, integers [N].

    Raises:
        ValueError: if an argument is not a non-empty integer vector or the lengths differ.
    """
    given, true = _integers("predicted", predicted), _integers("labels", labels)
    _same_length(predicted=given, labels=true)
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
    """
    given, true, size = _open_set_pairs(predicted, labels, num_classes)
    return _macro_f1(*_class_counts(given, true, size))


def _open_set_pairs(
    predicted: npt.ArrayLike, labels: npt.ArrayLike, num_classes: int
) -> tuple[IntArray, IntArray, int]:
    """Checked predictions and labels, and K + 1."""
    count = _positive_int("num_classes", num_classes)
    given = _class_indices("predicted", predicted, count, unknown=True)
    true = _class_indices("labels", labels, count, unknown=True)
    _same_length(predicted=given, labels=true)
    return given, true, count + 1


def _class_counts(given: IntArray, true: IntArray, size: int) -> tuple[IntArray, IntArray]:
    """Per class: samples predicted right, and samples predicted plus samples true, each [size]."""
    hits = np.bincount(true[given == true], minlength=size)
    return hits, np.bincount(given, minlength=size) + np.bincount(true, minlength=size)


def _macro_f1(hits: IntArray, involved: IntArray) -> float:
    # F1 = 2 TP / (2 TP + FP + FN), and the denominator is predicted + true.
    return float(np.mean(2 * hits / np.maximum(involved, 1)))


# --- Openness -------------------------------------------------------------------------------------


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
    """
    train = _positive_int("num_train", num_train)
    test = _positive_int("num_test", num_test)
    target = train if num_target is None else _positive_int("num_target", num_target)
    if 2 * train > target + test:
        raise ValueError(
            f"num_test must count known and unknown test classes, but {test} (with {target} target "
            f"classes) is too few for {train} training classes: openness would be negative."
        )
    return 1.0 - sqrt(2 * train / (target + test))


@attrs.frozen
class OpennessF1:
    """One point of F1 against openness.

    Attributes:
        num_unknown_classes: unknown classes in the test, at least 1.
        openness: ``openness(K, K + num_unknown_classes)``, in (0, 1).
        macro_f1: macro-F1 over K+1 classes with those unknown classes, in [0, 1].
    """

    num_unknown_classes: int
    openness: float
    macro_f1: float


def f1_against_openness(
    known_scores: npt.ArrayLike,
    unknown_scores: npt.ArrayLike,
    *,
    known_predicted: npt.ArrayLike,
    known_labels: npt.ArrayLike,
    unknown_predicted: npt.ArrayLike,
    unknown_labels: npt.ArrayLike,
    num_classes: int,
    threshold: float,
    unknown_counts: Sequence[int] | None = None,
    class_order: Sequence[int] | None = None,
) -> tuple[OpennessF1, ...]:
    """Macro-F1 at a fixed threshold as more and more unknown classes join the test.

    The experiment of M2IOSR Sec. 5.2 / Fig. 3. All known samples take part in every point; the
    first c classes of `class_order` are the unknown classes of the point with c of them.

    Args:
        known_scores: scores of known test samples, [N], higher = more unknown.
        unknown_scores: scores of unknown test samples, [M].
        known_predicted: class a known sample gets if accepted, in 0..K, [N].
        known_labels: its true class, in 0..K-1, [N].
        unknown_predicted: class an unknown sample gets if accepted, in 0..K, [M].
        unknown_labels: which unknown class it is of, any integers, [M].
        num_classes: K, the number of known classes.
        threshold: accept iff score <= threshold.
        unknown_counts: numbers of unknown classes to evaluate; default 1, 2, ..., all.
        class_order: order in which unknown classes join, distinct values of `unknown_labels`;
            default ascending. Pass shuffles of it for several random draws.

    Returns:
        One point for each of `unknown_counts`, in that order.

    Raises:
        ValueError: if an argument is malformed, lengths differ, `class_order` repeats a class or
            names one without samples, or a count exceeds the number of classes in it.
    """
    known_size = _positive_int("num_classes", num_classes)
    size = known_size + 1
    known = _decisions("known", known_scores, known_predicted, threshold, known_size)
    unknown = _decisions("unknown", unknown_scores, unknown_predicted, threshold, known_size)
    labels = _class_indices("known_labels", known_labels, known_size, unknown=False)
    source = _integers("unknown_labels", unknown_labels)
    _same_length(known_scores=known, known_labels=labels)
    _same_length(unknown_scores=unknown, unknown_labels=source)
    joins_at, available = _joining_order(source, class_order)
    known_hits, known_involved = _class_counts(known, labels, size)
    points = []
    for wanted in range(1, available + 1) if unknown_counts is None else unknown_counts:
        count = _positive_int("unknown_counts", wanted)
        if count > available:
            raise ValueError(f"unknown_counts asks for {count} of {available} unknown classes.")
        present = unknown[joins_at <= count]
        hits, involved = _class_counts(present, np.full(len(present), known_size), size)
        score = _macro_f1(known_hits + hits, known_involved + involved)
        points.append(OpennessF1(count, openness(known_size, known_size + count), score))
    return tuple(points)


def _joining_order(source: IntArray, class_order: Sequence[int] | None) -> tuple[IntArray, int]:
    """For each unknown sample the number of classes from which on it takes part, and their number.

    Samples of a class that `class_order` leaves out never join.
    """
    classes, which = np.unique(source, return_inverse=True)
    order = classes if class_order is None else _integers("class_order", class_order)
    if len(np.unique(order)) != len(order):
        raise ValueError("class_order must not repeat a class.")
    missing = order[~np.isin(order, classes)]
    if missing.size:
        raise ValueError(f"class_order names class {missing[0]}, which has no unknown sample.")
    position = np.full(len(classes), len(classes) + 1, dtype=np.int64)
    position[np.searchsorted(classes, order)] = np.arange(1, len(order) + 1)
    return position[which], len(order)


# --- Everything at once ---------------------------------------------------------------------------


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
    """
    if compat is not None and compat not in COMPAT_MODES:
        known_modes = ", ".join(map(repr, COMPAT_MODES))
        raise ValueError(f"compat must be None or one of {known_modes}, but is {compat!r}.")
    size = _positive_int("num_classes", num_classes)
    given = _class_indices("known_predicted", known_predicted, size, unknown=True)
    labels = _class_indices("known_labels", known_labels, size, unknown=False)
    known_scores = _scores("known_scores", known_scores)
    _same_length(known_scores=known_scores, known_predicted=given, known_labels=labels)
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
        values.update(_at_threshold(known, unknown, labels, size))
    return values


def _decisions(
    side: str,
    scores: npt.ArrayLike,
    predicted: npt.ArrayLike,
    threshold: float,
    num_classes: int,
) -> IntArray:
    """`open_set_predictions` whose errors name the arguments of the caller's `side`."""
    checked = _scores(f"{side}_scores", scores)
    classes = _class_indices(f"{side}_predicted", predicted, num_classes, unknown=True)
    _same_length(**{f"{side}_scores": checked, f"{side}_predicted": classes})
    return open_set_predictions(checked, classes, threshold, num_classes)


def _at_threshold(
    known: IntArray, unknown: IntArray, labels: IntArray, num_classes: int
) -> dict[str, float]:
    """Metrics of final decisions over 0..K."""
    true = np.concatenate([labels, np.full(len(unknown), num_classes)])
    counts = _class_counts(np.concatenate([known, unknown]), true, num_classes + 1)
    return {
        "macro_f1": _macro_f1(*counts),
        "known_accepted": int(np.count_nonzero(known != num_classes)) / len(known),
        "unknown_rejected": int(np.count_nonzero(unknown == num_classes)) / len(unknown),
    }
