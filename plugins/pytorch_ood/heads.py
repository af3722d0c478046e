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
OUTLIER = -1  # the label by which the library knows an outlier


class LibraryLoss(RepresentationLoss):
    """Base: the criterion, and a latent layer whose output is the embedding."""

    space = "vector"  # in which the criterion measures: the backbone's, "latent" or "classes" (K)
    linear = False  # whether a linear classifier makes the logits

    def __init__(self, name: str, config: Any, context: LossContext) -> None:
        super().__init__()
        self.name = name
        dimensions = context.num_classes if self.space == "classes" else None
        if self.space == "latent":
            dimensions = config.latent_dim
        self.dimensions = dimensions or context.vector_dim
        options = {key: value for key, value in asdict(config).items() if key not in OWN_OPTIONS}
        cls = library.classes("loss")[name]
        given = {
            "n_classes": context.num_classes,
            "n_dim": self.dimensions,
            "n_embedding": self.dimensions,
        }
        wanted = inspect.signature(cls).parameters
        given = {key: value for key, value in given.items() if key in wanted}
        self.criterion = cls(**given, **options)
        self.latent: nn.Module = (
            nn.Linear(context.vector_dim, dimensions) if dimensions else nn.Identity()
        )
        if self.linear:
            self.classifier = nn.Linear(self.dimensions, context.num_classes)

    def classify(self, embedding: Tensor) -> Tensor:
        """Class scores [B, K]; without a classifier negative squared distances to centres."""
        if self.linear:
            return self.classifier(embedding)  # type: ignore[no-any-return]
        return -self.criterion.distance(embedding)  # type: ignore[no-any-return]

    def terms(self, embedding: Tensor, labels: Tensor) -> Terms:
        """Weighted terms of the objective, by default the criterion of the distances."""
        return {"loss": self.criterion(-self.classify(embedding), labels)}

    def embedding(self, features: Features) -> Tensor:
        with torch.autocast(features.vector.device.type, enabled=False):
            return self.latent(features.vector.float())  # type: ignore[no-any-return]

    def logits(self, features: Features) -> Tensor:
        embedding = self.embedding(features)
        with torch.autocast(embedding.device.type, enabled=False):
            return self.classify(embedding)

    def loss(self, features: Features, labels: Tensor) -> Terms:
        embedding = self.embedding(features)
        with torch.autocast(embedding.device.type, enabled=False):
            return self.terms(embedding, labels)


class OnLogits(LibraryLoss):
    """A loss of logits and labels, on a linear classifier.

    For a loss that learns from outliers, `open_space` is its term for them, so that a sample
    generator's images take their place; the generator weighs that term.
    """

    linear = True

    def measure(self, embedding: Tensor, labels: Tensor) -> Tensor:
        return self.criterion(self.classify(embedding), labels)  # type: ignore[no-any-return]

    def terms(self, embedding: Tensor, labels: Tensor) -> Terms:
        return {"loss": self.measure(embedding, labels)}

    def open_space(self, features: Features) -> Tensor:
        """The term for outliers, [B]; by default the negative entropy."""
        if not tables.LOSSES[self.name].outliers:
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
        return self.criterion(  # type: ignore[no-any-return]
            self.classify(embedding), embedding, labels
        )


class WithCrossEntropy(LibraryLoss):
    """Class centres beside the cross entropy of a linear classifier, as in the centre loss."""

    space = "latent"
    linear = True
    training_only = ("criterion",)

    def __init__(self, name: str, config: Any, context: LossContext) -> None:
        super().__init__(name, config, context)
        self.weight = config.weight

    def terms(self, embedding: Tensor, labels: Tensor) -> Terms:
        value = self.criterion(self.criterion.distance(embedding), labels)
        return {
            "cross_entropy": F.cross_entropy(self.classify(embedding), labels),
            "loss": self.weight * value,
        }


class OnCentres(LibraryLoss):
    """A loss of distances to learned class centres; near a centre means of that class."""

    space = "latent"


class OnAnchors(LibraryLoss):
    """A loss with fixed anchors on the axes, in a space of K dimensions."""

    space = "classes"


class OnEmbedding(LibraryLoss):
    """A loss of embeddings that keeps running class centres.

    Dimensions are normalised over the batch, as in the II loss's paper (Sec. 3.2): without a
    scale the loss has no lower bound.
    """

    space = "latent"

    def __init__(self, name: str, config: Any, context: LossContext) -> None:
        super().__init__(name, config, context)
        norm = nn.BatchNorm1d(config.latent_dim, affine=False)
        self.latent = nn.Sequential(self.latent, norm)

    def terms(self, embedding: Tensor, labels: Tensor) -> Terms:
        """One term; zero for a batch of one class, which has no distance between classes."""
        value = self.criterion(embedding, labels)
        for buffer in self.criterion.buffers():
            buffer.detach_()  # the library leaves every step's graph hanging on its centres
        several = labels.ne(labels[0]).any()
        return {"loss": torch.where(several, value, 0.0 * embedding.sum())}


HEADS = (OnLogits, OnLogitsAndVector, WithCrossEntropy, OnCentres, OnAnchors, OnEmbedding)


def build(name: str, config: Any, context: LossContext) -> LibraryLoss:
    (head,) = (head for head in HEADS if head.__name__ == tables.LOSSES[name].head)
    return head(name, config, context)
