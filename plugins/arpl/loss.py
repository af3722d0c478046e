"""Losses on distances to reciprocal points: far from a class's point means of that class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openset_core import Features, Landmarks, LossContext, RepresentationLoss
from openset_plugins.arpl import ARPLOptions, RPLOptions
from openset_plugins.distances import dot_products, mean_squared_distance

Terms = dict[str, Tensor]


def negative_entropy(logits: Tensor) -> Tensor:
    """sum_k S log S with S = softmax(logits), [B]; through log-softmax, never 0 log 0."""
    log_probabilities = F.log_softmax(logits, dim=1)
    return (log_probabilities.exp() * log_probabilities).sum(dim=1)


class ReciprocalPoints(RepresentationLoss):
    """One reciprocal point a class and a margin R shared by all classes, which starts as given."""

    def __init__(
        self, config: ARPLOptions | RPLOptions, context: LossContext, margin: float
    ) -> None:
        super().__init__()
        self.config = config
        self.label_smoothing = context.label_smoothing
        shape = (context.num_classes, context.vector_dim)
        self.points = nn.Parameter(config.init_std * torch.randn(shape))
        self.margin = nn.Parameter(torch.tensor([margin]))

    def landmarks(self) -> Landmarks:
        """The reciprocal points P^k, which lie where class k is least likely."""
        labels = torch.arange(len(self.points), device=self.points.device)
        return Landmarks(self.points, labels, "reciprocal point")

    def learned_scalars(self) -> dict[str, float]:
        """The margin R of Eq. 11."""
        return {"margin": float(self.margin.detach())}

    def logits(self, features: Features) -> Tensor:
        """d(C(x), P^k), raw, [B, K]: the farther, the more probable (Eq. 6, 7)."""
        vector, kind = features.vector, self.config.distance
        if kind == "dot":
            return -dot_products(vector, self.points)
        distance = mean_squared_distance(vector, self.points)
        return distance if kind == "euclidean" else distance - dot_products(vector, self.points)

    def open_space(self, features: Features) -> Tensor:
        """Minus N H(z, P) of Eq. 17: least where all points are equally far, [B].

        S is a softmax over d_e alone, in the paper and in the released code.
        """
        return negative_entropy(mean_squared_distance(features.vector, self.points))

    def cross_entropy(self, features: Features, labels: Tensor) -> Tensor:
        scaled = self.config.hardness * self.logits(features)
        return F.cross_entropy(scaled, labels, label_smoothing=self.label_smoothing)

    def own_distance(self, features: Features, labels: Tensor) -> Tensor:
        """d_e of each sample to its own class's point, [B]."""
        return (features.vector.float() - self.points[labels].float()).square().mean(dim=1)


class ARPL(ReciprocalPoints):
    """Cross entropy over d = d_e - d_d (Eq. 6-8) and the margin term (Eq. 12, 14)."""

    def __init__(self, config: ARPLOptions, context: LossContext) -> None:
        released = config.preset == "released"
        super().__init__(config, context, margin=0.0 if released else 1.0)
        self.slack = 1.0 if released else 0.0

    def loss(self, features: Features, labels: Tensor) -> Terms:
        """L_c + lambda L_o, Eq. 14."""
        beyond = self.own_distance(features, labels) - self.margin + self.slack
        return {
            "cross_entropy": self.cross_entropy(features, labels),
            "margin": self.config.weight * F.relu(beyond).mean(),
        }


class RPL(ReciprocalPoints):
    """Cross entropy over the distance, d_e by default, and (d_e(own point) - R)^2."""

    def __init__(self, config: RPLOptions, context: LossContext) -> None:
        super().__init__(config, context, margin=0.0)

    def loss(self, features: Features, labels: Tensor) -> Terms:
        off = self.own_distance(features, labels) - self.margin
        return {
            "cross_entropy": self.cross_entropy(features, labels),
            "open_space": self.config.weight * off.square().mean(),
        }
