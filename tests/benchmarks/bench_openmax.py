"""Time fitting and scoring OpenMax against plain loops over classes and samples.

    python tests/benchmarks/bench_openmax.py

Float32 logits of 50,000 training and 20,000 test samples in chunks of 4096, median of 3 runs.
The loops are what a direct transcription does: SciPy's Weibull fit class by class, the test
samples one by one. They are timed on a part of the work and scaled up, which the output says. On
a shared machine only the ratios mean anything. Nothing is asserted.
"""

from __future__ import annotations

import math
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from openset_plugins.openmax import OpenMaxOptions
from openset_plugins.openmax.scorer import OpenMax
from openset_plugins.openmax.weibull import fit_tails

TRAIN, TEST, CHUNK = 50_000, 20_000, 4096
LOOPED_CLASSES, LOOPED_SAMPLES = 20, 300


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Median wall time of `work`."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_megabytes(work: Callable[[], object]) -> float:
    """Most memory that `work` holds at once beyond what was there; an extra, untimed run."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (peak - before) / 1e6


def make_logits(
    classes: int, n: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Gaussian logits, the label's raised by 6, and the labels."""
    labels = rng.integers(0, classes, n)
    logits = rng.standard_normal((n, classes), dtype=np.float32)
    logits[np.arange(n), labels] += 6
    return logits, labels


class Rows:
    """Training samples in chunks."""

    def __init__(self, logits: NDArray[Any], labels: NDArray[Any]) -> None:
        self.table = {"logits": logits, "label": labels}
        self.rows, self.num_classes = logits.shape

    def chunks(self, *names: str) -> Iterator[dict[str, NDArray[Any]]]:
        """The named arrays."""
        for start in range(0, self.rows, CHUNK):
            yield {name: self.table[name][start : start + CHUNK] for name in names}


def score_one_by_one(fit: OpenMax, logits: NDArray[Any]) -> list[float]:
    """Unknown probabilities, a sample and a class at a time."""
    means, shape, log_scale, offset = (
        fit.state()[name] for name in ("means", "shape", "log_scale", "offset")
    )
    scale, shift, scores = np.exp(log_scale), fit.config.shift, []
    alpha = min(fit.config.alpha, len(means))
    for x in logits.astype(np.float64):
        v, unknown = x.copy(), 0.0
        top = np.argsort(-x)[:alpha]
        lift = max(0.0, -float(x[top].mean()))
        v += lift
        for r, k in enumerate(top, start=1):
            mean = means[k]
            cosine = x @ mean / (np.linalg.norm(x) * np.linalg.norm(mean))
            distance = np.linalg.norm(x - mean) / 200 + 1 - cosine
            y = (distance - offset[k] + shift) / shift
            w = 1 - math.exp(-((y / scale[k]) ** shape[k])) if y > 0 else 0.0
            moved = max(0.0, float(v[k])) * w * (alpha + 1 - r) / alpha
            v[k] -= moved
            unknown += moved
        top_logit = max(float(v.max()), unknown)
        own = math.exp(unknown - top_logit)
        scores.append(own / (own + float(np.exp(v - top_logit).sum())))
    return scores


def compare(classes: int) -> None:
    """Prints one block of figures for `classes` classes."""
    rng = np.random.default_rng(0)
    train, labels = make_logits(classes, TRAIN, rng)
    test, _ = make_logits(classes, TEST, rng)

    def fit() -> OpenMax:
        scorer = OpenMax(OpenMaxOptions(score="probability"))
        scorer.fit(Rows(train, labels))
        return scorer

    fitted = fit()

    def score() -> NDArray[np.float64]:
        tables = ({"logits": test[i : i + CHUNK]} for i in range(0, TEST, CHUNK))
        return np.concatenate([fitted.score(table) for table in tables])

    fit_seconds, score_seconds = seconds(fit), seconds(score)
    print(f"K={classes}: {TRAIN} training and {TEST} test rows, float32")
    print(f"  fit    {fit_seconds:9.3f} s   peak +{peak_megabytes(fit):6.1f} MB above the inputs")
    print(f"  score  {score_seconds:9.3f} s   peak +{peak_megabytes(score):6.1f} MB")

    looped = min(classes, LOOPED_CLASSES)
    tails = rng.weibull(1.5, size=(classes, 20))
    counts = np.full(classes, 20)
    batched = seconds(lambda: fit_tails(tails, 1.0, counts))
    values = tails - tails.min(axis=1, keepdims=True) + 1.0
    loop = seconds(lambda: [stats.weibull_min.fit(y, floc=0) for y in values[:looped]], 1)
    loop *= classes / looped
    print(
        f"  Weibull fits alone {batched:9.5f} s; SciPy class by class {loop:9.3f} s, "
        f"x {loop / batched:.0f} ({scaled(looped, classes, 'classes')})"
    )

    part = score_one_by_one(fitted, test[:LOOPED_SAMPLES])
    apart = np.abs(np.array(part) - score()[:LOOPED_SAMPLES]).max()
    loop = seconds(lambda: score_one_by_one(fitted, test[:LOOPED_SAMPLES]), 1)
    loop *= TEST / LOOPED_SAMPLES
    print(
        f"  scores sample by sample {loop:9.3f} s, x {loop / score_seconds:.0f} "
        f"({scaled(LOOPED_SAMPLES, TEST, 'samples')}; scores differ by {apart:.0e} at most)"
    )


def scaled(part: int, whole: int, what: str) -> str:
    """Says whether a time was measured or scaled up."""
    return f"all {what} timed" if part == whole else f"{part} of {whole} {what} timed, scaled up"


if __name__ == "__main__":
    for classes in (10, 100, 1000):
        compare(classes)
