"""Losses of pytorch-ood on top of a backbone, each with the head that its paper puts it on.

All of it runs in float32: the library's distances are differences of squares, and its centres
are float32 whatever the mixed precision is.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from attrs import asdict
from torch import Tensor, nn

from openset_core import Features, LossContext, RepresentationLoss
from openset_plugins.pytorch_ood import library, tables

Terms = dict[str, Tensor]

OWN_OPTIONS = ("latent_dim", "weight")
OUTLIER = -1
"""Label by which the library knows an outlier."""


class LibraryLoss(RepresentationLoss):
    """Base: the criterion, and the vector in float32.

    Args:
        name: class name in the library.
        config: options.
        context: the backbone's shape and the number of classes.
        dimensions: length of the space in which the criterion measures.
    """

    def __init__(self, name: str, config: Any, context: LossContext, dimensions: int) -> None:
        super().__init__()
        self.name = name
        options = {key: value for key, value in asdict(config).items() if key not in OWN_OPTIONS}
        cls = library.classes("loss")[name]
        given = {
            "n_classes": context.num_classes,
            "n_dim": dimensions,
            "n_embedding": dimensions,
        }
        wanted = inspect.signature(cls).parameters
        given = {key: value for key, value in given.items() if key in wanted}
        self.criterion = cls(**given, **options)

    def project(self, vector: Tensor) -> Tensor:
        """The embedding [B, E] of backbone vectors [B, D], both float32."""
        raise NotImplementedError

    def classify(self, embedding: Tensor) -> Tensor:
        """Class scores [B, K] of embeddings."""
        raise NotImplementedError

    def terms(self, embedding: Tensor, labels: Tensor) -> Terms:
        """Weighted terms of the objective."""
        raise NotImplementedError

    def embedding(self, features: Features) -> Tensor:
        """What distances are measured in, or the vector before the classifier."""
        with torch.autocast(features.vector.device.type, enabled=False):
            return self.project(features.vector.float())

    def logits(self, features: Features) -> Tensor:
        """Class scores [B, K], float32."""
        embedding = self.embedding(features)
        with torch.autocast(embedding.device.type, enabled=False):
            return self.classify(embedding)

    def loss(self, features: Features, labels: Tensor) -> Terms:
        """The library's loss."""
        embedding = self.embedding(features)
        with torch.autocast(embedding.device.type, enabled=False):
            return self.terms(embedding, labels)


