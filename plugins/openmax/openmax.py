"""OpenMax: class probabilities that leave room for an unknown class, in NumPy.

Bendale & Boult, "Towards Open Set Deep Networks", CVPR 2016. For every class, the mean activation
vector (MAV) of the correctly classified training samples, and a Weibull fitted to their largest
distances to it (Algorithm 1). For a sample, the logits of its top classes are lowered by how
extreme its distances to their MAVs are, and what they lose becomes the logit of an extra class,
`unknown` (Algorithm 2).

Published and released OpenMax differ, and so do its descendants: the distance, the tail's size,
alpha and the Weibull's shift change the scores. Each is a field of `OpenMaxParameters`.

All arithmetic is float64, whatever the logits' type is. Work is done in blocks of rows that fit
into the processor's cache; what is held besides inputs and results is two `[K, K]` arrays, the
tails, and a few megabytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
from attrs import Attribute, field, frozen
from attrs.validators import in_
from numpy.typing import NDArray

from openset_plugins.openmax.weibull import WeibullFit, cdf, fit_tails

Floats = NDArray[np.float64]
Chunks = Callable[[], Iterable[tuple[NDArray[Any], NDArray[Any]]]]

# OSDN's constant: brings the Euclidean distance of 1000 logits to the cosine distance's size.
EUCOS_DIVISOR = 200.0
# Elements of a block of rows and of a block of gathered MAVs: 2 MB and 1 MB, within the cache.
_ROW_ELEMENTS = 2**18
_GATHER_ELEMENTS = 2**17


def _whole_number(least: int) -> Callable[[Any, Attribute[int], int], None]:
    """Makes a validator for whole numbers from `least` up."""

    def validate(_: Any, attribute: Attribute[int], value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{attribute.name} must be a whole number >= {least}, got {value!r}")

    return validate


def _positive(_: Any, attribute: Attribute[float], value: float) -> None:
    """Validates a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{attribute.name} must be a number, got {value!r}")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{attribute.name} must be finite and > 0, got {value!r}")


@frozen
class OpenMaxParameters:
    """What has to be stated to say which OpenMax is meant.

    Defaults are those of the authors' release, OSDN: tail 20, alpha 10 and the `eucos` distance.
    Two are not. `shift` is 1, what libmr from PyPI uses; OSDN's bundled copy of libmr uses 10000.
    `negative` is `shift`, because the published rule (`keep`) is not monotone where logits are
    negative: a sample further from its class then counts as less unknown. The rules agree
    wherever the revised logits are not negative.

    Attributes:
        tail_size: Largest distances per class that the Weibull is fitted to, >= 2.
        alpha: Top-ranked classes that are revised, >= 1; more than there are classes means all
            (see `OpenMaxFit.alpha`).
        distance: Distance of logits to a MAV.

            * `euclidean`;
            * `cosine`: 1 - cos, in [0, 2]; 1 if either vector is zero;
            * `eucos`: euclidean / 200 + cosine.
        shift: Constant the Weibull fit adds to the distances, > 0 (see `weibull.fit_tails`).
        negative: What happens to negative logits. The published rule moves the share a_k w_k of
            logit v_k to the unknown class, so a negative logit that is "lowered" rises and takes
            from the unknown class: the further the sample, the less unknown.

            * `shift`: a row whose top-alpha logits have a negative mean is raised, all K alike,
              until that mean is 0; softmax over the known classes does not notice. Then as `clip`.
              Distances so count also for heads whose logits are all negative, such as negative
              distances to prototypes (but need alpha >= 2 for that: a single logit is its own
              mean, and nothing of it is left to move).
            * `clip`: negative logits are left as they are, and nothing of them is moved. Where all
              are negative distances have no say: the unknown class's logit is 0 whatever they are.
            * `keep`: as published.

            With `shift` and `clip` revision never raises a logit, and a greater distance never
            makes a sample less unknown. All three agree wherever the top-alpha logits are >= 0.
    """

    tail_size: int = field(default=20, validator=_whole_number(2))
    alpha: int = field(default=10, validator=_whole_number(1))
    distance: Literal["euclidean", "cosine", "eucos"] = field(
        default="eucos", validator=in_(("euclidean", "cosine", "eucos"))
    )
    shift: float = field(default=1.0, validator=_positive)
    negative: Literal["shift", "clip", "keep"] = field(
        default="shift", validator=in_(("shift", "clip", "keep"))
    )


