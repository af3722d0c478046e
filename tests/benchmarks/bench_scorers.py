"""Time fitting and scoring every scorer that comes with openset.

    python tests/benchmarks/bench_scorers.py [SCORER ...]

Float32 features of 50,000 training and 10,000 test samples, E=128, K=10, in the feature store's
chunks of 8192 rows; the test rows from the same classes. Each scorer runs in a process of its own,
once, after a small run that loads its libraries; memory is by how much the process's high-water
mark then rises above libraries and features. On a shared machine times vary. Nothing is asserted.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

TRAIN, TEST, WIDTH, CLASSES, CHUNK = 50_000, 10_000, 128, 10, 8192
CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("msp", {}),
    ("entropy", {}),
    ("max-logit", {}),
    ("energy", {}),
    ("openmax", {}),
    ("knn", {}),
    ("knn", {"k": 1000}),
    ("knn", {"fraction": 0.1}),
    ("mahalanobis", {}),
    ("mahalanobis", {"covariance": "class"}),
    ("prototype-distance", {}),
    ("prototype-distance", {"metric": "cosine"}),
)


@attrs.frozen
class Features:
    """Training or test features in memory."""

    arrays: Mapping[str, NDArray[Any]]
    num_classes: int = CLASSES

    @property
    def rows(self) -> int:
        """Number of samples."""
        return len(self.arrays["label"])

    def chunks(self, *names: str) -> Iterator[dict[str, NDArray[Any]]]:
        """The named arrays, as the feature store cuts them."""
        for start in range(0, self.rows, CHUNK):
            yield {name: self.arrays[name][start : start + CHUNK] for name in names}


def make_features(rows: int, rng: np.random.Generator) -> Features:
    """Gaussian classes in the embedding, and logits with the label's raised by 6."""
    means = 2 * np.random.default_rng(0).standard_normal((CLASSES, WIDTH), dtype=np.float32)
    label = rng.integers(0, CLASSES, rows)
    embedding = rng.standard_normal((rows, WIDTH), dtype=np.float32)
    for start in range(0, rows, CHUNK):  # no temporary as large as the features
        embedding[start : start + CHUNK] += means[label[start : start + CHUNK]]
    logits = rng.standard_normal((rows, CLASSES), dtype=np.float32)
    logits[np.arange(rows), label] += 6
    return Features({"embedding": embedding, "logits": logits, "label": label})


def peak_megabytes() -> float:
    """The most memory this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def run(name: str, options: dict[str, Any], train: Features, test: Features) -> tuple[float, float]:
    """Seconds of fitting and of scoring."""
    from openset_core.specs import load_factory
    from openset_plugins import feature_scorers, logit_scorers, openmax

    modules = (feature_scorers, logit_scorers, openmax)
    specs = [spec for module in modules for spec in module.openset_unknown_scorers()]
    (spec,) = (spec for spec in specs if spec.name == name)
    scorer: Any = load_factory(spec.factory)(spec.config(**options))
    start = time.perf_counter()
    scorer.fit(train)
    middle = time.perf_counter()
    for chunk in test.chunks(*scorer.reads):
        scorer.score(chunk)
    return middle - start, time.perf_counter() - middle


def measure(name: str, options: dict[str, Any]) -> None:
    """Print one line of figures."""
    rng = np.random.default_rng(1)
    run(name, options, make_features(200, rng), make_features(50, rng))
    train, test = make_features(TRAIN, rng), make_features(TEST, rng)
    before = peak_megabytes()
    fitting, scoring = run(name, options, train, test)
    grown = peak_megabytes() - before
    words = " ".join([name, *(f"{key}={value}" for key, value in options.items())])
    print(f"{words:34} fit {fitting:7.3f} s  score {scoring:7.3f} s  peak +{grown:6.1f} MB")


def main(wanted: list[str]) -> None:
    """Measure the wanted scorers, all when none is named."""
    print(f"{TRAIN} training and {TEST} test rows, E={WIDTH}, K={CLASSES}, float32")
    spawn = multiprocessing.get_context("spawn")
    for name, options in CASES:
        if wanted and name not in wanted:
            continue
        process = spawn.Process(target=measure, args=(name, options))
        process.start()
        process.join()


if __name__ == "__main__":
    main(sys.argv[1:])
