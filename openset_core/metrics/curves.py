"""The operating curve of scores, exact and as the released ARPL evaluation reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import attrs
import numpy as np
import numpy.typing as npt

from openset_core.metrics.checks import (
    BoolArray,
    FloatArray,
    IntArray,
    check_same_length,
    checked_flags,
    checked_scores,
    checked_share,
)


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
        """Points of the OSCR curve for plotting: (FPR, CCR), each [T+1], to (1, accuracy)."""
        return np.concatenate([[0.0], self.fpr]), np.concatenate([[0.0], self.ccr])

    def accuracy(self) -> float:
        """Closed-set accuracy of the known samples, the right end of the OSCR curve."""
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
        """Share of unknown samples rejected at the tightest threshold with TPR >= `tpr`."""
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
        return int(np.searchsorted(self.tpr, checked_share("tpr", tpr), side="left"))

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
        """Area under strict CCR over inclusive FPR, see the class."""
        known, unknown = self._accepted()
        correct = np.cumsum(_correct(self.is_correct))
        # The first accepted sample has no point in the original: its loop stops one short.
        return _share_under_curve(correct[:-1], unknown[1:], int(known[-1]))

    def fpr_at_tpr(self, tpr: float = 0.95) -> float:
        """Share of unknown samples accepted where TPR is nearest to `tpr`."""
        accepted, total = self._unknown_at_tpr(tpr)
        return accepted / total

    def tnr_at_tpr(self, tpr: float = 0.95) -> float:
        """Share of unknown samples rejected where TPR is nearest to `tpr`."""
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
        target = checked_share("tpr", tpr)
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

    >>> open_set_curve(known_scores=[0.1, 0.3], unknown_scores=[0.2, 0.9]).auroc()
    0.75
    """
    known = checked_scores("known_scores", known_scores)
    unknown = checked_scores("unknown_scores", unknown_scores)
    pooled = np.concatenate([known, unknown])
    order = np.argsort(pooled)
    ordered = pooled[order]
    last_of_tie = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    known_accepted = np.cumsum(order < len(known), dtype=np.int64)[last_of_tie]
    correct_accepted = None
    if known_correct is not None:
        correct = checked_flags("known_correct", known_correct)
        check_same_length(known_scores=known, known_correct=correct)
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


# --- areas under curves given as counts -----------------------------------------------------------


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


def _best_detection(tpr: FloatArray, fpr: FloatArray) -> float:
    # Accepting everything or nothing gives 1/2; the last row of every curve is "everything".
    return float((0.5 * (tpr + 1.0 - fpr)).max())


def _correct(correct: npt.NDArray[np.generic] | None) -> npt.NDArray[np.int64]:
    if correct is None:
        raise ValueError("known_correct was not given, and CCR and OSCR need it.")
    return correct.astype(np.int64, copy=False)


def _repeat_in_turn(flags: list[bool], counts: list[IntArray]) -> BoolArray:
    """For each threshold, `counts[0]` times flags[0], then `counts[1]` times flags[1], ..."""
    in_turn = np.stack(counts, axis=1).ravel()
    return np.repeat(np.tile(np.array(flags, dtype=np.bool_), len(counts[0])), in_turn)
