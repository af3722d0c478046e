"""Prototype learning: near a class's prototype means of that class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openset_core import Features, Landmarks, LossContext, RepresentationLoss
from openset_plugins.distances import mean_squared_distance
from openset_plugins.gcpl import GCPLOptions


class GCPL(RepresentationLoss):
    """Cross entropy over -d_e and half the mean squared distance to the own prototype.

    d_e is the squared distance over the dimension, as in the ARPL comparison.

    """

    def __init__(self, config: GCPLOptions, context: LossContext) -> None:
        super().__init__()
        self.config = config
        self.label_smoothing = context.label_smoothing
        shape = (context.num_classes, context.vector_dim)
        self.prototypes = nn.Parameter(config.init_std * torch.randn(shape))

    def landmarks(self) -> Landmarks:
        labels = torch.arange(len(self.prototypes), device=self.prototypes.device)
        return Landmarks(self.prototypes, labels, "prototype")

    def logits(self, features: Features) -> Tensor:
        """-d_e to every prototype, raw, [B, K], float32."""
        return -mean_squared_distance(features.vector, self.prototypes)

    def loss(self, features: Features, labels: Tensor) -> dict[str, Tensor]:
        scaled = self.config.hardness * self.logits(features)
        own = self.prototypes[labels].float()
        # The released code takes the mean over samples and dimensions, then half of it.
        pull = 0.5 * F.mse_loss(features.vector.float(), own)
        return {
            "cross_entropy": F.cross_entropy(scaled, labels, label_smoothing=self.label_smoothing),
            "prototype": self.config.weight * pull,
        }
