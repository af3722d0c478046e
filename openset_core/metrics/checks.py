"""Checks on what the caller of a metric hands in; each error names the argument."""

from __future__ import annotations

import operator

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def _vector(name: str, values: npt.ArrayLike) -> npt.NDArray[np.generic]:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, but has shape {array.shape}.")
    if array.size == 0:
        raise ValueError(f"{name} must hold at least one sample, but is empty.")
    return array


def checked_scores(name: str, values: npt.ArrayLike) -> FloatArray:
    array = _vector(name, values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, but its dtype is {array.dtype}.")
    scores = array.astype(np.float64, copy=False)
    if not np.isfinite(scores).all():
        raise ValueError(f"{name} must be finite, but holds NaN or infinity.")
    return scores


def checked_integers(name: str, values: npt.ArrayLike) -> IntArray:
    """Return `values` as int64 class indices of any range."""
    array = _vector(name, values)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} must hold integer class indices, but its dtype is {array.dtype}.")
    return array.astype(np.int64, copy=False)


def class_indices(name: str, values: npt.ArrayLike, num_classes: int, *, unknown: bool) -> IntArray:
    """`values` in 0..K-1, or in 0..K where `unknown` is allowed."""
    indices = checked_integers(name, values)
    last = num_classes if unknown else num_classes - 1
    outside = indices[(indices < 0) | (indices > last)]
    if outside.size:
        hint = f" ({num_classes} = unknown)" if unknown else ""
        raise ValueError(f"{name} must lie in 0..{last}{hint}, but holds {outside[0]}.")
    return indices


def checked_flags(name: str, values: npt.ArrayLike) -> BoolArray:
    """Return `values` (booleans, or integers 0 and 1) as booleans."""
    array = _vector(name, values)
    flags = array.astype(np.bool_, copy=False) if array.dtype.kind in "biu" else None
    if flags is None or (flags != array).any():
        raise ValueError(f"{name} must hold booleans.")
    return flags


def check_same_length(**arrays: npt.NDArray[np.generic]) -> None:
    (first, reference), *others = arrays.items()
    for name, array in others:
        if len(array) != len(reference):
            raise ValueError(
                f"{name} must be as long as {first}, but they have "
                f"{len(array)} and {len(reference)} entries."
            )


def positive_int(name: str, value: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be an integer, but is {value!r}.") from None
    if number < 1:
        raise ValueError(f"{name} must be at least 1, but is {number}.")
    return number


def checked_share(name: str, value: float) -> float:
    if not 0.0 < value <= 1.0:
        raise ValueError(f"{name} must lie in (0, 1], but is {value}.")
    return float(value)
