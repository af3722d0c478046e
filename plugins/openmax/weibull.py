"""Weibull fits to the tails of many classes at once, in NumPy.

libmr's convention and none of its code: the smallest tail value is subtracted, a constant `shift`
is added, and a two-parameter Weibull is fitted by maximum likelihood, so what is fitted is

    y = distance - offset + shift,    P(y <= t) = 1 - exp(-(t / scale) ** shape).

With OSDN's shift of 10000 the values are 10000 plus tiny differences and the shape is in the ten
thousands or beyond, so everything here works with `log(y / shift)`, which `log1p` gives to full
precision from the differences themselves.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Newton's error squares each step, so a step this small leaves an error at rounding level.
_STEP_TOLERANCE = 1e-10
# Newton needs 4 to 8 steps; bisection alone, the fallback, would need about 60.
_MAX_STEPS = 100


@frozen(eq=False)
class WeibullFit:
    """One Weibull per class, all [K], fitted to the class's largest distances.

    Two values of the parameters stand for classes that no Weibull can be fitted to, and are the
    limits of those that can:

    * fewer than two tail values: `log_scale` is infinite, so the CDF is 0 at every distance and
      OpenMax never revises the class;
    * all tail values equal: `shape` is infinite, so the CDF is a step, 0 up to and including
      that value and 1 above it.
    """

    shape: Floats
    # log(scale / shift) >= 0: the rounding of a scale near 10000, raised to a shape of 1e10, would
    # show in the CDF.
    log_scale: Floats
    offset: Floats  # the smallest tail value; 0 for a class without any
    n: Ints  # tail values that were used
    shift: float = field(converter=float)

    @property
    def scale(self) -> Floats:
        """Scale of each class in units of `distance - offset + shift`, `[K]`."""
        return np.asarray(self.shift * np.exp(self.log_scale), dtype=np.float64)


def fit_tails(largest: NDArray[Any], shift: float, valid_count: NDArray[Any]) -> WeibullFit:
    """Fit every class's Weibull to the first `valid_count` [K] entries of its row of `largest`.

    With `t = log(y / max y)` the shape `k` solves the profile likelihood equation (Cohen, "Maximum
    likelihood estimation in the Weibull distribution", Technometrics 1965)

        sum(t * exp(k t)) / sum(exp(k t)) - mean(t) - 1 / k = 0,

    whose left side rises with `k`: there is exactly one root, and Newton's method, held inside a
    bracket, finds it for all classes together. No class's result depends on another class.
    """
    tails = np.asarray(largest, dtype=np.float64)
    n = np.asarray(valid_count)
    if tails.ndim != 2:
        raise ValueError(f"largest must be [K, tail], got shape {tails.shape}")
    if n.shape != tails.shape[:1] or n.dtype.kind not in "iu":
        raise ValueError(
            f"valid_count must be integers of shape {tails.shape[:1]}, got {n.dtype} {n.shape}"
        )
    if n.size and not (n.min() >= 0 and n.max() <= tails.shape[1]):
        raise ValueError(f"valid_count must be within 0..{tails.shape[1]}")
    if not (math.isfinite(shift) and shift > 0):
        raise ValueError(f"shift must be finite and > 0, got {shift}")
    n = n.astype(np.int64)
    classes, width = tails.shape
    counted = np.arange(width) < n[:, None]
    if not np.isfinite(tails[counted]).all():
        raise ValueError("tail distances must be finite")

    offset = np.min(tails, axis=1, initial=np.inf, where=counted)
    offset[n == 0] = 0.0
    with np.errstate(over="ignore"):
        excess = (np.where(counted, tails, offset[:, None]) - offset[:, None]) / shift
    if not np.isfinite(excess).all():
        raise ValueError(f"tail distances divided by shift={shift:g} overflow float64")
    # log(y / shift): full relative precision however small the spread is beside the shift.
    log_y = np.log1p(excess)
    log_span = np.max(log_y, axis=1, initial=0.0)

    shape = np.ones(classes)
    log_scale = np.full(classes, np.inf)
    equal = (n >= 2) & (log_span == 0)
    shape[equal] = np.inf
    log_scale[equal] = 0.0
    fitted = np.flatnonzero(log_span > 0)
    if fitted.size:
        # Measured in spans below the maximum the problem has no scale left: s is in [-1, 0] with
        # both ends present, whatever the distances and the shift are.
        span = log_span[fitted]
        s = log_y[fitted] / span[:, None] - 1.0
        weight = counted[fitted].astype(np.float64)
        kappa = _solve_shape(s, weight, n[fitted])
        mean_power = np.sum(weight * np.exp(kappa[:, None] * s), axis=1) / n[fitted]
        with np.errstate(over="ignore"):  # a span below 1e-308 has become a step
            shape[fitted] = kappa / span
        log_scale[fitted] = span * (1.0 + np.log(mean_power) / kappa)
    return WeibullFit(shape=shape, log_scale=log_scale, offset=offset, n=n, shift=shift)


def cdf(xp: Any, distance: Any, shape: Any, log_scale: Any, offset: Any, shift: float) -> Any:
    """The fitted Weibulls' CDF: 0 where `distance <= offset - shift`, NaN only for a distance NaN.

    The parameters are those of each distance's class, broadcastable to it.
    """
    # Below -1 the Weibull's argument would be negative; the upper bound keeps inf - inf away.
    excess = xp.clip((distance - offset) / shift, -1.0, np.finfo(np.float64).max)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        log_ratio = xp.log1p(excess) - log_scale
        at_most = xp.isinf(shape) & (log_ratio <= 0)  # the lower side of a step
        log_hazard = xp.where(at_most, -math.inf, shape * log_ratio)
        return -xp.expm1(-xp.exp(log_hazard))


def _solve_shape(s: Floats, weight: Floats, n: Ints) -> Floats:
    """Shape times span of every row, >= 1, from the profile likelihood equation.

    s is `log(y / max y)` over its span [C, tail], in [-1, 0] with both ends present; the weight is
    1 for the entries that count and 0 for padding.
    """
    mean = np.sum(weight * s, axis=1) / n
    # Centring first makes sum(w c) the left side's difference of means without cancellation.
    centred = s - mean[:, None]

    def tilted(kappa: Floats) -> tuple[Floats, Floats]:
        """Mean and variance of `centred` under weights `exp(kappa s)`."""
        w = weight * np.exp(kappa[:, None] * s)
        total = np.sum(w, axis=1)
        first = np.sum(w * centred, axis=1) / total
        second = np.sum(w * np.square(centred - first[:, None]), axis=1) / total
        return first, second

    # The tilted mean of s lies between its value at `low` and 0, hence so does 1 / root + mean.
    low = -1.0 / mean
    high = 1.0 / tilted(low)[0]
    kappa: Floats = low.copy()
    active = np.ones(len(kappa), dtype=bool)
    for _ in range(_MAX_STEPS):
        first, variance = tilted(kappa)
        # Times kappa the equation is nearly straight, so Newton converges from either side.
        residual = kappa * first - 1.0
        low = np.where(residual <= 0, kappa, low)
        high = np.where(residual >= 0, kappa, high)
        newton = kappa - residual / (first + kappa * variance)
        # The root may sit on the bracket's end, to rounding: leave room for that.
        slack = 4 * np.finfo(np.float64).eps * kappa
        inside = (newton >= low - slack) & (newton <= high + slack)
        proposal = np.where(inside, newton, 0.5 * (low + high))
        # A class stops on its own, so the classes beside it cannot change its last digits.
        step = np.abs(proposal - kappa)
        kappa = np.where(active, proposal, kappa)
        active &= ~((step <= _STEP_TOLERANCE * kappa) & (inside | (high - low <= slack)))
        if not active.any():
            break
    return kappa
