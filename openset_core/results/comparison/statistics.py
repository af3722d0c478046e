"""Means, intervals, paired differences and ranks: what a comparison rests on.

The unit is the trial, since the trial decides which classes are known and most of what varies:
the seeds of one trial are averaged first, because they are no independent evidence about other
trials. Where there is one trial only, the unit is the seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

Samples = Mapping[tuple[int, int], float]
"""Values of one metric by (trial, seed)."""
Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
NOISE = 1e-12
"""Differences of fractions below this are rounding, not results."""


@attrs.frozen(kw_only=True)
class Estimate:
    """A mean over units, and what it is worth.

    Attributes:
        mean: mean over units.
        deviation: sample standard deviation over units (n - 1); None for one unit.
        low: lower end of the t interval of the mean, cut off at 0; None for one unit.
        high: its upper end, cut off at 1.
        units: number of units.
        runs: number of runs behind them.
        seed_deviation: standard deviation between the seeds of a trial, pooled over trials; None
            where no trial has two seeds.
    """

    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    units: int
    runs: int
    seed_deviation: float | None


@attrs.frozen(kw_only=True)
class Difference:
    """A method's metric minus the reference's, over the same units.

    Attributes:
        mean: mean of the paired differences.
        deviation: their sample standard deviation; None for one pair.
        low: lower end of their t interval; None for one pair, or where every difference is the
            same.
        high: its upper end.
        pairs: number of pairs.
        p: p-value of the paired t test; None for one pair, or where every difference is the same.
        p_adjusted: the same after Holm's correction over the comparisons made together.
    """

    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    pairs: int
    p: float | None
    p_adjusted: float | None = None

    @property
    def identical(self) -> bool:
        """Whether the two never differed."""
        return abs(self.mean) <= NOISE and (self.deviation or 0.0) <= NOISE

    def significant(self, confidence: float = CONFIDENCE) -> bool:
        """Whether the difference stands after Holm's correction."""
        return self.p_adjusted is not None and self.p_adjusted < 1 - confidence


@attrs.frozen(kw_only=True)
class Ranking:
    """Average ranks over blocks, and how far apart they must be to mean something.

    Attributes:
        average_ranks: one a method, 1 is best; ties share their mean rank.
        blocks: number of blocks that were ranked.
        statistic: Friedman's chi-square; None for two methods, or where all tie.
        p: its p-value.
        critical_difference: of average ranks, after Nemenyi.
        groups: largest sets of methods, by position, of which no two are told apart.
    """

    average_ranks: tuple[float, ...]
    blocks: int
    statistic: float | None
    p: float | None
    critical_difference: float
    groups: tuple[tuple[int, ...], ...]


def by_unit(samples: Samples, over_trials: bool) -> dict[int, float]:
    """Values by unit: the mean of each trial's seeds, or the value of each seed.

    Args:
        samples: values by (trial, seed).
        over_trials: whether the unit is the trial; else all samples are of one trial.
    """
    units: dict[int, list[float]] = {}
    for (trial, seed), value in sorted(samples.items()):
        units.setdefault(trial if over_trials else seed, []).append(value)
    return {unit: float(np.mean(values)) for unit, values in units.items()}


def estimate(samples: Samples, over_trials: bool, confidence: float = CONFIDENCE) -> Estimate:
    """Mean, deviation and interval of one method's values of one metric.

    Args:
        samples: values by (trial, seed), at least one; fractions in [0, 1].
        over_trials: whether the unit is the trial.
        confidence: level of the interval, in (0, 1).
    """
    values = np.array(list(by_unit(samples, over_trials).values()))
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    low, high = _t_interval(values, confidence)
    return Estimate(
        mean=float(np.mean(values)),
        deviation=deviation,
        low=None if low is None else max(low, 0.0),
        high=None if high is None else min(high, 1.0),
        units=len(values),
        runs=len(samples),
        seed_deviation=_seed_deviation(samples),
    )