@frozen(eq=False)
class OpenMaxFit:
    """A fitted OpenMax: all that scoring needs.

    Attributes:
        means: MAVs, `[K, K]`; row k is class k's, zeros if the class has no correct sample.
        weibull: Weibull of each class's largest distances.
        counts: Correctly classified training samples of each class, `[K]`.
        parameters: What it was fitted with.
    """

    means: Floats
    weibull: WeibullFit
    counts: NDArray[np.int64]
    parameters: OpenMaxParameters

    @property
    def num_classes(self) -> int:
        """Known classes, K."""
        return len(self.counts)

    @property
    def alpha(self) -> int:
        """Classes that are really revised: `parameters.alpha`, at most K."""
        return min(self.parameters.alpha, self.num_classes)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Returns the fitted state as named arrays; `parameters` are to be kept beside them."""
        return {
            "means": self.means,
            "counts": self.counts,
            "shape": self.weibull.shape,
            "log_scale": self.weibull.log_scale,
            "offset": self.weibull.offset,
            "tail_count": self.weibull.n,
        }

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], parameters: OpenMaxParameters
    ) -> OpenMaxFit:
        """Rebuilds a fit from `to_arrays`.

        Args:
            arrays: The named arrays; names beyond those of `to_arrays` are ignored.
            parameters: The parameters it was fitted with.

        Raises:
            ValueError: If an array is missing or its shape does not fit the others.
        """
        dtypes = {
            "means": np.float64,
            "counts": np.int64,
            "shape": np.float64,
            "log_scale": np.float64,
            "offset": np.float64,
            "tail_count": np.int64,
        }
        missing = sorted(dtypes.keys() - arrays.keys())
        if missing:
            raise ValueError(f"OpenMax state lacks {', '.join(missing)}")
        state: dict[str, Any] = {name: np.asarray(arrays[name], dtypes[name]) for name in dtypes}
        classes = state["counts"].size
        for name, array in state.items():
            expected = (classes, classes) if name == "means" else (classes,)
            if array.shape != expected:
                raise ValueError(
                    f"OpenMax state {name!r} must have shape {expected}, got {array.shape}"
                )
        weibull = WeibullFit(
            shape=state["shape"],
            log_scale=state["log_scale"],
            offset=state["offset"],
            n=state["tail_count"],
            shift=parameters.shift,
        )
        return cls(state["means"], weibull, state["counts"], parameters)


def fit_openmax(chunks: Chunks, parameters: OpenMaxParameters | None = None) -> OpenMaxFit:
    """Fits MAVs and Weibull tails (Bendale & Boult 2016, Algorithm 1).

    Samples whose largest logit is not their label's (the first of equal ones counts) have no part
    in it. A class with fewer than two correct samples is never revised.

    Args:
        chunks: Gives an iterator over `(logits [n, K], labels [n])`, floating point and integers
            in 0..K-1. Called twice, for the means and for the distances; both times it must give
            the same samples. How they are cut into chunks does not matter.
        parameters: Defaults to `OpenMaxParameters()`.

    Returns:
        The fit.

    Raises:
        ValueError: If there is no chunk, shapes or types are wrong, chunks differ in K, a label is
            out of range, a logit is not finite, or the second call gives other samples.
    """
    parameters = OpenMaxParameters() if parameters is None else parameters
    means, counts = _fit_means(chunks)
    tails = _largest_distances(chunks, means, counts, parameters)
    weibull = fit_tails(tails, parameters.shift, np.minimum(counts, parameters.tail_size))
    return OpenMaxFit(means=means, weibull=weibull, counts=counts, parameters=parameters)


def revise(fit: OpenMaxFit, logits: NDArray[Any]) -> Floats:
    """OpenMax probabilities (Bendale & Boult 2016, Algorithm 2).

    Args:
        fit: A fitted OpenMax of K classes.
        logits: Floating point, `[n, K]`.

    Returns:
        Probabilities, `[n, K + 1]`, in [0, 1], rows summing to 1; the last column is `unknown`.

    Raises:
        ValueError: If `logits` has another shape or type, or holds NaN or infinity.
    """
    logits = _checked_logits(logits, fit.num_classes)
    result = np.empty((len(logits), fit.num_classes + 1))
    for rows, block in _revised_blocks(fit, logits):
        result[rows] = probabilities(block)
    return result


def revised_logits(fit: OpenMaxFit, logits: NDArray[Any]) -> Floats:
    """Logits of the known classes after revision, and of `unknown`: `revise` before softmax.

    With `negative="shift"` a row is known only up to the constant it was raised by, which
    no probability and no score depends on.

    Args:
        fit: A fitted OpenMax of K classes.
        logits: Floating point, `[n, K]`.

    Returns:
        Revised logits, `[n, K + 1]`; the last column is `unknown`.

    Raises:
        ValueError: As `revise`.
    """
    logits = _checked_logits(logits, fit.num_classes)
    result = np.empty((len(logits), fit.num_classes + 1))
    for rows, block in _revised_blocks(fit, logits):
        result[rows] = block
    return result


def unknown_score(
    fit: OpenMaxFit,
    logits: NDArray[Any],
    *,
    form: Literal["probability", "log_odds"] = "probability",
) -> Floats:
    """How unknown each sample is; higher means more unknown.

    Args:
        fit: A fitted OpenMax of K classes.
        logits: Floating point, `[n, K]`.
        form: `probability`, the published score, in [0, 1]: OpenMax's probability of the unknown
            class. It rounds to exactly 1 where the unknown class's logit leads by 37 or more, and
            metrics that honour ties then see those samples as equally unknown. `log_odds`:
            log(p / (1 - p)), any real number, the same order without those ties.

    Returns:
        Scores, `[n]`.

    Raises:
        ValueError: As `revise`, and if `form` is neither of the two.
    """
    if form not in ("probability", "log_odds"):
        raise ValueError(f"form must be 'probability' or 'log_odds', got {form!r}")
    logits = _checked_logits(logits, fit.num_classes)
    result = np.empty(len(logits))
    for rows, block in _revised_blocks(fit, logits):
        result[rows] = log_odds(block)
    return _sigmoid(result) if form == "probability" else result


def probabilities(revised: Floats) -> Floats:
    """Softmax over the known classes and `unknown` (Bendale & Boult 2016, equation 2).

    Args:
        revised: Result of `revised_logits`, `[n, K + 1]`.

    Returns:
        Probabilities, `[n, K + 1]`, rows summing to 1.
    """
    result: Floats = revised - np.max(revised, axis=1, keepdims=True)
    np.exp(result, out=result)
    result /= np.sum(result, axis=1, keepdims=True)
    return result


def log_odds(revised: Floats) -> Floats:
    """Log-odds of the unknown class, log(p / (1 - p)), without forming p.

    Args:
        revised: Result of `revised_logits`, `[n, K + 1]`.

    Returns:
        Log-odds, `[n]`; strictly rising with the probability, and finite where that is 0 or 1.
    """
    known, unknown = revised[:, :-1], revised[:, -1]
    top = np.max(known, axis=1)
    known_log_sum: Floats = top + np.log(np.sum(np.exp(known - top[:, None]), axis=1))
    return unknown - known_log_sum


def _sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)) with full relative precision near 0 and no overflow."""
    small = np.exp(-np.abs(x))
    result: Floats = np.where(x >= 0, 1.0, small) / (1.0 + small)
    return result


