"""Mahalanobis distance to the nearest class (Lee et al., NeurIPS 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from openset_core import FeatureSource
from openset_plugins.feature_scorers import MahalanobisOptions
from openset_plugins.feature_scorers.statistics import (
    EmbeddingScorer,
    Floats,
    Labels,
    by_class,
    class_means,
    labelled_blocks,
    squared_distances,
)

# Least variance in any direction, as a share of the largest. Embeddings come in float32; below a
# hundred-thousandth of the largest deviation there is little but their rounding.
_LEAST_VARIANCE = 1e-10
# A class of two samples deviates from its mean as +a and -a: nothing tells how sure a is.
_LEAST_SAMPLES = 3


class Mahalanobis(EmbeddingScorer):
    """min_c (z - mu_c)' Sigma^-1 (z - mu_c), Eq. 2 with the sign turned.

    mu_c and Sigma (Eq. 1, divided by the number of samples) are those of all training samples.
    The paper goes on to perturb the input and to weigh several layers by a regression on samples
    of unknowns; neither is done here. With covariance=class each class has its own Sigma_c, and
    no determinant is added.

    Where Sigma is singular after regularisation, as it may be for fewer samples than dimensions
    or a constant dimension, variances below 1e-10 of the largest are raised to that: a sample
    that leaves the span of the training samples counts as far away. (The authors' code takes the
    pseudo-inverse, which does not see it.) Where no sample differs from its class mean, Sigma is
    the identity. With covariance=class, a class of fewer than three samples or of equal ones has
    the shared Sigma.

    The state holds `means` [C, E] and `counts` [C] of the classes that have samples, `whitening`
    [1 or C, E, E] and `shrinkage` [1 or C]; all float64, `counts` int64.

    """

    name = "mahalanobis"
    axes = {"means": 2, "counts": 1, "whitening": 3, "shrinkage": 1}  # noqa: RUF012

    def __init__(self, config: MahalanobisOptions) -> None:
        super().__init__()
        self.config = config

    def fit(self, source: FeatureSource) -> None:
        """Class means in a first pass over the training samples, covariances in a second."""
        means, counts = class_means(source)
        own = self.config.covariance == "class"
        spread = _Spread(len(means) if own else 1, means.shape[1])
        for rows, labels in labelled_blocks(source):
            spread.add(rows - means[labels], labels if own else np.zeros_like(labels))
        if spread.counts.sum() != counts.sum():
            raise ValueError("the source gave other training samples when asked a second time")
        present = np.flatnonzero(counts)
        shared = self._factor(*spread.of(slice(None)))
        factors = [shared]
        if own:
            factors = []
            for group in present:
                scatter, fourth, count = spread.of([group])
                enough = count >= _LEAST_SAMPLES and scatter.any()
                factors.append(self._factor(scatter, fourth, count) if enough else shared)
        whitening, shrinkage = zip(*factors, strict=True)
        self._state = {
            "means": means[present],
            "counts": counts[present],
            "whitening": np.stack(whitening),
            "shrinkage": np.array(shrinkage, dtype=np.float64),
        }

    def _factor(self, scatter: Floats, fourth: float, count: int) -> tuple[Floats, float]:
        """W with W W' = Sigma^-1, [E, E], and how much was added to Sigma.

        That is the share of the sphere for ledoit-wolf, the share of the mean variance for ridge.
        """
        covariance = scatter / count
        variances, directions = np.linalg.eigh(covariance)
        if self.config.regularization == "ledoit-wolf":
            amount = ledoit_wolf(covariance, fourth / count, count)
            variances = (1 - amount) * variances + amount * variances.mean()
        else:
            amount = self.config.ridge
            variances = variances + amount * np.trace(covariance) / len(covariance)
        largest = variances.max()
        if largest <= 0:
            return np.eye(len(covariance)), amount
        return directions / np.sqrt(np.maximum(variances, _LEAST_VARIANCE * largest)), amount

    def learned(self) -> Mapping[str, npt.NDArray[Any]]:
        """Means and whitening factors; a shared factor is applied to the means already."""
        means, whitening = self._state["means"], self._state["whitening"]
        if self.config.covariance == "class":
            return {"means": means, "whitening": whitening}
        # About the middle of the means, so that a common offset takes no digits.
        middle = means.mean(axis=0)
        factor = whitening[0]
        return {"middle": middle, "whitened": (means - middle) @ factor, "whitening": factor}

    def row_elements(self, width: int) -> int:
        classes = len(self._state["means"])
        return classes * width if self.config.covariance == "class" else max(classes, width)

    def formula(self, xp: Any, table: Mapping[str, Any], learned: Mapping[str, Any]) -> Any:
        rows, whitening = table["embedding"], learned["whitening"]
        if self.config.covariance == "class":
            deviations = xp.matmul(rows[None] - learned["means"][:, None], whitening)  # [C, n, E]
            return xp.amin(xp.sum(xp.square(deviations), axis=2), axis=0)
        whitened = xp.matmul(rows - learned["middle"], whitening)
        return xp.amin(squared_distances(xp, whitened, learned["whitened"]), axis=1)


class _Spread:
    """Running sums over deviations [b, E] from class means, for groups of samples."""

    def __init__(self, groups: int, width: int) -> None:
        self.scatter = np.zeros((groups, width, width))  # sum of d d'
        self.fourth = np.zeros(groups)  # sum of |d|^4
        self.counts: Labels = np.zeros(groups, dtype=np.int64)

    def add(self, deviations: Floats, groups: Labels) -> None:
        for group, own in by_class(deviations, groups):
            self.scatter[group] += own.T @ own
            self.fourth[group] += np.square(np.square(own).sum(axis=1)).sum()
            self.counts[group] += len(own)

    def of(self, groups: Any) -> tuple[Floats, float, int]:
        """Scatter [E, E], fourth powers and number of samples of some groups together."""
        return (
            self.scatter[groups].sum(axis=0),
            float(self.fourth[groups].sum()),
            int(self.counts[groups].sum()),
        )


def ledoit_wolf(covariance: Floats, fourth: float, count: int) -> float:
    """How far to shrink a covariance towards a sphere of the same mean variance, in [0, 1].

    Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, JMVA
    2004, section 3.2, for deviations from a known mean. scikit-learn's function of the name gives
    the same and wants all samples at once; these sums, of which `fourth` is the mean of |d|^4, can
    be taken in passing.

    """
    square = float(np.square(covariance).sum())
    width = len(covariance)
    sphere = covariance - np.eye(width) * (np.trace(covariance) / width)
    distance = float(np.square(sphere).sum())  # d^2, of S from the sphere
    error = min(max(0.0, (fourth - square) / count), distance)  # b^2, of S from the truth
    return error / distance if error > 0 else 0.0