def paired_difference(
    ours: Samples, reference: Samples, over_trials: bool, confidence: float = CONFIDENCE
) -> Difference | None:
    """Compare two methods over the runs that both have.

    A trial counts with the seeds that both have there; where they share none, with the mean of
    each one's own, since the classes of the trial are shared all the same.

    Args:
        ours: values by (trial, seed).
        reference: the other method's.
        over_trials: whether the unit is the trial.
        confidence: level of the interval.

    Returns:
        The difference, with `p` not yet corrected; None where nothing is shared.
    """
    common = ours.keys() & reference.keys()
    both = []
    for samples in (ours, reference):
        shared = {key: samples[key] for key in common}
        if over_trials:
            with_common = {trial for trial, _seed in common}
            alone = {key: v for key, v in samples.items() if key[0] not in with_common}
            shared |= alone
        both.append(by_unit(shared, over_trials))
    units = sorted(both[0].keys() & both[1].keys())
    if not units:
        return None
    differences = np.array([both[0][unit] - both[1][unit] for unit in units])
    varies = bool(np.ptp(differences) > NOISE)
    low, high = _t_interval(differences, confidence) if varies else (None, None)
    return Difference(
        mean=float(np.mean(differences)),
        deviation=float(np.std(differences, ddof=1)) if len(units) > 1 else None,
        low=low,
        high=high,
        pairs=len(units),
        p=_t_test(differences) if varies else None,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scandinavian Journal of Statistics, 1979).

    Args:
        p_values: of the comparisons made together.

    Returns:
        Adjusted p-values in the same order; each may be held against the wanted level by itself,
        and the chance of any false claim stays below that level.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for position, index in enumerate(order):
        largest = max(largest, (len(p_values) - position) * p_values[index])
        adjusted[index] = min(1.0, float(largest))
    return adjusted


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """The differences of one family of comparisons, with `p_adjusted` set.

    Those without a p-value are no tests and do not count.
    """
    tested = [item for item in differences if item.p is not None]
    adjusted = iter(holm([item.p for item in tested if item.p is not None]))
    return [
        attrs.evolve(item, p_adjusted=next(adjusted)) if item.p is not None else item
        for item in differences
    ]


def rank(values: npt.ArrayLike, higher_is_better: bool = True) -> Floats:
    """Ranks of methods, 1 is best; ties share their mean rank.

    Args:
        values: [..., methods].
        higher_is_better: direction of the metric.
    """
    from scipy.stats import rankdata

    array = np.round(np.asarray(values, dtype=np.float64), 12)
    ranks: Floats = rankdata(-array if higher_is_better else array, axis=-1)
    return ranks


def rank_methods(
    blocks: npt.ArrayLike, higher_is_better: bool = True, confidence: float = CONFIDENCE
) -> Ranking:
    """Friedman's test over blocks, and Nemenyi's critical difference (Demšar, JMLR 7, 2006).

    Two methods differ at the chosen level where their average ranks lie at least
    `q * sqrt(k (k + 1) / (6 N))` apart, for k methods and N blocks, with q the studentised range's
    quantile for k groups and infinite degrees of freedom over the square root of 2.

    Args:
        blocks: [N, k] values, one row a block; N and k at least 2, no value missing.
        higher_is_better: direction of the metric.
        confidence: one minus the level of the tests.

    Raises:
        ValueError: fewer than two blocks or methods.
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
    return Ranking(
        average_ranks=tuple(float(value) for value in average),
        blocks=count,
        statistic=None if math.isnan(statistic) else float(statistic),
        p=None if math.isnan(p) else float(p),
        critical_difference=difference,
        groups=_groups(average, difference),
    )


def _groups(average_ranks: Floats, difference: float) -> tuple[tuple[int, ...], ...]:
    """Runs of neighbours in rank that lie closer than the critical difference."""
    order = [int(index) for index in np.argsort(average_ranks, kind="stable")]
    groups: list[tuple[int, ...]] = []
    reached = 0
    for start, first in enumerate(order):
        end = start
        while end < len(order) and average_ranks[order[end]] - average_ranks[first] < difference:
            end += 1
        if end > reached:  # not contained in the group before
            groups.append(tuple(order[start:end]))
            reached = end
    return tuple(groups)


def _seed_deviation(samples: Samples) -> float | None:
    trials: dict[int, list[float]] = {}
    for (trial, _seed), value in samples.items():
        trials.setdefault(trial, []).append(value)
    squares = sum(float(np.var(values) * len(values)) for values in trials.values())
    freedom = sum(len(values) - 1 for values in trials.values())
    return math.sqrt(squares / freedom) if freedom else None


def _t_interval(values: Floats, confidence: float) -> tuple[float | None, float | None]:
    from scipy.stats import t

    count = len(values)
    if count < 2:
        return None, None
    half = t.ppf((1 + confidence) / 2, count - 1) * np.std(values, ddof=1) / math.sqrt(count)
    return float(np.mean(values) - half), float(np.mean(values) + half)


def _t_test(differences: Floats) -> float:
    """Two-sided p-value of the mean difference."""
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(differences, 0.0).pvalue)
