"""Time the metrics against scikit-learn and against a quadratic OSCR, side by side in one run.

    python tests/benchmarks/bench_metrics.py

Only the ratios mean anything on a shared machine: every contender is run in turn, several times,
and the medians are compared. Nothing is asserted.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[2]))  # runs from a checkout that is not installed

from openset_core.metrics import evaluate, open_set_curve


def medians(repeats: int, **not_significantly_worse: Callable[[], object]) -> dict[str, float]:
    """Median seconds of each contender, all of them taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in not_significantly_worse}
    for _ in range(repeats):
        for name, run in not_significantly_worse.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def report(title: str, seconds: dict[str, float]) -> None:
    """Print each median and its ratio to the first contender."""
    print(title)
    ours = next(iter(seconds.values()))
    for name, value in seconds.items():
        print(f"  {name.replace('_', ' '):34s} {1e3 * value:10.2f} ms   x {value / ours:.2f}")


def against_scikit_learn(size: int, decimals: int | None) -> None:
    """All our metrics against the three of scikit-learn, on half known and half unknown scores."""
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(0, 1, size // 2), rng.normal(1, 1, size // 2)
    if decimals is not None:
        known, unknown = known.round(decimals), unknown.round(decimals)
    labels = rng.integers(0, 10, size // 2)
    predicted = np.where(rng.random(size // 2) < 0.9, labels, (labels + 1) % 10)
    is_unknown, pooled = np.repeat([0, 1], size // 2), np.concatenate([known, unknown])

    def ours(compat: str | None = None) -> object:
        return evaluate(
            known,
            unknown,
            known_predicted=predicted,
            known_labels=labels,
            num_classes=10,
            threshold=0.5,
            unknown_predicted=predicted,
            compat=compat,
        )

    def three_of_ours() -> object:
        curve = open_set_curve(known, unknown)
        return curve.auroc(), curve.auin(), curve.auout()

    def scikit_learn() -> object:
        return (
            roc_auc_score(is_unknown, pooled),
            average_precision_score(1 - is_unknown, -pooled),
            average_precision_score(is_unknown, pooled),
        )

    ties = "no ties" if decimals is None else f"rounded to {decimals} decimal"
    seconds = medians(
        7 if size <= 200_000 else 5,
        openset_auroc_auin_auout=three_of_ours,
        openset_evaluate_all_11=ours,
        openset_evaluate_all_11_arpl=lambda: ours("arpl"),
        scikit_learn_auroc_ap_ap=scikit_learn,
    )
    report(f"{size:,} scores, {ties}", seconds)


def quadratic_oscr(
    known: np.ndarray, unknown: np.ndarray, correct: np.ndarray
) -> float:  # what a direct transcription of the definition costs
    """OSCR with a pass over all samples at every threshold."""
    area = fpr = ccr = 0.0
    for threshold in np.unique(np.concatenate([known, unknown])):
        previous_fpr, previous_ccr = fpr, ccr
        fpr = float(np.mean(unknown <= threshold))
        ccr = float(np.mean((known <= threshold) & correct))
        area += (fpr - previous_fpr) * (ccr + previous_ccr) / 2
    return area


def against_quadratic(size: int) -> None:
    """OSCR from one sort against OSCR from its definition."""
    rng = np.random.default_rng(1)
    known, unknown = rng.normal(0, 1, size // 2), rng.normal(1, 1, size // 2)
    correct = rng.random(size // 2) < 0.9
    seconds = medians(
        3,
        openset_oscr=lambda: open_set_curve(known, unknown, correct).oscr(),
        quadratic_oscr=lambda: quadratic_oscr(known, unknown, correct),
    )
    report(f"OSCR of {size:,} samples", seconds)


if __name__ == "__main__":
    for scores in (100_000, 1_000_000):
        against_scikit_learn(scores, decimals=None)
        against_scikit_learn(scores, decimals=1)
    against_quadratic(20_000)
