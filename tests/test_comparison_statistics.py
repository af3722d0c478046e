"""What a comparison's numbers are, against independent computations and published tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from openset_core.results.comparison.statistics import (
    Difference,
    corrected,
    estimate,
    holm,
    paired_difference,
    rank,
    rank_methods,
)

T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}
"""Quantiles of Student's t as printed in tables."""


def samples(rows):
    """Values by (trial, seed) from one row of seeds a trial."""
    return {(t, s): value for t, row in enumerate(rows) for s, value in enumerate(row)}


# --- one method -----------------------------------------------------------------------------------


def test_trials_are_the_units_and_their_seeds_are_averaged_first():
    rows = np.array([[0.90, 0.92, 0.94], [0.80, 0.81, 0.82], [0.70, 0.76, 0.70]])
    found = estimate(samples(rows), over_trials=True)
    means = rows.mean(axis=1)
    assert found.mean == pytest.approx(means.mean())
    spread = math.sqrt(((means - means.mean()) ** 2).sum() / 2)
    assert found.deviation == pytest.approx(spread)
    half = T_975[2] * spread / math.sqrt(3)
    assert found.low == pytest.approx(means.mean() - half, abs=1e-4)
    assert found.high == pytest.approx(min(means.mean() + half, 1.0), abs=1e-4)
    assert (found.units, found.runs) == (3, 9)
    within = ((rows - means[:, None]) ** 2).sum() / 6
    assert found.seed_deviation == pytest.approx(math.sqrt(within))


def test_a_single_trial_varies_over_its_seeds():
    found = estimate(samples([[0.5, 0.6, 0.9]]), over_trials=False)
    assert found.mean == pytest.approx(2 / 3)
    assert found.deviation == pytest.approx(np.std([0.5, 0.6, 0.9], ddof=1))
    assert found.deviation == pytest.approx(found.seed_deviation)
    assert found.units == found.runs == 3


def test_one_run_has_neither_deviation_nor_interval():
    found = estimate({(2, 0): 0.5}, over_trials=True)
    assert (found.mean, found.deviation, found.low, found.seed_deviation) == (0.5, None, None, None)


def test_an_unequal_number_of_seeds_gives_each_trial_one_voice():
    found = estimate({(0, 0): 0.2, (0, 1): 0.4, (1, 0): 0.9}, over_trials=True)
    assert found.mean == pytest.approx((0.3 + 0.9) / 2)


def test_intervals_do_not_leave_what_a_fraction_can_be():
    found = estimate(samples([[0.2], [0.9]]), over_trials=True)
    assert (found.low, found.high) == (0.0, 1.0)


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for values in rng.normal(0.5, 0.05, size=(400, 4)):
        found = estimate(samples(values[:, None]), over_trials=True, confidence=0.8)
        hits += found.low <= 0.5 <= found.high
    assert 0.74 < hits / 400 < 0.86


# --- two methods ----------------------------------------------------------------------------------


def test_paired_difference_by_hand():
    ours, theirs = [0.91, 0.85, 0.97, 0.80], [0.90, 0.80, 0.95, 0.79]
    found = paired_difference(samples(np.c_[ours]), samples(np.c_[theirs]), over_trials=True)
    differences = np.subtract(ours, theirs)
    assert found.mean == pytest.approx(differences.mean())
    half = T_975[3] * differences.std(ddof=1) / 2
    assert found.low == pytest.approx(differences.mean() - half, abs=1e-5)
    assert found.high == pytest.approx(differences.mean() + half, abs=1e-5)
    assert found.p == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    assert found.pairs == 4


def test_pairing_sees_what_two_means_alone_do_not():
    trials = np.array([[0.5], [0.7], [0.9], [0.6]])
    found = paired_difference(
        samples(trials + 0.01), samples(trials + np.array([[0], [1e-4], [0], [0]])), True
    )
    assert found.p < 0.001
    assert stats.ttest_ind(trials + 0.01, trials).pvalue > 0.5


def test_only_what_both_have_is_compared():
    ours = {(0, 0): 0.5, (0, 1): 0.7, (1, 0): 0.9, (3, 0): 0.1}
    theirs = {(0, 1): 0.6, (1, 0): 0.7, (2, 0): 0.0}
    found = paired_difference(ours, theirs, over_trials=True)
    assert found.pairs == 2
    assert found.mean == pytest.approx((0.1 + 0.2) / 2)