class OnLogits(LibraryLoss):
    """A loss of logits and labels, on a linear classifier.

    For a loss that learns from outliers, `open_space` is its term for them, so that a sample
    generator's images take their place; the generator weighs that term.
    """

    def __init__(self, name: str, config: Any, context: LossContext) -> None:
        super().__init__(name, config, context, context.vector_dim)
        self.classifier = nn.Linear(context.vector_dim, context.num_classes)
        self.outliers = tables.LOSSES[name].outliers

    def project(self, vector: Tensor) -> Tensor:
        """The vector itself."""
        return vector

    def classify(self, embedding: Tensor) -> Tensor:
        """Linear class scores."""
        scores: Tensor = self.classifier(embedding)
        return scores

    def measure(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """The criterion's value."""
        value: Tensor = self.criterion(self.classify(embedding), labels)
        return value

    def terms(self, embedding: Tensor, labels: Tensor) -> Terms:
        """One term."""
        return {"loss": self.measure(embedding, labels)}

    def open_space(self, features: Features) -> Tensor:
        """The term for outliers, [B]; by default the negative entropy."""
        if not self.outliers:
            return super().open_space(features)
        embedding = self.embedding(features)
        labels = torch.full((len(embedding),), OUTLIER, device=embedding.device)
        reduction, self.criterion.reduction = self.criterion.reduction, "none"
        try:
            with torch.autocast(embedding.device.type, enabled=False):
                return self.measure(embedding, labels)
        finally:
            self.criterion.reduction = reduction


class OnLogitsAndVector(OnLogits):
    """A loss of logits, features and labels."""

    def measure(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """The criterion's value."""
        value: Tensor = self.criterion(self.classify(embedding), embedding, labels)
        return value


class WithCrossEntropy(LibraryLoss):
    """Class centres beside the cross entropy of a linear classifier, as in the centre loss."""

    def __init__(self, name: str, config: Any, context: LossContext) -> None:
        dimensions = config.latent_dim or context.vector_dim
        super().__init__(name, config, context, dimensions)
        self.weight = config.weight
        self.latent = _latent(context.vector_dim, config.latent_dim)
        self.classifier = nn.Linear(dimensions, context.num_classes)
        self.training_only = ("criterion",)

    def project(self, vector: Tensor) -> Tensor:
        """The latent vector."""
        embedding: Tensor = self.latent(vector)
        return embedding

    def classify(self, embedding: Tensor) -> Tensor:
        """Linear class scores."""
        scores: Tensor = self.classifier(embedding)
        return scores

    def terms(self, embedding: Tensor, labels: Tensor) -> Terms:
        """Cross entropy and the weighted loss."""
        value = self.criterion(self.criterion.distance(embedding), labels)
        return {
            "cross_entropy": F.cross_entropy(self.classify(embedding), labels),
            "loss": self.weight * value,
        }


class OnCentres(LibraryLoss):
    """A loss of distances to learnt class centres; near a centre means of that class."""

    def __init__(
        self, name: str, config: Any, context: LossContext, dimensions: int | None = None
    ) -> None:
        wish = dimensions or config.latent_dim
        super().__init__(name, config, context, wish or context.vector_dim)
        self.latent = _latent(context.vector_dim, wish)

    def project(self, vector: Tensor) -> Tensor:
        """The vector in the space of the centres."""
        embedding: Tensor = self.latent(vector)
        return embedding

    def classify(self, embedding: Tensor) -> Tensor:
        """Negative squared distances to the centres."""
        distances: Tensor = self.criterion.distance(embedding)
        return -distances

    def terms(self, embedding: Tensor, labels: Tensor) -> Terms:
        """One term."""
        return {"loss": self.criterion(-self.classify(embedding), labels)}


class OnAnchors(OnCentres):
    """A loss with fixed anchors on the axes, in a space of K dimensions."""

    def __init__(self, name: str, config: Any, context: LossContext) -> None:
        super().__init__(name, config, context, context.num_classes)


class OnEmbedding(LibraryLoss):
    """A loss of embeddings that keeps running class centres.

    Dimensions are normalised over the batch, as in the II loss's paper (Sec. 3.2): without a
    scale the loss has no lower bound.
    """

    def __init__(self, name: str, config: Any, context: LossContext) -> None:
        super().__init__(name, config, context, config.latent_dim)
        self.latent = nn.Sequential(
            nn.Linear(context.vector_dim, config.latent_dim),
            nn.BatchNorm1d(config.latent_dim, affine=False),
        )

    def project(self, vector: Tensor) -> Tensor:
        """The normalised latent vector."""
        embedding: Tensor = self.latent(vector)
        return embedding

    def classify(self, embedding: Tensor) -> Tensor:
        """Negative squared distances to the running centres."""
        distances: Tensor = self.criterion.distance(embedding)
        return -distances

    def terms(self, embedding: Tensor, labels: Tensor) -> Terms:
        """One term; zero for a batch of one class, which has no distance between classes."""
        value = self.criterion(embedding, labels)
        for buffer in self.criterion.buffers():
            buffer.detach_()  # the library leaves every step's graph hanging on its centres
        several = labels.ne(labels[0]).any()
        return {"loss": torch.where(several, value, 0.0 * embedding.sum())}


def _latent(vector_dim: int, latent_dim: int | None) -> nn.Module:
    return nn.Identity() if latent_dim is None else nn.Linear(vector_dim, latent_dim)


HEADS = (OnLogits, OnLogitsAndVector, WithCrossEntropy, OnCentres, OnAnchors, OnEmbedding)


def build(name: str, config: Any, context: LossContext) -> LibraryLoss:
    """Build the loss `pytorch-ood:NAME` for a backbone."""
    heads: dict[str, Any] = {head.__name__: head for head in HEADS}
    made: LibraryLoss = heads[tables.LOSSES[name].head](name, config, context)
    return made
