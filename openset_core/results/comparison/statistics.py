"""Means, intervals, paired differences and ranks.

The unit is the trial: it decides which classes are known, hence most of what varies, so the seeds
of a trial are averaged first. Where there is one trial only, the unit is the seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

Samples = Mapping[tuple[int, int], float]
"""Values of one metric by (trial, seed), fractions in [0, 1]."""
Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
NOISE = 1e-12  # differences of fractions below this are rounding, not results


@attrs.frozen(kw_only=True)
class Estimate:
    """A mean over units, with its t interval cut off at 0 and 1; None for one unit."""

    mean: float
    deviation: float | None  # sample standard deviation over units (n - 1)
    low: float | None
    high: float | None
    units: int
    runs: int
    seed_deviation: float | None  # between the seeds of a trial, pooled; None for one seed a trial


@attrs.frozen(kw_only=True)
class Difference:
    """A method's metric minus the reference's, over the same units.

    `low`, `high` and `p` are of the paired t test; None for one pair, or where every difference
    is the same.
    """

    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    pairs: int
    p: float | None
    p_adjusted: float | None = None  # after Holm's correction over the comparisons made together

    @property
    def identical(self) -> bool:
        """Whether the two never differed."""
        return abs(self.mean) <= NOISE and (self.deviation or 0.0) <= NOISE

    def significant(self, confidence: float = CONFIDENCE) -> bool:
        return self.p_adjusted is not None and self.p_adjusted < 1 - confidence


@attrs.frozen(kw_only=True)
class Ranking:
    """Average ranks over blocks, 1 is best, and how far apart they must be to mean something."""

    average_ranks: tuple[float, ...]  # one a method; ties share their mean rank
    blocks: int
    statistic: float | None  # Friedman's chi-square; None for two methods, or where all tie
    p: float | None
    critical_difference: float  # of average ranks, after Nemenyi
    groups: tuple[tuple[int, ...], ...]  # largest sets of methods of which no two are told apart


def by_unit(samples: Samples, over_trials: bool) -> dict[int, float]:
    """Values by unit: the mean of each trial's seeds, or the value of each seed of one trial."""
    units: dict[int, list[float]] = {}
    for (trial, seed), value in sorted(samples.items()):
        units.setdefault(trial if over_trials else seed, []).append(value)
    return {unit: float(np.mean(values)) for unit, values in units.items()}


def estimate(samples: Samples, over_trials: bool, confidence: float = CONFIDENCE) -> Estimate:
    """Mean, deviation and interval of one method's values of one metric."""
    values = np.array(list(by_unit(samples, over_trials).values()))
    low, high = _t_interval(values, confidence)
    trials: dict[int, list[float]] = {}
    for (trial, _seed), value in samples.items():
        trials.setdefault(trial, []).append(value)
    squares = sum(float(np.var(seeds) * len(seeds)) for seeds in trials.values())
    freedom = len(samples) - len(trials)
    return Estimate(
        mean=float(np.mean(values)),
        deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        low=None if low is None else max(low, 0.0),
        high=None if high is None else min(high, 1.0),
        units=len(values),
        runs=len(samples),
        seed_deviation=math.sqrt(squares / freedom) if freedom else None,
    )


def paired_difference(
    ours: Samples, reference: Samples, over_trials: bool, confidence: float = CONFIDENCE
) -> Difference | None:
    """Compare two methods over the runs that both have; None where nothing is shared.

    A trial counts with the seeds that both have there; where they share none, with the mean of
    each one's own, since the classes of the trial are shared all the same.
    """
    from scipy.stats import ttest_1samp

    common = ours.keys() & reference.keys()
    paired_trials = {trial for trial, _seed in common}
    a, b = (
        by_unit(
            {
                key: value
                for key, value in samples.items()
                if key in common or (over_trials and key[0] not in paired_trials)
            },
            over_trials,
        )
        for samples in (ours, reference)
    )
    differences = np.array([a[unit] - b[unit] for unit in sorted(a.keys() & b.keys())])
    if not len(differences):
        return None
    varies = bool(np.ptp(differences) > NOISE)
    low, high = _t_interval(differences, confidence) if varies else (None, None)
    return Difference(
        mean=float(np.mean(differences)),
        deviation=float(np.std(differences, ddof=1)) if len(differences) > 1 else None,
        low=low,
        high=high,
        pairs=len(differences),
        p=float(ttest_1samp(differences, 0.0).pvalue) if varies else None,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scandinavian Journal of Statistics, 1979), in the same order."""
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for position, index in enumerate(order):
        largest = max(largest, (len(p_values) - position) * p_values[index])
        adjusted[index] = min(1.0, float(largest))
    return adjusted


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """One family of comparisons with `p_adjusted` set; those without a p-value do not count."""
    adjusted = iter(holm([item.p for item in differences if item.p is not None]))
    return [
        attrs.evolve(item, p_adjusted=next(adjusted)) if item.p is not None else item
        for item in differences
    ]


def rank(values: npt.ArrayLike, higher_is_better: bool = True) -> Floats:
    """Ranks of methods, 1 is best; ties share their mean rank. `values` is [..., methods]."""
    from scipy.stats import rankdata

    array = np.round(np.asarray(values, dtype=np.float64), 12)
    ranks: Floats = rankdata(-array if higher_is_better else array, axis=-1)
    return ranks


def rank_methods(
    blocks: npt.ArrayLike, higher_is_better: bool = True, confidence: float = CONFIDENCE
) -> Ranking:
    """Friedman's test over blocks, and Nemenyi's critical difference (Demšar, JMLR 7, 2006).

    `blocks` is [N, k]: a row a block, a column a method, no value missing. Two methods differ where
    their average ranks lie at least `q * sqrt(k (k + 1) / (6 N))` apart, with q the studentised
    range's quantile for k groups and infinite degrees of freedom over the square root of 2.
    """
    from scipy.stats import friedmanchisquare, studentized_range

    values = np.asarray(blocks, dtype=np.float64)
    if values.ndim != 2 or min(values.shape) < 2:
        raise ValueError(f"ranking takes at least two blocks of two methods, not {values.shape}")
    count, methods = values.shape
    average = rank(values, higher_is_better).mean(axis=0)
    statistic = p = math.nan
    if methods > 2 and not np.all(values == values[:, :1]):
        statistic, p = friedmanchisquare(*values.T)
    quantile = studentized_range.ppf(confidence, methods, np.inf) / math.sqrt(2)
    difference = float(quantile * math.sqrt(methods * (methods + 1) / (6 * count)))
    # Neighbours in rank that lie closer than the critical difference.
    order = [int(index) for index in np.argsort(average, kind="stable")]
    groups: list[tuple[int, ...]] = []
    reached = 0
    for start, first in enumerate(order):
        end = start
        while end < methods and average[order[end]] - average[first] < difference:
            end += 1
        if end > reached:  # not contained in the group before
            groups.append(tuple(order[start:end]))
            reached = end
    return Ranking(
        average_ranks=tuple(float(value) for value in average),
        blocks=count,
        statistic=None if math.isnan(statistic) else float(statistic),
        p=None if math.isnan(p) else float(p),
        critical_difference=difference,
        groups=tuple(groups),
    )


def _t_interval(values: Floats, confidence: float) -> tuple[float | None, float | None]:
    from scipy.stats import t

    count = len(values)
    if count < 2:
        return None, None
    half = t.ppf((1 + confidence) / 2, count - 1) * np.std(values, ddof=1) / math.sqrt(count)
    return float(np.mean(values) - half), float(np.mean(values) + half)