def test_a_trial_with_other_seeds_is_the_same_trial():
    found = paired_difference({(0, 0): 0.5, (1, 0): 0.7}, {(0, 5): 0.4, (1, 5): 0.5}, True)
    assert found.mean == pytest.approx(0.15)
    alone = paired_difference({(0, 0): 0.5}, {(0, 5): 0.4}, over_trials=False)
    assert alone is None


def test_one_pair_says_nothing_about_chance():
    found = paired_difference({(0, 0): 0.5}, {(0, 0): 0.4}, over_trials=True)
    assert (found.pairs, found.p, found.low, found.deviation) == (1, None, None, None)
    assert not found.significant()
    assert not found.identical


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_differences_that_are_all_the_same_are_not_tested(shift):
    theirs = samples([[0.1], [0.3], [0.7]])
    ours = {key: value + shift for key, value in theirs.items()}  # 0.3 + 0.1 - 0.3 is not 0.1
    found = paired_difference(ours, theirs, over_trials=True)
    assert found.p is None
    assert found.identical is (shift == 0)


# --- several methods ------------------------------------------------------------------------------


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_keeps_false_claims_rare():
    rng = np.random.default_rng(1)
    claims = sum(min(holm(list(row))) < 0.1 for row in rng.uniform(size=(1000, 6)))
    assert claims / 1000 < 0.13


def test_what_is_no_test_does_not_count_as_one():
    def difference(p):
        return Difference(mean=0.1, deviation=None, low=None, high=None, pairs=3, p=p)

    found = corrected([difference(0.02), difference(None), difference(0.04)])
    assert [item.p_adjusted for item in found] == [pytest.approx(0.04), None, pytest.approx(0.04)]
    assert [item.significant() for item in found] == [True, False, True]


def test_ranks_and_ties():
    assert rank([0.9, 0.5, 0.9, 0.1]).tolist() == [1.5, 3, 1.5, 4]
    assert rank([0.9, 0.5, 0.7], higher_is_better=False).tolist() == [3, 1, 2]
    assert rank([0.1 + 0.2, 0.3]).tolist() == [1.5, 1.5]  # the same number, but for rounding


def friedman(blocks):
    """Friedman's chi-square without ties, from its definition."""
    ranks = np.argsort(np.argsort(-blocks, axis=1), axis=1) + 1
    count, methods = blocks.shape
    sums = ranks.sum(axis=0)
    return 12 / (count * methods * (methods + 1)) * (sums**2).sum() - 3 * count * (methods + 1)


def test_friedman_and_average_ranks():
    blocks = np.random.default_rng(3).normal(size=(12, 4)) + np.array([0, 0.5, 1, 2])
    found = rank_methods(blocks)
    assert found.statistic == pytest.approx(friedman(blocks))
    assert found.p == pytest.approx(stats.chi2.sf(friedman(blocks), 3))
    ranks = np.argsort(np.argsort(-blocks, axis=1), axis=1) + 1
    assert found.average_ranks == pytest.approx(tuple(ranks.mean(axis=0)))
    assert found.blocks == 12


@pytest.mark.parametrize(("methods", "quantile"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_difference_by_the_published_table(methods, quantile):
    # Demšar, JMLR 7 (2006), Table 5 (a).
    blocks = np.random.default_rng(0).normal(size=(14, methods))
    expected = quantile * math.sqrt(methods * (methods + 1) / (6 * 14))
    assert rank_methods(blocks).critical_difference == pytest.approx(expected, rel=5e-4)


def test_groups_are_what_is_not_told_apart():
    # Method 2 always first, 0 and 1 in turn, 3 always last.
    blocks = np.array([[0.6, 0.5, 0.9, 0.1], [0.5, 0.6, 0.9, 0.1]] * 10)
    found = rank_methods(blocks)
    assert found.average_ranks == (2.5, 2.5, 1.0, 4.0)
    assert found.groups == ((2,), (0, 1), (3,))
    few = rank_methods(blocks[:4])
    assert few.groups == ((2, 0, 1), (0, 1, 3))


def test_two_methods_or_ties_alone_have_no_friedman_test():
    two = rank_methods([[0.5, 0.6], [0.5, 0.7]])
    assert (two.statistic, two.p, two.average_ranks) == (None, None, (2.0, 1.0))
    ties = rank_methods(np.ones((4, 3)))
    assert (ties.p, ties.average_ranks, ties.groups) == (None, (2.0, 2.0, 2.0), ((0, 1, 2),))


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (0, 2)])
def test_too_little_to_rank(shape):
    with pytest.raises(ValueError, match="at least two blocks of two methods"):
        rank_methods(np.zeros(shape))