# ---- fitting


def _fit_means(chunks: Chunks) -> tuple[Floats, NDArray[np.int64]]:
    """MAVs `[K, K]` and numbers `[K]` of correctly classified samples."""
    sums: Floats | None = None
    counts = np.zeros(0, dtype=np.int64)
    for logits, labels in chunks():
        logits, labels = _checked_chunk(logits, labels, None if sums is None else len(sums))
        if sums is None:
            width = logits.shape[1]
            sums, counts = np.zeros((width, width)), np.zeros(width, dtype=np.int64)
        for rows, classes in _correct_blocks(logits, labels):
            starts = np.flatnonzero(np.diff(classes, prepend=-1))
            # Classes are sorted within a block, so each occurs once among those at `starts`.
            sums[classes[starts]] += np.add.reduceat(rows, starts, axis=0)
            counts += np.bincount(classes, minlength=len(counts))
    if sums is None:
        raise ValueError("OpenMax cannot be fitted: chunks() gave no chunk")
    sums /= np.maximum(counts, 1)[:, None]
    return sums, counts


def _largest_distances(
    chunks: Chunks, means: Floats, counts: NDArray[np.int64], parameters: OpenMaxParameters
) -> Floats:
    """The `tail_size` largest distances of each class, `[K, tail]`, descending, padded by -inf."""
    tails = np.full((len(means), parameters.tail_size), -np.inf)
    norms = _norms(means)
    seen = np.zeros_like(counts)
    for logits, labels in chunks():
        logits, labels = _checked_chunk(logits, labels, len(means))
        found: list[tuple[Floats, NDArray[np.intp]]] = []
        for rows, classes in _correct_blocks(logits, labels):
            # OSDN's `euclidean` divides by 200 when it scores a sample and not when it stores the
            # training distances, so its Weibull is asked about another unit. Here one function
            # serves both sides: `euclidean` is never divided, the Euclidean part of `eucos` always.
            own = _distances(parameters.distance, rows, means, norms, classes[:, None])
            found.append((own[:, 0], classes))
            seen += np.bincount(classes, minlength=len(seen))
        if found:
            distance, classes = (np.concatenate(parts) for parts in zip(*found, strict=True))
            _merge_tails(tails, distance, classes)
    if not np.array_equal(seen, counts):
        raise ValueError("chunks() gave other samples when called a second time")
    return tails


