"""OpenMax: class probabilities that leave room for an unknown class, in float64.

Bendale & Boult, "Towards Open Set Deep Networks", CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from openset_core import FeatureSource, FeatureTable, FormulaScorer
from openset_plugins.openmax import OpenMaxOptions
from openset_plugins.openmax.weibull import cdf, fit_tails

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

# OSDN's constant: brings the Euclidean distance of 1000 logits to the cosine distance's size.
EUCOS_DIVISOR = 200.0

# The means [K, K] of correctly classified samples (mean activation vectors, MAVs; zeros for a class
# without any), the numbers [K] of those samples, and each class's Weibull [K], see `WeibullFit`.
_STATE: dict[str, type] = {
    "means": np.float64,
    "counts": np.int64,
    "shape": np.float64,
    "log_scale": np.float64,
    "offset": np.float64,
    "tail_count": np.int64,
}


class OpenMax(FormulaScorer):
    """The unknown class's probability, or its log-odds.

    For every class, the MAV of the correctly classified training samples and a Weibull fitted to
    their largest distances to it (Algorithm 1). For a sample, the logits of its top classes are
    lowered by how extreme its distances to their MAVs are, and what they lose becomes the logit of
    an extra class, `unknown` (Algorithm 2). Samples whose largest logit is not their label's (the
    first of equal ones counts) have no part in the fit. A class with fewer than two correct samples
    is never revised.
    """

    reads = ("logits", "label")
    block_elements = 2**18

    def __init__(self, config: OpenMaxOptions) -> None:
        self.config = config
        self._state: dict[str, Array] = {}

    def fit(self, source: FeatureSource) -> None:
        """Fit MAVs in a first pass over the training samples, Weibulls in a second."""
        sums = counts = np.zeros(0)
        for width, groups in _correct(source):
            if not sums.size:
                sums, counts = np.zeros((width, width)), np.zeros(width, dtype=np.int64)
            for label, rows in groups:
                sums[label] += rows.sum(axis=0)
                counts[label] += len(rows)
        means = sums / np.maximum(counts, 1)[:, None]
        tails = np.full((len(means), self.config.tail_size), -np.inf)
        seen = np.zeros_like(counts)
        pairs = (pair for _width, groups in _correct(source, len(means)) for pair in groups)
        for label, rows in pairs:
            # OSDN's `euclidean` divides by 200 when it scores a sample and not when it stores the
            # training distances, so its Weibull is asked about another unit. Here one function
            # serves both sides: `euclidean` is never divided, the Euclidean part of `eucos` always.
            centre = means[None, None, label]
            distances = _distances(np, self.config.distance, rows, centre, _lengths(np, centre))
            merged = np.sort(np.concatenate([tails[label], distances[:, 0]]))
            tails[label] = merged[-self.config.tail_size :]
            seen[label] += len(rows)
        if not np.array_equal(seen, counts):
            raise ValueError("the source gave other training samples when asked a second time")
        fitted = np.minimum(counts, self.config.tail_size)
        weibull = fit_tails(tails[:, ::-1], self.config.shift, fitted)
        self._state = {
            "means": means,
            "counts": counts,
            "shape": weibull.shape,
            "log_scale": weibull.log_scale,
            "offset": weibull.offset,
            "tail_count": weibull.n,
        }

    def revise(
        self, xp: Any, table: Mapping[str, Any], learned: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        """Logits of the known classes after revision [n, K], and of `unknown` [n].

        With negative=shift a row is known only up to the constant it was raised by, which no
        probability and no score depends on.
        """
        v = table["logits"]
        # Only the top classes can change, so only their distances are computed.
        top_v, top = _largest(xp, v, self._alpha(v.shape[1]))
        centres, lengths = learned["means"][top], learned["lengths"][top]
        distance = _distances(xp, self.config.distance, v, centres, lengths)
        shape, log_scale, offset = (learned[n][top] for n in ("shape", "log_scale", "offset"))
        w = cdf(xp, distance, shape, log_scale, offset, self.config.shift)
        if self.config.negative == "shift":
            lift = xp.clip(-xp.mean(top_v, axis=1, keepdims=True), 0.0, None)
            v, top_v = v + lift, top_v + lift
        movable = top_v if self.config.negative == "keep" else xp.clip(top_v, 0.0, None)
        # v_k (1 - a_k w_k) for the top classes, and for `unknown` the sum of what they lose.
        moved = learned["rank_weight"] * w * movable
        return _replaced(xp, v, top, top_v - moved), xp.sum(moved, axis=1)

    def formula(self, xp: Any, table: Mapping[str, Any], learned: Mapping[str, Any]) -> Any:
        """Log-odds of the unknown class, log(p / (1 - p)), or p.

        The log-odds do not form p, so they are finite and without ties where p rounds to 0 or 1.
        """
        known, unknown = self.revise(xp, table, learned)
        top = xp.amax(known, axis=1, keepdims=True)
        odds = unknown - top[:, 0] - xp.log(xp.sum(xp.exp(known - top), axis=1))
        if self.config.score == "log-odds":
            return odds
        small = xp.exp(-xp.abs(odds))  # full relative precision near 0, and no overflow
        return xp.where(odds >= 0, 1.0, small) / (1.0 + small)

    def probabilities(self, table: FeatureTable) -> Floats:
        """OpenMax probabilities [n, K+1], the unknown class last (equation 2)."""

        def softmax(xp: Any, table: Mapping[str, Any], learned: Mapping[str, Any]) -> Any:
            known, unknown = self.revise(xp, table, learned)
            revised = xp.concatenate([known, unknown[:, None]], axis=1)
            odds = xp.exp(revised - xp.amax(revised, axis=1, keepdims=True))
            return odds / xp.sum(odds, axis=1, keepdims=True)

        return self.in_blocks(softmax, table)  # type: ignore[no-any-return]

    def inputs(self, table: FeatureTable) -> dict[str, Floats]:
        logits = _checked_logits(table["logits"], len(self.state()["counts"]))
        return {"logits": logits.astype(np.float64)}

    def row_elements(self, width: int) -> int:
        """A row less each of the MAVs of its top classes."""
        return self._alpha(width) * width

    def learned(self) -> Mapping[str, Array]:
        state = self.state()
        arrays = {name: state[name] for name in ("means", "shape", "log_scale", "offset")}
        # a_k of ranks 1..alpha as in OSDN: 1 for the top class, 1 / alpha for the last one. Alpha
        # is the clipped one: OSDN's loop over ranks would run past the last class.
        alpha = self._alpha(len(state["counts"]))
        rank_weight = (alpha - np.arange(alpha)) / alpha
        return {**arrays, "lengths": _lengths(np, state["means"]), "rank_weight": rank_weight}

    def _alpha(self, classes: int) -> int:
        return min(self.config.alpha, classes)

    def state(self) -> dict[str, Array]:
        if not self._state:
            raise RuntimeError("OpenMax scores only after fit or restore")
        return dict(self._state)

    def restore(self, state: Mapping[str, Array]) -> None:
        missing = sorted(_STATE.keys() - state.keys())
        if missing:
            raise ValueError(f"OpenMax state lacks {', '.join(missing)}")
        arrays: dict[str, Array] = {
            name: np.asarray(state[name], dtype) for name, dtype in _STATE.items()
        }
        classes = arrays["counts"].size
        for name, array in arrays.items():
            expected = (classes, classes) if name == "means" else (classes,)
            if array.shape != expected:
                raise ValueError(
                    f"OpenMax state {name!r} must have shape {expected}, got {array.shape}"
                )
        self._state = arrays


def _correct(
    source: FeatureSource, classes: int | None = None
) -> Iterator[tuple[int, Iterator[tuple[int, Floats]]]]:
    """K, and the classes with their correctly classified samples [n, K], chunk by chunk."""
    for table in source.chunks("logits", "label"):
        logits, labels = _checked_logits(table["logits"], classes), np.asarray(table["label"])
        classes = logits.shape[1]
        if labels.shape != logits.shape[:1] or labels.dtype.kind not in "iu":
            raise ValueError(
                f"labels must be integers of shape {logits.shape[:1]}, got {labels.dtype} "
                f"{labels.shape}"
            )
        if labels.size and not (labels.min() >= 0 and labels.max() < classes):
            raise ValueError(
                f"labels must be within 0..{classes - 1}, got {labels.min()}..{labels.max()}"
            )
        right = np.flatnonzero(np.argmax(logits, axis=1) == labels)
        right = right[np.argsort(labels[right], kind="stable")]
        present, starts = np.unique(labels[right], return_index=True)
        groups = zip(present, np.split(right, starts[1:]), strict=True) if len(right) else ()
        yield classes, ((int(label), logits[rows].astype(np.float64)) for label, rows in groups)
    if classes is None:
        raise ValueError("OpenMax cannot be fitted: there is no training sample")


def _checked_logits(values: Any, classes: int | None) -> Array:
    logits: Array = np.asarray(values)
    width = logits.shape[1] if logits.ndim == 2 else 0
    if width == 0 or (classes is not None and width != classes):
        expected = "K" if classes is None else classes
        raise ValueError(f"logits must have shape [n, {expected}], got {logits.shape}")
    if logits.dtype.kind != "f":
        raise ValueError(f"logits must be floating point, got {logits.dtype}")
    if not np.isfinite(logits).all():
        raise ValueError("logits hold NaN or infinity")
    return logits


def _largest(xp: Any, v: Any, count: int) -> tuple[Any, Any]:
    """The largest logits in descending order and their classes, [n, count].

    Of equal logits the lower class comes first, as in `argmax`. In an exported file any of them
    may: ONNX has no operator for torch's stable sort.
    """
    if xp is not np:
        values, top = xp.sort(v, dim=1, descending=True)
        return values[:, :count], top[:, :count]
    if v.shape[1] <= 8 * count:  # sorting whole rows is then as fast
        top = np.argsort(-v, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(v, top, axis=1), top
    top = np.sort(np.argpartition(-v, count - 1, axis=1)[:, :count], axis=1)
    values = np.take_along_axis(v, top, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    values, top = np.take_along_axis(values, order, axis=1), np.take_along_axis(top, order, axis=1)
    # Of classes that share the last place the partition keeps any; those rows are sorted whole.
    shared = np.count_nonzero(v >= values[:, -1:], axis=1) > count
    if shared.any():
        top[shared] = np.argsort(-v[shared], axis=1, kind="stable")[:, :count]
    return values, top


def _replaced(xp: Any, v: Any, classes: Any, values: Any) -> Any:
    """A copy of v [n, K] with other values [n, m] in the places of some classes [n, m]."""
    if xp is not np:
        return v.scatter(1, classes, values)
    v = v.copy()
    np.put_along_axis(v, classes, values, axis=1)
    return v


def _lengths(xp: Any, vectors: Any) -> Any:
    return xp.sqrt(xp.linalg.vecdot(vectors, vectors))


def _distances(xp: Any, kind: str, rows: Any, centres: Any, lengths: Any) -> Any:
    """Distances [n, m] of rows [n, K] to centres [n, m, K] of some lengths [n, m].

    From differences: |x|^2 - 2 x.m + |m|^2 loses all digits of small distances between large
    logits.
    """
    euclidean = _lengths(xp, centres - rows[:, None, :])
    if kind == "euclidean":
        return euclidean
    product = xp.matmul(centres, rows[:, :, None])[:, :, 0]
    norms = lengths * _lengths(xp, rows)[:, None]
    cosine = xp.where(norms > 0, product / xp.where(norms > 0, norms, 1.0), 0.0)
    turned = 1.0 - xp.clip(cosine, -1.0, 1.0)
    return turned if kind == "cosine" else turned + euclidean / EUCOS_DIVISOR
