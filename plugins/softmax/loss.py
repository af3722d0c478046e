"""Linear classifier with cross entropy."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from openset_core import Features, LossContext, RepresentationLoss
from openset_plugins.softmax import SoftmaxOptions


class Softmax(RepresentationLoss):
    """Cross entropy over a linear classifier, with an optional linear latent layer before it."""

    def __init__(self, config: SoftmaxOptions, context: LossContext) -> None:
        super().__init__()
        vector_dim, num_classes = context.vector_dim, context.num_classes
        own = config.label_smoothing
        self.label_smoothing = context.label_smoothing if own is None else own
        latent_dim = config.latent_dim or vector_dim
        self.latent = (
            nn.Linear(vector_dim, latent_dim) if config.latent_dim is not None else nn.Identity()
        )
        self.classifier = nn.Linear(latent_dim, num_classes, bias=config.bias)

    def embedding(self, features: Features) -> Tensor:
        """The latent vector, or the backbone's own where there is no latent layer."""
        return self.latent(features.vector)  # type: ignore[no-any-return]

    def logits(self, features: Features) -> Tensor:
        return self.classifier(self.embedding(features))  # type: ignore[no-any-return]

    def loss(self, features: Features, labels: Tensor) -> dict[str, Tensor]:
        logits, smoothing = self.logits(features), self.label_smoothing
        return {"cross_entropy": F.cross_entropy(logits, labels, label_smoothing=smoothing)}