def _merge_tails(tails: Floats, distance: Floats, classes: NDArray[np.intp]) -> None:
    """Keeps, in place, each class's largest of its tail and of the new distances."""
    size = tails.shape[1]
    order = np.lexsort((-distance, classes))
    distance, classes = distance[order], classes[order]
    starts = np.flatnonzero(np.diff(classes, prepend=-1))
    present = classes[starts]
    group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(classes)))
    rank = np.arange(len(classes)) - starts[group]
    kept = rank < size
    merged = np.full((len(present), 2 * size), -np.inf)
    merged[:, :size] = tails[present]
    merged[group[kept], size + rank[kept]] = distance[kept]
    # Sorted, so that a tail does not depend on how the samples were cut into chunks.
    merged.sort(axis=1)
    tails[present] = merged[:, : size - 1 : -1]


def _correct_blocks(
    logits: NDArray[Any], labels: NDArray[np.intp]
) -> Iterator[tuple[Floats, NDArray[np.intp]]]:
    """Yields the correctly classified rows in float64 and their classes, sorted by class."""
    chosen = np.flatnonzero(np.argmax(logits, axis=1) == labels)
    chosen = chosen[np.argsort(labels[chosen], kind="stable")]
    for part in _blocks(len(chosen), _ROW_ELEMENTS, logits.shape[1]):
        yield logits[chosen[part]].astype(np.float64), labels[chosen[part]]


# ---- scoring


def _revised_blocks(fit: OpenMaxFit, logits: NDArray[Any]) -> Iterator[tuple[slice, Floats]]:
    """Yields slices of rows and their revised logits, `[rows, K + 1]` (Algorithm 2)."""
    parameters, alpha = fit.parameters, fit.alpha
    norms = _norms(fit.means)
    # a_k of ranks 1..alpha as in OSDN: 1 for the top class, 1 / alpha for the last one. Alpha is
    # the clipped one: OSDN's loop over ranks would run past the last class.
    rank_weight = (alpha - np.arange(alpha)) / alpha
    for rows in _blocks(len(logits), _ROW_ELEMENTS, fit.num_classes):
        v = logits[rows].astype(np.float64)
        top = _top_classes(v, alpha)
        # Only the top classes can change, so only their distances are computed.
        distance = _distances(parameters.distance, v, fit.means, norms, top)
        w = cdf(fit.weibull, distance, top)
        top_v = np.take_along_axis(v, top, axis=1)
        if parameters.negative == "shift":
            lift = np.maximum(0.0, -np.mean(top_v, axis=1, keepdims=True))
            v += lift
            top_v += lift
        movable = top_v if parameters.negative == "keep" else np.maximum(top_v, 0.0)
        # v_k (1 - a_k w_k) for the top classes, and for `unknown` the sum of what they lose.
        moved = rank_weight * w * movable
        np.put_along_axis(v, top, top_v - moved, axis=1)
        yield rows, np.concatenate([v, np.sum(moved, axis=1, keepdims=True)], axis=1)


