"""Scorers that measure how far an embedding lies from the training embeddings."""

from __future__ import annotations

import math

from attrs import frozen
from attrs.validators import ge, gt, le, lt

from openset_core import UnknownScorerSpec, hookimpl, option


@frozen(kw_only=True)
class KnnOptions:
    k: int = option(
        50,
        "which nearest training sample's distance counts; the default is the paper's for the "
        "50,000 samples of CIFAR-10; more than there are samples means the farthest of them",
        equation="k",
        validator=ge(1),
    )
    normalize: bool = option(
        True, "divide embeddings by their length first, as the paper does; the zero vector stays"
    )
    fraction: float = option(
        1.0,
        "share of the training samples that is kept, drawn with a fixed seed; with fewer samples "
        "the best k is smaller",
        equation="alpha",
        validator=[gt(0.0), le(1.0)],
    )


@frozen(kw_only=True)
class MahalanobisOptions:
    covariance: str = option(
        "shared",
        "shared: one covariance of all classes, as in the paper; class: each its own, which takes "
        "as many matrices and more samples of a class than the embedding is wide",
        equation="Sigma, Eq. 1",
        choices=("shared", "class"),
    )
    regularization: str = option(
        "ledoit-wolf",
        "ledoit-wolf: shrink the covariance towards a sphere by the amount that Ledoit and Wolf "
        "estimate, next to nothing for many samples; ridge: add `ridge` to its diagonal",
        choices=("ledoit-wolf", "ridge"),
    )
    ridge: float = option(
        0.0,
        "with regularization=ridge, what is added to each variance, as a share of the mean "
        "variance; 0 is the paper's empirical covariance",
        validator=[ge(0.0), lt(math.inf)],
    )


@frozen(kw_only=True)
class PrototypeDistanceOptions:
    metric: str = option(
        "euclidean",
        "distance to a class mean: euclidean; squared, the same order; cosine, 1 - cos",
        choices=("euclidean", "squared", "cosine"),
    )


@hookimpl
def openset_unknown_scorers() -> list[UnknownScorerSpec]:
    return [
        UnknownScorerSpec(
            name="knn",
            summary="distance to the k-th nearest training embedding",
            factory="openset_plugins.feature_scorers.knn:NearestNeighbour",
            config=KnnOptions,
            needs=("embedding",),
            reference="Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, "
            "ICML 2022",
        ),
        UnknownScorerSpec(
            name="mahalanobis",
            summary="squared Mahalanobis distance of the embedding to the nearest class mean",
            factory="openset_plugins.feature_scorers.mahalanobis:Mahalanobis",
            config=MahalanobisOptions,
            needs=("embedding",),
            reference="Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution "
            "Samples and Adversarial Attacks, NeurIPS 2018, Eq. 2",
        ),
        UnknownScorerSpec(
            name="prototype-distance",
            summary="distance of the embedding to the nearest class mean of the training samples",
            factory="openset_plugins.feature_scorers.prototypes:PrototypeDistance",
            config=PrototypeDistanceOptions,
            needs=("embedding",),
            reference="Mensink et al., Distance-Based Image Classification: Generalizing to New "
            "Classes at Near-Zero Cost, TPAMI 2013 (nearest class mean)",
        ),
    ]