def _top_classes(v: Floats, alpha: int) -> NDArray[np.intp]:
    """The `alpha` classes of largest logit in descending order, `[n, alpha]`.

    Of equal logits the lower class comes first, as in `argmax`.
    """
    classes = v.shape[1]
    if alpha == classes:
        return np.argsort(-v, axis=1, kind="stable")
    top = np.argpartition(v, classes - alpha, axis=1)[:, classes - alpha :]
    top.sort(axis=1)
    top_v = np.take_along_axis(v, top, axis=1)
    order = np.argsort(-top_v, axis=1, kind="stable")
    top = np.take_along_axis(top, order, axis=1)
    # Partitioning picks any of the classes that share the last place: sort such rows in full.
    lowest = np.min(top_v, axis=1, keepdims=True)
    shared = np.count_nonzero(v >= lowest, axis=1) > alpha
    if shared.any():
        top[shared] = np.argsort(-v[shared], axis=1, kind="stable")[:, :alpha]
    return top


# ---- common


def _distances(
    kind: str, rows: Floats, means: Floats, norms: Floats, classes: NDArray[np.intp]
) -> Floats:
    """Distances of each row to the MAVs of the classes named for it.

    The MAVs are gathered. One matrix product with all of them and |x|^2 - 2 x.m + |m|^2 would be
    slower for 10 of 1000 classes (116 against 75 ms for 4096 rows on 2 cores), and it
    cancels: it loses all digits of small distances between large logits.

    Args:
        kind: As `OpenMaxParameters.distance`.
        rows: `[n, K]`.
        means: MAVs, `[K, K]`.
        norms: Their lengths, `[K]`.
        classes: `[n, m]`.

    Returns:
        Distances, `[n, m]`, >= 0.
    """
    result = np.empty(classes.shape)
    for part in _blocks(len(rows), _GATHER_ELEMENTS, classes.shape[1] * rows.shape[1]):
        x, centre = rows[part], means[classes[part]]
        if kind != "euclidean":
            product = np.matmul(centre, x[:, :, None])[:, :, 0]
            lengths = norms[classes[part]] * _norms(x)[:, None]
            cosine = np.divide(product, lengths, out=np.zeros_like(product), where=lengths > 0)
            result[part] = 1.0 - np.clip(cosine, -1.0, 1.0)
        if kind != "cosine":
            centre -= x[:, None, :]
            euclidean = np.sqrt(np.einsum("nmk,nmk->nm", centre, centre))
            result[part] = (
                euclidean if kind == "euclidean" else result[part] + euclidean / EUCOS_DIVISOR
            )
    return result


def _norms(vectors: Floats) -> Floats:
    """Euclidean lengths along the last axis."""
    lengths: Floats = np.sqrt(np.einsum("...k,...k->...", vectors, vectors))
    return lengths


def _blocks(length: int, elements: int, width: int) -> Iterator[slice]:
    """Yields slices over `length` rows of `width` elements, about `elements` elements each."""
    step = max(1, elements // max(1, width))
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def _checked_logits(logits: NDArray[Any], classes: int | None) -> NDArray[Any]:
    """Returns the logits as an array, or raises ValueError saying what is wrong."""
    logits = np.asarray(logits)
    width = logits.shape[1] if logits.ndim == 2 else 0
    if width == 0 or (classes is not None and width != classes):
        expected = "K" if classes is None else classes
        raise ValueError(f"logits must have shape [n, {expected}], got {logits.shape}")
    if logits.dtype.kind != "f":
        raise ValueError(f"logits must be floating point, got {logits.dtype}")
    # The extremes are NaN or infinite if any logit is, and need no array of flags.
    if logits.size and not (np.isfinite(logits.min()) and np.isfinite(logits.max())):
        raise ValueError("logits hold NaN or infinity")
    return logits


def _checked_chunk(
    logits: NDArray[Any], labels: NDArray[Any], classes: int | None
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Returns a chunk as arrays, or raises ValueError saying what is wrong."""
    logits, labels = _checked_logits(logits, classes), np.asarray(labels)
    if labels.shape != logits.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of shape {logits.shape[:1]}, got {labels.dtype} "
            f"{labels.shape}"
        )
    if labels.size and not (labels.min() >= 0 and labels.max() < logits.shape[1]):
        raise ValueError(
            f"labels must be within 0..{logits.shape[1] - 1}, got {labels.min()}..{labels.max()}"
        )
    return logits, labels.astype(np.intp)
